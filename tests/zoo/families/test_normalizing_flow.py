"""The flow: exactly invertible, with the Jacobian it claims, and it learns."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from zoo import registry
from zoo.families.normalizing_flow import Glow, GlowConfig, GlowGenerator, Mixing
from zoo.images import bin_centres, dequantize, to_images
from zoo.training.likelihood import LikelihoodObjective, bits_per_dim, initialize, standard_normal
from zoo.training.loop import Batch

TINY = GlowConfig(size=8, widths=(8, 8), steps=2, num_classes=3)


def scrambled(config: GlowConfig) -> Glow:
    """A flow none of whose parts is at its initial value, which for many is the identity."""
    torch.manual_seed(0)
    flow = Glow(config)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.03 * torch.randn_like(parameter))
    return flow.requires_grad_(False)


def batch(config: GlowConfig, count: int) -> tuple[Tensor, Tensor]:
    pixels = torch.randint(0, 256, (count, config.image_channels, config.size, config.size)) / 127.5 - 1.0
    return dequantize(pixels, torch.rand_like(pixels)), torch.arange(count) % config.num_classes


@pytest.mark.parametrize("config", [TINY, GlowConfig(), GlowConfig(image_channels=3, size=16, steps=1)])
def test_inverse_undoes_the_flow(config: GlowConfig) -> None:
    flow = scrambled(config)
    x, class_ids = batch(config, 3)
    latents, _ = flow(x, class_ids)
    assert latents.shape == (3, config.latents)
    assert (latents.reshape(x.shape) - x).abs().max() > 0.1
    torch.testing.assert_close(GlowGenerator(flow).inverse(latents, class_ids), x, atol=1e-4, rtol=0)


def test_log_determinant_is_that_of_the_jacobian() -> None:
    flow = scrambled(TINY).double()
    x, class_ids = batch(TINY, 2)
    jacobian = torch.autograd.functional.jacobian(lambda v: flow(v, class_ids)[0], x.double())
    expected = [torch.linalg.slogdet(jacobian[i, :, i].reshape(TINY.latents, -1)).logabsdet for i in range(2)]
    torch.testing.assert_close(flow(x.double(), class_ids)[1], torch.stack(expected), atol=1e-9, rtol=0)


def test_a_uniform_density_costs_eight_bits() -> None:
    uniform = torch.tensor([-64 * math.log(2.0)])  # 1 / 2 for each of 64 dimensions, over [-1, 1)
    torch.testing.assert_close(bits_per_dim(uniform, 64), torch.tensor([8.0]))


def test_standard_normal_is_the_density_of_independent_normals() -> None:
    latents = torch.randn(4, 5)
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(latents).sum(1)
    torch.testing.assert_close(standard_normal(latents), expected)


@pytest.mark.parametrize("uniform", [0.001, 0.5, 0.999])
def test_dequantized_values_return_to_their_grey_level(uniform: float) -> None:
    pixels = (torch.arange(256.0) / 127.5 - 1.0).reshape(1, 1, 16, 16)
    x = dequantize(pixels, torch.full_like(pixels, uniform))
    assert x.min() >= -1.0
    assert x.max() < 1.0
    assert to_images(bin_centres(x)).flatten().tolist() == list(range(256))


def test_first_batch_normalizes_every_mixing() -> None:
    flow = scrambled(TINY)
    x, class_ids = batch(TINY, 30)
    initialize(flow, x, class_ids)
    seen: list[Tensor] = []
    mixings = [module for module in flow.modules() if isinstance(module, Mixing)]
    for mixing in mixings:
        mixing.register_forward_hook(lambda module, args, output: seen.append(output[0]))
    flow(x, class_ids)
    assert len(seen) == 4
    for mixing, output in zip(mixings, seen, strict=True):
        plain = mixing.affine()[0] / mixing.log_scale.exp()  # the rotation alone
        normalized = torch.einsum("ij,bjhw->bihw", plain.inverse(), output)
        deviation, mean = torch.std_mean(normalized, dim=(0, 2, 3))
        torch.testing.assert_close(deviation, torch.ones_like(deviation), atol=1e-4, rtol=0)
        torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-4, rtol=0)


def test_an_image_depends_on_its_own_noise_and_class_only() -> None:
    flow = scrambled(TINY)
    generator = GlowGenerator(flow)
    noise = torch.randn(3, 1, TINY.latents).repeat(2, 1, 1)
    class_ids = torch.tensor([0, 1, 2, 1, 1, 2])[:, None]
    images = generator(noise, class_ids)
    assert images.dtype == torch.uint8
    assert images.shape == (6, 8, 8, 1)
    alike = [bool((images[i] == images[i + 3]).all()) for i in range(3)]
    assert alike == [False, True, True]


def test_temperature_scales_the_latents() -> None:
    flow = scrambled(TINY)
    noise, class_ids = torch.randn(2, 1, TINY.latents), torch.zeros(2, 1, dtype=torch.int64)
    generator = GlowGenerator(flow)
    expected = to_images(bin_centres(generator.inverse(TINY.temperature * noise[:, 0], class_ids[:, 0])))
    assert (generator(noise, class_ids) == expected).all()
    assert (
        generator(noise, class_ids) != to_images(bin_centres(generator.inverse(noise[:, 0], class_ids[:, 0])))
    ).any()


def test_training_lowers_the_bits_of_unseen_images() -> None:
    torch.manual_seed(0)
    objective = LikelihoodObjective(
        dataclasses.replace(registry.family("normalizing_flow").checkpoints[0], config=TINY), torch.device("cpu")
    )
    class_ids = torch.arange(96) % 3
    pixels = (class_ids * 64.0).reshape(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous() / 127.5 - 1.0
    batch = Batch(pixels, {"class_id": class_ids})
    for step in range(40):
        objective.step(batch[:32], step / 40)
    before, after = 8.0, objective.evaluate(objective.model, batch[32:])["bits_per_dim"]
    assert after < before - 3.0
