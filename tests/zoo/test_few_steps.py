"""Consistency training and distribution matching: their grids, their shares, and the gradient that ends at the data."""

from __future__ import annotations

from itertools import pairwise
from statistics import NormalDist

import pytest
import torch

from zoo import schedules
from zoo.family import Checkpoint, Recipe
from zoo.networks.unet import UNetConfig
from zoo.request import GeneratorSpec, Sampling
from zoo.training import consistency_training, distribution_matching

CPU = torch.device("cpu")


def entry(kind: str, **options: object) -> Checkpoint:
    """A student of `ddpm` for a test of its training."""
    sampling = Sampling(samplers=("consistency",), num_steps=4)
    spec = GeneratorSpec("student", "diffusion", (1, 32, 32), (32, 32, 1), 10, sampling)
    return Checkpoint(spec, UNetConfig(), Recipe(kind, 64, learning_rate=1e-3, options=options), teacher="ddpm")


def test_the_grid_doubles_in_phases_of_one_length() -> None:
    sizes = [consistency_training.grid_size(10, 80, progress / 100) for progress in range(100)]
    assert sizes == [10] * 25 + [20] * 25 + [40] * 25 + [80] * 25
    assert consistency_training.grid_size(10, 80, 1.0) == 80


@pytest.mark.parametrize("size", [1, 10, 40])
def test_steps_are_seen_as_often_as_a_log_normal_falls_into_them(size: int) -> None:
    sigmas = schedules.karras(size)
    law = NormalDist(consistency_training.LOG_MEAN, consistency_training.LOG_STD)
    reached = [law.cdf(float(torch.tensor(sigma).log())) for sigma in sigmas[:-1]] + [0.0]
    expected = torch.tensor([(high - low) / reached[0] for high, low in pairwise(reached)])
    found = consistency_training.shares(torch.from_numpy(sigmas))
    torch.testing.assert_close(found.float(), expected, rtol=1e-4, atol=1e-6)


def test_consistency_training_learns_the_picture_where_the_grid_ends_at_it() -> None:
    """On a grid of one step the target is the picture itself, so the loss is that of denoising, and falls."""
    torch.manual_seed(0)
    objective = consistency_training.objective(entry("consistency_training", grid=(1, 1)), CPU)
    pixels, class_ids = torch.full((8, 1, 32, 32), 0.8), torch.arange(8)
    losses = [float(objective.step(pixels, class_ids, 0.0)["distance"]) for _ in range(10)]
    assert losses[-1] < 0.5 * losses[0]


def gaussian_estimate(x: torch.Tensor, sigma: float, mean: float, std: float) -> torch.Tensor:
    return (std**2 * x + sigma**2 * mean) / (std**2 + sigma**2)


def test_matching_ends_where_what_is_made_is_distributed_like_the_data() -> None:
    """A student that shifts and scales its noise, between the exact scores of what it makes and of N(0.3, 0.5^2)."""
    torch.manual_seed(0)
    shift, scale = torch.tensor(-1.0, requires_grad=True), torch.tensor(1.5, requires_grad=True)
    optimizer = torch.optim.SGD([shift, scale], lr=0.2)
    for _ in range(400):
        made = shift + scale * torch.randn(4096, 1, 1, 1)
        x, sigma = made.detach() + 0.5 * torch.randn_like(made), 0.5
        real = gaussian_estimate(x, sigma, 0.3, 0.5)
        fake = gaussian_estimate(x, sigma, shift.item(), scale.item())
        batch = (each.detach().reshape(1, -1, 1, 1) for each in (made, real, fake))  # one picture: one size for all
        gradient = distribution_matching.matching_gradient(*batch)
        (made.flatten() * gradient.flatten()).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert shift.item() == pytest.approx(0.3, abs=0.05)
    assert abs(scale.item()) == pytest.approx(0.5, abs=0.05)


def test_equal_scores_move_nothing_and_every_picture_is_moved_alike() -> None:
    made, real = torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4)
    real[1] *= 100.0
    assert not distribution_matching.matching_gradient(made, real, real).any()
    gradient = distribution_matching.matching_gradient(made, real, torch.zeros_like(real))
    torch.testing.assert_close(gradient, -torch.ones_like(real))


def test_distribution_matching_begins_with_scores_that_agree() -> None:
    """The fake score starts as the teacher; both learn; states come from the student's own grid."""
    torch.manual_seed(0)
    options = {"steps": 4, "fake_updates": 1, "fake_learning_rate": 1e-3}
    objective = distribution_matching.objective(entry("distribution_matching", **options), CPU)
    class_ids = torch.arange(8)
    assert not objective.gradient(torch.randn(8, 1, 32, 32), class_ids).any()
    grid = set(objective.sigmas[:-1].tolist())
    levels = {float(objective.reached(class_ids)[1][0]) for _ in range(12)}
    assert levels <= grid
    assert pytest.approx(max(grid), rel=1e-4) == schedules.SIGMA_MAX
    for _ in range(2):
        losses = objective.step(torch.zeros(8, 1, 32, 32), class_ids, 0.0)
    assert float(losses["gradient"]) > 0.0
    teacher, fake = objective.teacher.network.state_dict(), objective.fake.network.state_dict()
    student = objective.student.network.state_dict()
    for moved in (fake, student):
        assert any(not torch.equal(moved[key], value) for key, value in teacher.items())
