"""What the studies of paths and of students measure, where the answer is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.studies import convergence, straightness, students
from zoo import registry
from zoo.sampling import samplers, schedules
from zoo.sampling.parameterization import PARAMETERIZATIONS

MEAN = 0.3


def bending_of(estimate: Callable[[np.ndarray, float], np.ndarray], steps: int = 400) -> float:
    """The bending of the paths of an ideal denoiser, D(x, sigma)."""
    sigmas, noise = schedules.linear(steps), np.random.default_rng(0).standard_normal((1, 5000))

    def network(z: np.ndarray, t: float) -> np.ndarray:
        return (z - estimate(z / (1.0 - t), t / (1.0 - t))) / t

    table = samplers.sampler_table(samplers.SAMPLERS["ddim"], sigmas, PARAMETERIZATIONS["velocity"])
    states = [(x, denoised) for x, denoised, _ in samplers.walk(table, noise, network)]
    return straightness.path_bending(noise[0], sigmas, states)


def test_paths_to_one_point_are_straight() -> None:
    """But for the one per cent of the picture that is missing from where they start."""
    assert bending_of(lambda x, sigma: np.full_like(x, MEAN)) == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("std", [0.5, 1.0])
def test_paths_to_gaussian_data_bend_as_their_closed_form_does(std: float) -> None:
    """Z = (1 - t) m + s(t) n with s = |((1 - t) std, t)|, so (Z1 - Z0) - dZ/dt is (1 - std - s'(t)) n."""
    t = np.linspace(0.0, schedules.linear_time(schedules.SIGMA_MAX), 20_001)
    spread = np.hypot((1.0 - t) * std, t)
    slope = (t - (1.0 - t) * std**2) / spread
    expected = np.mean((1.0 - std - slope) ** 2)
    found = bending_of(lambda x, sigma: (std**2 * x + sigma**2 * MEAN) / (std**2 + sigma**2))
    assert found == pytest.approx(expected, rel=0.1)


def test_a_copy_is_at_no_distance_and_a_stranger_at_one() -> None:
    wanted, class_ids = np.random.default_rng(0).standard_normal((200, 8, 8, 1)), np.arange(200) // 7 % 10
    others = wanted[students.strangers_of(class_ids)]
    assert students.closeness(wanted, wanted, class_ids) == 0.0
    assert students.closeness(others, wanted, class_ids) == pytest.approx(1.0)
    half = wanted + 0.5 * np.roll(wanted, 20, axis=0)
    assert students.closeness(half, wanted, class_ids) == pytest.approx(0.354, rel=0.05)


def test_a_stranger_is_another_one_of_the_same_class() -> None:
    class_ids = np.random.default_rng(0).integers(0, 3, 50)
    found = students.strangers_of(class_ids)
    assert (class_ids[found] == class_ids).all()
    assert sorted(found) == list(range(50))
    assert (found != np.arange(50)).all()


def test_students_are_compared_with_their_teacher_in_as_many_steps() -> None:
    def row(name: str, steps: int, teacher: str, distance: float, fd: tuple[float, float]) -> tuple[str | float, ...]:
        quality = *fd, *(fd[1] for _ in students.NETS[2:]), *(0.5 for _ in students.NETS)
        return (name, steps, f"{teacher} at {students.REFERENCE_STEPS}", 0.5, distance, *quality)

    rows = [row("old", 4, "old", 0.3, (5.0, 9.0)), row("near", 4, "old", 0.1, (4.0, 10.0))]
    rows += [row("good", steps, "old", 0.2, (3.0, 8.0)) for steps in (4, 2, 1)]
    answer = students.answer(rows)
    assert "in 4 nearest is near and best good" in answer
    assert answer.endswith("than the teacher itself in as many steps: near in 4.")
    assert students.answer([*rows, row("bad", 1, "new", 0.1, (9.0, 9.0))]).endswith(": near in 4.")  # no teacher's own
    assert students.answer([rows[0], *rows[2:]]).endswith(": none.")
    doubled = [row(students.WHOLE, steps, "old", 0.5, (9.0 - steps, 8.0)) for steps in (4, 2, 1)]
    assert f"in 1, 2, 4 steps has a smaller distance each time in: {students.NETS[0]}." in students.answer(
        rows + doubled
    )
    assert "ddpm-sida 50.0%, 50.0%" in students.answer([*rows, row("ddpm-sida", 1, "old", 0.5, (9.0, 8.0))])


def solve_gaussian(sampler: str, steps: int) -> np.ndarray:
    """A solver's way for Gaussian data, whose denoiser is known."""
    sigmas, noise = schedules.cosine(steps), np.random.default_rng(0).standard_normal((1, 50))
    rows = samplers.SAMPLERS[sampler].rows(sigmas)
    dialect = PARAMETERIZATIONS["x0"]
    levels = {float(dialect(np.array(row["sigma"])).c_noise): row["sigma"] for row in rows}

    def network(x: np.ndarray, c_noise: float) -> np.ndarray:
        sigma = levels[float(c_noise)]
        x = x * np.sqrt(1.0 + sigma**2)
        return (0.25 * x + sigma**2 * MEAN) / (0.25 + sigma**2)

    return np.asarray(
        samplers.execute(samplers.sampler_table(samplers.SAMPLERS[sampler], sigmas, dialect), noise, network)
    )


@pytest.mark.parametrize("sampler", convergence.deterministic(registry.checkpoint("ddpm").spec))
def test_the_order_of_a_solver_is_found_where_it_is_known(sampler: str) -> None:
    limit = solve_gaussian("heun", 4096)
    errors = convergence.distances(solve_gaussian, sampler, limit)
    assert convergence.order(errors) == pytest.approx(samplers.SAMPLERS[sampler].order, abs=0.4)


def test_only_samplers_without_noise_converge() -> None:
    assert convergence.deterministic(registry.checkpoint("ddpm").spec) == ["ddim", "heun", "dpmpp_2m"]


def test_a_rectified_checkpoint_walks_straighter_than_its_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of it, and more, in 100 paths; a few are enough to see it."""
    monkeypatch.setattr(straightness, "PATHS", 2)
    monkeypatch.setattr(straightness, "GRID", 12)
    assert straightness.bending("fm-rect") < 0.5 * straightness.bending("fm")
