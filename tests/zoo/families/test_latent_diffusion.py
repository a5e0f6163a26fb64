"""Latent diffusion: standard latents, two phases that touch only their own part, a decoder that ends in pixels."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from zoo import registry
from zoo.families.latent_diffusion import LatentDiffusion, LatentDiffusionConfig
from zoo.networks.unet import UNetConfig
from zoo.training.latent_diffusion import LatentDiffusionObjective
from zoo.training.loop import Batch

TINY = LatentDiffusionConfig(
    channels=(8, 8), denoiser=UNetConfig(image_channels=4, patch=1, channels=(8, 16), embedding=8)
)


def tiny_objective() -> LatentDiffusionObjective:
    torch.manual_seed(0)
    entry = registry.family("latent_diffusion").checkpoints[0]
    return LatentDiffusionObjective(dataclasses.replace(entry, config=TINY), torch.device("cpu"))


def tiny_batch() -> Batch:
    return Batch(torch.rand(16, 1, 16, 16) * 2.0 - 1.0, {"class_id": torch.arange(16) % 10})


def changed(objective: LatentDiffusionObjective, progress: float) -> set[str]:
    """The parts of the model that one step changes."""
    before = {key: value.clone() for key, value in objective.model.state_dict().items()}
    objective.step(tiny_batch(), progress)
    after = objective.model.state_dict()
    return {key.split(".")[0] for key, value in after.items() if not torch.equal(value, before[key])}


@pytest.mark.parametrize(("progress", "part"), [(0.0, "first_stage"), (0.29, "first_stage"), (0.31, "denoiser")])
def test_a_phase_trains_its_own_part(progress: float, part: str) -> None:
    assert changed(tiny_objective(), progress) == {part}


def test_latents_become_standard() -> None:
    objective, pixels = tiny_objective(), tiny_batch().images
    raw_latents, _ = objective.first_stage.model.posterior(pixels)
    for _ in range(500):
        objective.first_stage.track(raw_latents)
    latents = objective.model.encode(pixels)  # type: ignore[operator]
    assert latents.shape == (16, 4, 4, 4)
    torch.testing.assert_close(latents.mean((0, 2, 3)), torch.zeros(4), atol=0.05, rtol=0.0)
    torch.testing.assert_close(latents.std((0, 2, 3)), torch.ones(4), atol=0.05, rtol=0.0)


def test_the_decoder_undoes_the_normalization() -> None:
    torch.manual_seed(0)
    first_stage = LatentDiffusion(TINY).first_stage.requires_grad_(False)
    raw = torch.randn(2, 4, 4, 4)
    expected = first_stage(raw)
    first_stage.latent_mean.copy_(torch.randn(4, 1, 1))
    first_stage.latent_scale.copy_(torch.rand(4, 1, 1) + 0.5)
    torch.testing.assert_close(first_stage(first_stage.normalize(raw)), expected)


def test_the_first_stage_learns_to_reconstruct() -> None:
    objective = tiny_objective()
    pixels = tiny_batch().images
    batch = Batch(torch.nn.functional.interpolate(pixels[:, :, ::8, ::8], scale_factor=8.0))  # flat patches of 8x8
    before = objective.evaluate(objective.model, batch)
    for _ in range(40):
        objective.step(batch, 0.0)
    after = objective.evaluate(objective.model, batch)
    assert after["reconstruction_psnr_db"] > before["reconstruction_psnr_db"] + 2.0
