"""The GAN: its penalty is the gradient's, its images do not depend on each other, and one step moves both players."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zoo import registry
from zoo.families.gan import GANConfig, GANGenerator
from zoo.family import class_conditional
from zoo.networks.discriminator import ProjectionDiscriminator, batch_deviation
from zoo.training.adversarial import LOSSES, AdversarialObjective, gradient_penalty, normalize_spectrally
from zoo.training.loop import Batch

TINY = GANConfig(channels=(8, 8, 8), discriminator=(8, 8), latent=8, embedding=4, style=8, num_classes=3, groups=2)
PLAIN = dataclasses.replace(TINY, style=0, num_classes=0)


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
    generator = GANGenerator(TINY).eval().requires_grad_(False)
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


def test_without_classes_nothing_asks_for_one() -> None:
    torch.manual_seed(0)
    generator, discriminator = GANGenerator(PLAIN).eval(), ProjectionDiscriminator(1, (8, 8), 16, 0)
    assert not any("class_embedding" in key for key in {**generator.state_dict(), **discriminator.state_dict()})
    noise = torch.randn(8, 1, 8)
    together, alone = generator(noise), torch.cat([generator(row) for row in noise.split(1)])
    assert (together.int() - alone.int()).abs().max() <= 1, "in evaluation batch normalization looks at no batch"
    assert discriminator(generator.pixels(noise[:, 0])).shape == (8,)


def test_a_spectrally_normalized_discriminator_stretches_nothing() -> None:
    """After enough steps of the power method the largest singular value of every layer's matrix is one."""
    torch.manual_seed(0)
    discriminator = ProjectionDiscriminator(1, (8, 8), 16, 3)
    normalize_spectrally(discriminator)
    for _ in range(30):
        discriminator(torch.randn(8, 1, 16, 16), torch.arange(8) % 3)
    layers = [module for module in discriminator.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len(layers) == 7
    for layer in layers:
        largest = torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2)
        torch.testing.assert_close(largest, torch.tensor(1.0), rtol=0.02, atol=0.0)


@pytest.mark.parametrize("name", LOSSES)
def test_both_players_gain_at_the_other_s_cost(name: str) -> None:
    """Logits of generated images: what raises them helps the generator and hurts the discriminator."""
    discriminator_loss, generator_loss = LOSSES[name]
    real, low, high = torch.tensor([0.5]), torch.tensor([-1.0]), torch.tensor([1.0])
    assert generator_loss(high) < generator_loss(low)
    assert discriminator_loss(real, high) > discriminator_loss(real, low)
    guessing = F.binary_cross_entropy_with_logits(torch.zeros(2), torch.tensor([1.0, 0.0])) * 2.0
    chance = torch.tensor(2.0) if name == "hinge" else guessing  # a margin of 1 is missed on either side
    torch.testing.assert_close(discriminator_loss(torch.zeros(1), torch.zeros(1)), chance)


def test_the_minimax_loss_saturates_where_the_discriminator_is_sure() -> None:
    """The reason that Goodfellow et al. give for the other loss: its gradient is the same, but where it matters."""
    slopes = {}
    for name in ("minimax", "non_saturating"):
        logits = torch.tensor([-8.0], requires_grad=True)
        LOSSES[name][1](logits).backward()  # type: ignore[no-untyped-call]
        assert logits.grad is not None
        slopes[name] = float(logits.grad)
    assert abs(slopes["minimax"]) < 1e-3
    assert slopes["non_saturating"] == pytest.approx(-1.0, abs=1e-3)


@pytest.mark.parametrize("config", [TINY, PLAIN])
@pytest.mark.parametrize(
    "options", [{"r1": 1.0, "r1_interval": 1}, {}, {"r1": 1.0, "r1_interval": 1, "spectral": True}]
)
def test_a_step_moves_both_players(options: dict[str, float], config: GANConfig) -> None:
    entry = registry.family("gan").checkpoints[0]
    assert entry.recipe is not None
    recipe = dataclasses.replace(entry.recipe, options=options)
    spec = class_conditional("tiny", "gan", (8,), (16, 16, 1), config.num_classes)
    torch.manual_seed(0)
    objective = AdversarialObjective(
        dataclasses.replace(entry, spec=spec, config=config, recipe=recipe), torch.device("cpu")
    )
    before = {
        name: torch.cat([p.detach().clone().flatten() for p in module.parameters()])
        for name, module in objective.modules.items()
    }
    losses = objective.step(Batch(torch.rand(16, 1, 16, 16) * 2 - 1, {"class_id": torch.arange(16) % 3}), 0.0)
    assert all(bool(torch.isfinite(value)) for value in losses.values())
    for name, module in objective.modules.items():
        after = torch.cat([p.detach().flatten() for p in module.parameters()])
        assert float((after != before[name]).float().mean()) > 0.5
