"""The GAN: its penalty is the gradient's, its images do not depend on each other, and one step moves both players."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from zoo import registry
from zoo.families.gan import GANConfig, Generator
from zoo.networks.discriminator import ProjectionDiscriminator, batch_deviation
from zoo.training.adversarial import AdversarialObjective, gradient_penalty

TINY = GANConfig(channels=(8, 8, 8), discriminator=(8, 8), latent=8, embedding=4, style=8, num_classes=3, groups=2)


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(64))

    def forward(self, pixels: torch.Tensor, class_ids: torch.Tensor) -> torch.Tensor:
        return pixels.flatten(1) @ self.weight + class_ids


def test_the_penalty_of_a_linear_discriminator_is_its_weights_square() -> None:
    torch.manual_seed(0)
    discriminator = Linear()
    penalty = gradient_penalty(discriminator, torch.randn(8, 1, 8, 8), torch.arange(8))
    penalty.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(penalty, discriminator.weight.square().sum())
    torch.testing.assert_close(discriminator.weight.grad, 2.0 * discriminator.weight.detach())


def test_deviation_is_that_of_each_group() -> None:
    features = torch.randn(16, 3, 4, 4)
    plane = batch_deviation(features)[:, 3]
    for first in range(2):  # images first, first + 2, ... are a group of eight
        expected = features[first::2].std(dim=0, unbiased=False).mean()
        torch.testing.assert_close(plane[first::2], expected.expand(8, 4, 4))


def test_an_image_depends_on_its_own_noise_and_class_alone() -> None:
    torch.manual_seed(0)
    generator = Generator(TINY).eval().requires_grad_(False)
    noise, class_ids = torch.randn(6, 1, 8), torch.tensor([0, 1, 2, 0, 1, 2])[:, None]
    together = generator(noise, class_ids)
    alone = torch.cat([generator(noise[row : row + 1], class_ids[row : row + 1]) for row in range(6)])
    assert together.shape == (6, 16, 16, 1)
    assert (together.int() - alone.int()).abs().max() <= 1
    assert (together != generator(noise, (class_ids + 1) % 3)).any()


def test_logits_depend_on_the_class() -> None:
    torch.manual_seed(0)
    discriminator = ProjectionDiscriminator(1, (8, 8), 16, 3).requires_grad_(False)
    pixels = torch.randn(8, 1, 16, 16)
    logits = [discriminator(pixels, torch.full((8,), class_id)) for class_id in range(3)]
    assert not torch.allclose(logits[0], logits[1])
    assert not torch.allclose(logits[1], logits[2])


@pytest.mark.parametrize("r1_interval", [1, 10**9])
def test_a_step_moves_both_players(r1_interval: int) -> None:
    entry = registry.family("gan").checkpoints[0]
    assert entry.recipe is not None
    recipe = dataclasses.replace(entry.recipe, options={"r1": 1.0, "r1_interval": r1_interval})
    spec = dataclasses.replace(entry.spec, latent_shape=(8,), image_shape=(16, 16, 1), num_classes=3)
    torch.manual_seed(0)
    objective = AdversarialObjective(
        dataclasses.replace(entry, spec=spec, config=TINY, recipe=recipe), torch.device("cpu")
    )
    before = {
        name: torch.cat([p.detach().clone().flatten() for p in module.parameters()])
        for name, module in objective.modules.items()
    }
    losses = objective.step(torch.rand(16, 1, 16, 16) * 2 - 1, torch.arange(16) % 3, 0.0)
    assert all(bool(torch.isfinite(value)) for value in losses.values())
    for name, module in objective.modules.items():
        after = torch.cat([p.detach().flatten() for p in module.parameters()])
        assert float((after != before[name]).float().mean()) > 0.5
