"""The autoencoders: their Gaussians are those of the codes, masking hides what it says, and denoising restores."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from zoo.families.autoencoder import FAMILY, Autoencoder, AutoencoderConfig
from zoo.training.loop import Batch
from zoo.training.reconstruction import BLACK, ReconstructionObjective, mask, psnr_db

TINY = AutoencoderConfig(size=8, channels=(8, 8), latent=3, num_classes=2, components=2)


def tiny_objective(name: str) -> ReconstructionObjective:
    torch.manual_seed(0)
    entry = next(each for each in FAMILY.checkpoints if each.name == name)
    return ReconstructionObjective(dataclasses.replace(entry, config=TINY), torch.device("cpu"))


def flat_pictures(count: int) -> tuple[Tensor, Tensor]:
    """Each of one grey level, so a few pixels tell all others."""
    torch.manual_seed(1)
    return (torch.rand(count, 1, 1, 1) * 2.0 - 1.0).expand(-1, 1, 8, 8).contiguous(), torch.arange(count) % 2


def test_the_generator_decodes_what_it_draws_of_the_codes() -> None:
    torch.manual_seed(0)
    model = Autoencoder(TINY).requires_grad_(False)
    model.codes.fit(torch.randn(200, 3), torch.arange(200) % 2)
    noise, class_ids = torch.randn(4, 1, 4), torch.tensor([[0], [1], [1], [0]])
    expected = model.decode(model.codes(noise, class_ids[:, 0])).clamp(-1.0, 1.0) * 127.5 + 127.5
    images = model(noise, class_ids).permute(0, 3, 1, 2)
    torch.testing.assert_close(images.float(), expected.round(), atol=1.0, rtol=0.0)


def test_a_mask_blackens_its_share_and_leaves_the_rest() -> None:
    torch.manual_seed(0)
    pixels = torch.rand(20, 1, 32, 32)
    masked = mask(pixels, 0.3)
    hidden = masked == BLACK
    assert float(hidden.float().mean()) == pytest.approx(0.3, abs=0.02)
    assert torch.equal(masked[~hidden], pixels[~hidden])


def test_the_error_in_decibels() -> None:
    pixels = torch.zeros(2, 1, 4, 4)
    assert psnr_db(pixels, pixels + 0.2) == pytest.approx(20.0, abs=1e-4)  # a tenth of the range


def test_denoising_restores_what_plain_training_does_not() -> None:
    found = {}
    for name in ("ae", "dae"):
        objective, (pixels, _) = tiny_objective(name), flat_pictures(64)
        for step in range(150):
            torch.manual_seed(step)
            objective.step(Batch(pixels), step / 150)
        found[name] = objective.evaluate(objective.model, Batch(pixels))
    assert found["ae"]["reconstruction_psnr_db"] > 15.0
    assert found["dae"]["restoration_psnr_db"] > found["ae"]["restoration_psnr_db"] + 3.0


@pytest.mark.parametrize("name", ["ae", "dae"])
def test_the_end_of_training_fits_the_codes_of_what_the_encoder_was_shown(name: str) -> None:
    objective, (pixels, class_ids) = tiny_objective(name), flat_pictures(400)
    objective.conclude(objective.model, Batch(pixels, {"class_id": class_ids}))
    torch.manual_seed(0)
    shown = pixels if name == "ae" else mask(pixels, 0.5)
    codes = objective.model.encode(shown).detach()
    mixture = objective.model.codes
    weights = mixture.bounds[1].diff(prepend=torch.zeros(1))
    torch.testing.assert_close(weights @ mixture.mean[1], codes[class_ids == 1].mean(0), atol=1e-3, rtol=1e-3)
