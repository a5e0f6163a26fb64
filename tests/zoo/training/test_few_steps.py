"""Consistency training and distribution matching: their grids, their pairs, and the gradient that ends at the data."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from zoo import registry
from zoo.contract.spec import Sampling
from zoo.family import Checkpoint, Recipe, class_conditional
from zoo.networks.unet import UNetConfig
from zoo.sampling import schedules
from zoo.training import consistency_training, consistency_tuning, distribution_matching, score_identity
from zoo.training.loop import Batch

CPU = torch.device("cpu")


def entry(kind: str, **options: object) -> Checkpoint:
    """A student of `ddpm` for a test of its training."""
    sampling = Sampling(samplers=("consistency",), num_steps=4)
    spec = class_conditional("student", "diffusion", (1, 32, 32), (32, 32, 1), 10, sampling)
    recipe = Recipe(kind, 64, learning_rate=1e-3, options=options)
    return Checkpoint(spec, UNetConfig(), recipe, dataset="fashion_mnist", teacher="ddpm")


def test_the_grid_doubles_in_phases_of_one_length() -> None:
    sizes = [consistency_training.grid_size(10, 80, progress / 100) for progress in range(100)]
    assert sizes == [10] * 25 + [20] * 25 + [40] * 25 + [80] * 25
    assert consistency_training.grid_size(10, 80, 1.0) == 80


def test_a_pair_is_one_picture_under_one_noise() -> None:
    x0, levels = torch.randn(3, 1, 4, 4), torch.tensor([[0.0, 0.5, 2.0], [1.0, 2.0, 4.0]])
    near, far = consistency_training.two_noisy(x0, *levels)
    torch.testing.assert_close(near[0], x0[0])
    noise = far - x0
    torch.testing.assert_close(near - x0, noise * torch.tensor([0.0, 0.25, 0.5])[:, None, None, None])
    assert 0.5 < float((noise[2] / 4.0).std()) < 1.5


def test_consistency_training_learns_the_picture_where_the_grid_ends_at_it() -> None:
    """On a grid of one step the target is the picture itself, so the loss is that of denoising, and falls."""
    torch.manual_seed(0)
    objective = consistency_training.objective(entry("consistency_training", grid=(1, 1)), CPU)
    pixels, class_ids = torch.full((2, 1, 32, 32), 0.8), torch.arange(2)
    losses = [float(objective.step(Batch(pixels, {"class_id": class_ids}), 0.0)["loss"]) for _ in range(10)]
    assert losses[-1] < 0.5 * losses[0]


def test_tuning_begins_as_denoising_and_closes_in_phase_by_phase() -> None:
    """Low levels are paired with the picture itself at first; a phase halves the gap; a pair never changes places."""
    sigma = torch.tensor([0.01, 0.5, 5.0, 100.0])
    first, second, last = (consistency_tuning.nearer(sigma, 2.0, phase) for phase in (0, 1, 9))
    assert first.tolist()[:3] == [0.0, 0.0, pytest.approx(5.0 * 0.5 * (1.0 - 8.0 / (1.0 + math.exp(5.0))))]
    assert float(first[3]) == pytest.approx(50.0)
    assert float(second[3]) == pytest.approx(75.0)
    assert torch.all(first <= second)
    assert torch.all((second <= last) & (last < sigma))
    assert torch.all(last > 0.99 * sigma)


def test_consistency_tuning_learns_the_picture_and_leaves_the_teacher() -> None:
    torch.manual_seed(0)
    objective = consistency_tuning.objective(entry("consistency_tuning", levels=[0.0, 2.0], shrink=2.0, phases=6), CPU)
    pixels, class_ids = torch.full((8, 1, 32, 32), 0.8), torch.arange(8)
    losses = [float(objective.step(Batch(pixels, {"class_id": class_ids}), 0.0)["loss"]) for _ in range(10)]
    assert losses[-1] < 0.5 * losses[0]
    kept = objective.teacher.network.state_dict()
    for key, value in registry.load_module(registry.checkpoint("ddpm")).state_dict().items():
        torch.testing.assert_close(kept[key], value, rtol=0, atol=0)


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


def matching(**options: object) -> distribution_matching.DistributionMatching:
    defaults = {"steps": [1, 4], "fake_updates": 1, "fake_learning_rate": 1e-3, "adversary": 0.01}
    defaults |= {"discriminator_rate": 1e-3, "r1": 0.2, "r1_interval": 8}
    torch.manual_seed(0)
    return distribution_matching.objective(entry("distribution_matching", **(defaults | options)), CPU)


def test_distribution_matching_begins_with_scores_that_agree() -> None:
    """The fake score starts as the teacher; all learn but the teacher; states come from the student's own grids."""
    objective = matching()
    class_ids = torch.arange(2)
    assert not objective.gradient(torch.randn(2, 1, 32, 32), class_ids).any()
    grids = {float(level) for grid in objective.grids for level in grid[:-1]}
    levels = {float(objective.reached(class_ids)[1][0]) for _ in range(16)}
    assert levels <= grids
    assert len(levels) > 1
    assert pytest.approx(max(levels), rel=1e-4) == schedules.SIGMA_MAX
    before = {name: copy.deepcopy(module.state_dict()) for name, module in objective.modules.items()}
    for _ in range(2):
        losses = objective.step(Batch(torch.zeros(2, 1, 32, 32), {"class_id": class_ids}), 0.0)
    assert float(losses["matching"]) > 0.0
    for name, module in objective.modules.items():
        assert any(not torch.equal(value, before[name][key]) for key, value in module.state_dict().items()), name
    kept = objective.teacher.network.state_dict()
    for key, value in registry.load_module(registry.checkpoint("ddpm")).state_dict().items():
        torch.testing.assert_close(kept[key], value, rtol=0, atol=0)


def test_the_fisher_loss_and_its_gradient_end_where_what_is_made_is_distributed_like_the_data() -> None:
    """Between exact scores the loss is the squared distance of the scores, whose slope is no other's (SiD)."""
    torch.manual_seed(0)
    shift, scale = torch.tensor(-1.0, requires_grad=True), torch.tensor(1.5, requires_grad=True)
    optimizer = torch.optim.Adam([shift, scale], lr=0.05)
    for _ in range(200):
        made = shift + scale * torch.randn(4096, 1, 1, 1)
        x, sigma = made + 0.5 * torch.randn_like(made), 0.5
        real = gaussian_estimate(x, sigma, 0.3, 0.5)
        fake = gaussian_estimate(x, sigma, shift.item(), scale.item())
        batch = (each.reshape(1, -1, 1, 1) for each in (made, real, fake))  # one picture: one size for all
        score_identity.fisher(*batch, alpha=1.0).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert shift.item() == pytest.approx(0.3, abs=0.05)
    assert abs(scale.item()) == pytest.approx(0.5, abs=0.05)


def test_score_identity_sees_no_real_picture_and_moves_with_both_scores() -> None:
    options = {"steps": [1], "fake_updates": 1, "fake_learning_rate": 1e-3, "alpha": 1.0}
    torch.manual_seed(0)
    objective = score_identity.objective(entry("score_identity", **options), CPU)
    assert set(objective.modules) == {"model", "fake"}
    before = {name: copy.deepcopy(module.state_dict()) for name, module in objective.modules.items()}
    nothing = torch.full((8, 1, 32, 32), torch.nan)
    for _ in range(2):
        losses = objective.step(Batch(nothing, {"class_id": torch.arange(8)}), 0.0)
    assert all(math.isfinite(float(loss)) for loss in losses.values())
    for name, module in objective.modules.items():
        assert any(not torch.equal(value, before[name][key]) for key, value in module.state_dict().items()), name


def test_a_student_that_starts_elsewhere_is_scored_against_the_teacher_all_the_same() -> None:
    objective, start = matching(start="ddpm-cd"), registry.load_module(registry.checkpoint("ddpm-cd")).state_dict()
    for key, value in objective.model.state_dict().items():
        torch.testing.assert_close(value, start[key], rtol=0, atol=0)
    assert not objective.gradient(torch.randn(2, 1, 32, 32), torch.arange(2)).any()


def test_the_discriminator_learns_real_from_made_and_its_doubt_moves_only_the_student() -> None:
    objective = matching(r1_interval=10**6)
    class_ids, real = torch.arange(2), torch.ones(2, 1, 32, 32)
    made = (-real).requires_grad_(True)
    losses = [float(objective.learn_discriminator(real, made.detach(), class_ids)) for _ in range(12)]
    assert losses[-1] < 0.5 * losses[0]
    objective.optimizers["discriminator"].zero_grad()
    objective.doubt(made, class_ids).backward()
    assert made.grad is not None
    assert made.grad.any()
    assert all(parameter.grad is None for parameter in objective.discriminator.parameters())
    assert all(parameter.requires_grad for parameter in objective.discriminator.parameters())
