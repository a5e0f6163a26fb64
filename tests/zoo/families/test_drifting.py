"""Drifting models: no drift between equal distributions, to real pictures elsewhere, and a generator follows it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from zoo import registry
from zoo.training import drifting
from zoo.training.loop import Batch

TEMPERATURES = (0.05, 0.2)


def test_a_picture_drifts_to_the_real_ones_of_its_class_only() -> None:
    torch.manual_seed(0)
    made, class_ids = torch.zeros(1, 8, 2) + 0.1 * torch.randn(1, 8, 2), torch.arange(8) % 2
    real = made + torch.where(class_ids[:, None] == 0, 3.0, -3.0)
    found = drifting.drift(made, real, class_ids[:, None] == class_ids, 1.0)
    assert (found[0, class_ids == 0] > 0).all()
    assert (found[0, class_ids == 1] < 0).all()
    assert float(found.square().mean()) == pytest.approx(1.0, abs=1e-4)


def test_pictures_of_one_distribution_do_not_drift_together() -> None:
    """Of unit size, but with no common direction: what is left is the noise of a sample."""
    torch.manual_seed(0)
    same = torch.ones(400, 400, dtype=torch.bool)
    away = drifting.drift(torch.randn(1, 400, 2), torch.randn(1, 400, 2) + 2.0, same, 0.5)
    level = drifting.drift(torch.randn(1, 400, 2), torch.randn(1, 400, 2), same, 0.5)
    assert away.mean() > 0.5
    assert level.mean().abs() < 0.3


def test_the_loss_leads_points_to_the_data() -> None:
    """Points themselves as what is learned: a heap at one side becomes the two clusters of the data."""
    torch.manual_seed(0)
    points = (0.3 * torch.randn(1, 64, 2) - 4.0).requires_grad_(True)
    optimizer = torch.optim.Adam([points], 0.1)
    same = torch.ones(64, 64, dtype=torch.bool)
    for _ in range(300):
        real = 0.2 * torch.randn(1, 64, 2) + torch.where(torch.rand(1, 64, 1) < 0.5, 1.0, -1.0)
        optimizer.zero_grad()
        drifting.drifting_loss(points, real, same, TEMPERATURES).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    sides = points[0].sign()
    assert (sides[:, 0] == sides[:, 1]).float().mean() > 0.9
    assert 0.3 < float((sides[:, 0] > 0).float().mean()) < 0.7
    assert float((points.detach().abs() - 1.0).abs().mean()) < 0.4


@pytest.mark.parametrize("features", ["maps", "pixels"])
def test_a_step_moves_the_generator_alone(features: str) -> None:
    entry = registry.checkpoint("drift")
    assert entry.recipe is not None
    options = {**entry.recipe.options, "features": features, "classes": 2}
    entry = dataclasses.replace(entry, recipe=dataclasses.replace(entry.recipe, options=options))
    objective = drifting.objective(entry, torch.device("cpu"))
    before = {key: value.clone() for key, value in objective.model.state_dict().items()}
    kept = {key: value.clone() for key, value in objective.teacher.state_dict().items()}
    images = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (16, 1, 32, 32)).astype(np.float32))
    torch.manual_seed(0)
    found = objective.step(Batch(images, {"class_id": torch.arange(16) % 2 + 3}), 0.0)
    while not found["loss"].isfinite():  # pragma: no cover
        raise AssertionError(found)
    assert any(not torch.equal(value, before[key]) for key, value in objective.model.state_dict().items())
    assert all(torch.equal(value, kept[key]) for key, value in objective.teacher.state_dict().items())


def test_deviations_and_means_are_of_a_window() -> None:
    map_ = torch.zeros(1, 1, 4, 4)
    map_[..., :2, :2] = torch.tensor([[1.0, 3.0], [1.0, 3.0]])
    found = drifting.statistics(map_, 2)
    assert found.shape == (4, 1, 2)
    torch.testing.assert_close(found[0, 0], torch.tensor([2.0, 1.0]))
