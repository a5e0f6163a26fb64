"""A first stage by itself: its two ways, what its training says of it, and that others begin with it."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from zoo import registry
from zoo.families.first_stage import FirstStageConfig
from zoo.family import Checkpoint
from zoo.training.first_stage import FirstStageRun
from zoo.training.loop import Batch

FAMILY = registry.family("first_stage")
(ENTRY,) = FAMILY.checkpoints


def tiny() -> Checkpoint:
    return dataclasses.replace(ENTRY, config=FirstStageConfig(channels=(8, 8)))


def tiny_run() -> FirstStageRun:
    torch.manual_seed(0)
    return FirstStageRun(tiny(), torch.device("cpu"))


def batch(count: int = 8) -> Batch:
    return Batch(torch.rand(count, 3, 32, 32) * 2.0 - 1.0)


def test_noise_becomes_pictures_and_pictures_come_back_in_their_size() -> None:
    module = FAMILY.build(tiny().config)
    images = module(torch.randn(2, 1, 4, 16, 16))
    assert (images.shape, images.dtype) == ((2, 64, 64, 3), torch.uint8)
    pixels = batch(2).images
    assert module.reconstruct(pixels).shape == pixels.shape


def test_it_learns_and_says_how_well() -> None:
    run, pictures = tiny_run(), Batch((torch.rand(16, 3, 1, 1) * 2.0 - 1.0).expand(-1, -1, 32, 32))
    first = run.step(pictures, 0.0)["reconstruction"]
    for _ in range(60):
        last = run.step(pictures, 0.1)["reconstruction"]
    assert last < 0.8 * first
    said = run.evaluate(run.model, pictures)  # type: ignore[arg-type]
    assert set(said) == {"reconstruction_l1", "reconstruction_psnr_db", "worst_percent_psnr_db"}
    assert said["worst_percent_psnr_db"] <= said["reconstruction_psnr_db"]


@pytest.mark.parametrize(("progress", "moves"), [(0.4, False), (0.6, True)])
def test_the_adversarial_loss_begins_half_way(progress: float, moves: bool) -> None:
    run = tiny_run()
    before = {key: value.clone() for key, value in run.objective.discriminator.state_dict().items()}
    run.step(batch(), progress)
    after = run.objective.discriminator.state_dict()
    assert any(not torch.equal(value, before[key]) for key, value in after.items()) is moves
