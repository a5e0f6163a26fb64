"""The progressive GAN: a stage begins as the one before it, a block fades in, and its weights move alike."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from zoo import registry, shelf
from zoo.families.progressive_gan import Equalized, PixelNorm, ProgressiveConfig, ProgressiveGAN, enlarged, shrunk
from zoo.family import Checkpoint, class_conditional
from zoo.training.loop import Batch
from zoo.training.progressive_growing import GrowingObjective, faded

SMALL, LARGE = ProgressiveConfig((8, 8), latent=6), ProgressiveConfig((8, 8, 4), latent=6)
CPU = torch.device("cpu")


@pytest.fixture
def stages() -> tuple[ProgressiveGAN, ProgressiveGAN]:
    """A stage of 8x8 pixels, and one of 16x16 that has just grown from it."""
    torch.manual_seed(0)
    before, after = ProgressiveGAN(SMALL), ProgressiveGAN(LARGE)
    after.grow_from(before)
    return before.requires_grad_(False), after.requires_grad_(False)


def test_a_grown_generator_begins_with_the_images_of_the_stage_before(
    stages: tuple[ProgressiveGAN, ProgressiveGAN],
) -> None:
    before, after = (stage.generator for stage in stages)
    latents = torch.randn(4, 6)
    torch.testing.assert_close(after.pixels(latents, fade=0.0), enlarged(before.pixels(latents)))
    assert not torch.allclose(after.pixels(latents), after.pixels(latents, fade=0.0))


def test_a_grown_discriminator_begins_with_the_logits_of_the_stage_before(
    stages: tuple[ProgressiveGAN, ProgressiveGAN],
) -> None:
    before, after = (stage.discriminator for stage in stages)
    pixels = torch.randn(8, 1, 16, 16)
    torch.testing.assert_close(after(pixels, 0.0), before(shrunk(pixels, 8)))
    assert not torch.allclose(after(pixels), after(pixels, 0.0))


def test_half_faded_is_half_way_between() -> None:
    torch.manual_seed(0)
    generator = ProgressiveGAN(LARGE).generator.requires_grad_(False)
    latents = torch.randn(3, 6)
    ends = [generator.pixels(latents, fade) for fade in (0.0, 1.0)]
    torch.testing.assert_close(generator.pixels(latents, 0.5), 0.5 * (ends[0] + ends[1]))


def test_real_pictures_fade_in_alike() -> None:
    pixels = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(shrunk(faded(pixels, 0.3), 4), shrunk(pixels, 4))
    assert torch.equal(faded(pixels, 1.0), pixels)
    assert torch.equal(faded(pixels, 0.0), enlarged(shrunk(pixels, 4)))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(300, 200), (64, 300)),
        (nn.Conv2d(48, 64, 3, padding=1), (8, 48, 16, 16)),
        (nn.ConvTranspose2d(48, 64, 4, stride=2, padding=1), (8, 48, 16, 16)),
    ],
)
def test_an_equalized_layer_keeps_the_variance_and_has_unit_weights(
    layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    equalized = Equalized(layer, gain=1.0).requires_grad_(False)
    assert float(layer.weight.std()) == pytest.approx(1.0, abs=0.02)
    output = equalized(torch.randn(shape))
    inner = output[..., 1:-1, 1:-1] if output.ndim == 4 else output  # a border sees padding
    assert float(inner.std()) == pytest.approx(1.0, abs=0.1)


def test_pixel_norm_makes_every_pixel_one_long() -> None:
    normalized = PixelNorm()(5.0 * torch.randn(2, 16, 3, 3))
    torch.testing.assert_close(normalized.square().mean(1), torch.ones(2, 3, 3), rtol=1e-4, atol=1e-4)


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    """A stage of 8x8 pixels, published, with the recipe of the zoo's."""
    monkeypatch.setenv(shelf.TREE_VARIABLE, str(tmp_path))
    last = registry.family("progressive_gan").checkpoints[1]
    spec = class_conditional(last.name, "progressive_gan", (6,), (8, 8, 1), 0)
    found = dataclasses.replace(last, spec=spec, config=SMALL, teacher=None)
    torch.manual_seed(0)
    shelf.save(found, ProgressiveGAN(SMALL).state_dict(), {})
    return found


def test_training_grows_from_the_teacher_and_fades_with_progress(
    entry: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "checkpoint", lambda name: {entry.name: entry}[name])
    spec = dataclasses.replace(entry.spec, name="larger", image_shape=(16, 16, 1))
    objective = GrowingObjective(dataclasses.replace(entry, spec=spec, config=LARGE, teacher=entry.name), CPU)
    published = registry.load_module(entry).state_dict()
    for key, value in published.items():
        torch.testing.assert_close(objective.model.state_dict()[key], value)
    before = {key: value.clone() for key, value in objective.model.state_dict().items()}
    pixels = torch.rand(16, 1, 32, 32) * 2 - 1
    for progress in (0.0, 0.25, 1.0):
        losses = objective.step(Batch(pixels), progress)
        assert all(bool(torch.isfinite(value)) for value in losses.values())
    moved = {key for key, value in objective.model.state_dict().items() if not torch.equal(value, before[key])}
    still = {key.rsplit(".", 2)[0] for key in set(before) - moved if not key.endswith("bias")}
    assert still == {"generator.to_pixels.0", "discriminator.from_pixels.0.0"}, "only what no image passes stays"


def test_a_stage_can_be_played_in_pairs() -> None:
    from benchmarks.studies import growing
    from zoo.training.relativistic_growing import objective

    torch.manual_seed(0)
    stage = objective(growing.in_pairs(), CPU)
    before = {name: each.detach().clone() for name, each in stage.model.named_parameters()}
    losses = stage.step(Batch(torch.randn(16, 1, 32, 32), {}), 0.25)
    assert all(torch.isfinite(loss) for loss in losses.values())
    moved = {name.split(".")[0] for name, each in stage.model.named_parameters() if not torch.equal(each, before[name])}
    assert moved == {"generator", "discriminator"}
