"""Distances against closed forms and against implementations written the other way round, whole and without groups."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import linalg, spatial

from benchmarks import statistics
from benchmarks.quality import distances
from benchmarks.quality.distances import Moments
from benchmarks.statistics import GROUPS, Jackknifed

Statistic = Callable[[np.ndarray], float]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def distance(a: Moments, b: Moments) -> float:
    return distances.frechet_distance(a, b, distances.square_root(b.covariance))


def covariance(width: int, rng: np.random.Generator) -> np.ndarray:
    root = rng.standard_normal((width, width))
    return root @ root.T


def agrees(found: Jackknifed, statistic: Statistic, count: int) -> None:
    """With the function called on what is left."""
    expected = statistics.jackknife(statistic, count, in_pairs=True)
    assert found.value == pytest.approx(expected.value)
    np.testing.assert_allclose(found.left_out, expected.left_out, rtol=1e-9)


def test_frechet_distance_of_commuting_gaussians_is_a_formula() -> None:
    a = Moments(np.array([1.0, 2.0]), np.diag([4.0, 9.0]))
    b = Moments(np.array([0.0, 0.0]), np.diag([1.0, 25.0]))
    assert distance(a, b) == pytest.approx(5.0 + (2 - 1) ** 2 + (3 - 5) ** 2)


def test_frechet_distance_agrees_with_the_matrix_square_root_of_a_product(rng: np.random.Generator) -> None:
    a, b = (Moments(rng.standard_normal(6), covariance(6, rng)) for _ in range(2))
    cross = linalg.sqrtm(a.covariance @ b.covariance).real
    expected = np.sum((a.mean - b.mean) ** 2) + np.trace(a.covariance + b.covariance - 2.0 * cross)
    assert distance(a, b) == pytest.approx(expected)
    assert distance(b, a) == pytest.approx(expected)
    assert distance(a, a) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("count", [103, 200])
def test_frechet_distances_without_groups_are_those_of_the_rest(count: int, rng: np.random.Generator) -> None:
    x, reference = 1.1 * rng.standard_normal((count, 3)), Moments(rng.standard_normal(3), covariance(3, rng))
    found, _ = distances.frechet(x, reference)
    agrees(found, lambda kept: distance(distances.moments(x[kept]), reference), count)


def test_frechet_distance_of_infinitely_many_images_is_that_of_the_law(rng: np.random.Generator) -> None:
    """Of known Gaussians, at numbers at which the distance itself is far too large."""
    a, b = Moments(np.full(6, 0.2), 0.8 * np.eye(6)), Moments(np.zeros(6), np.eye(6))
    for count in (100, 400):
        drawn = [rng.multivariate_normal(a.mean, a.covariance, count) for _ in range(50)]
        found = [distances.frechet(x, b) for x in drawn]
        plain, limit = (np.array([pair[which].value for pair in found]) for which in (0, 1))
        assert plain.mean() - distance(a, b) > 4.0 * limit.std() / 7.0
        assert abs(limit.mean() - distance(a, b)) < 3.0 * limit.std() / 7.0 + 0.1 * (plain.mean() - distance(a, b))
        held = [each.low <= distance(a, b) <= each.high for each in (pair[1].estimate() for pair in found)]
        assert np.mean(held) >= 0.88


def test_kernel_distance_agrees_with_sums_over_pairs(rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((52, 4)), rng.standard_normal((9, 4)) + 0.3

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / 4 + 1) ** 3)

    xx = np.mean([k(x[i], x[j]) for i in range(52) for j in range(52) if i != j])
    yy = np.mean([k(y[i], y[j]) for i in range(9) for j in range(9) if i != j])
    xy = np.mean([k(a, b) for a in x for b in y])
    assert distances.kernel_distance(x, y).value == pytest.approx(xx + yy - 2 * xy)


def test_kernel_distances_without_groups_are_those_of_the_rest(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distances, "AT_ONCE", 1000)  # several parts
    x, real = rng.standard_normal((103, 3)), rng.standard_normal((40, 3)) + 0.3

    def plain(kept: np.ndarray) -> float:
        y = x[kept]
        own, theirs = (distances.polynomial_kernel(each, each) for each in (y, real))
        across = distances.polynomial_kernel(y, real).mean()
        return float(np.mean(own[~np.eye(len(y), dtype=bool)]) + np.mean(theirs[~np.eye(40, dtype=bool)]) - 2 * across)

    agrees(distances.kernel_distance(x, real), plain, 103)


def test_kernel_distance_is_unbiased(rng: np.random.Generator) -> None:
    """Over many pairs of samples of one distribution it averages to 0, and is negative as often as not."""
    values = [distances.kernel_distance(*rng.standard_normal((2, 60, 5))).value for _ in range(200)]
    assert abs(np.mean(values)) < 3.5 * np.std(values) / np.sqrt(200)
    assert 0.2 < np.mean(np.array(values) < 0) < 0.9


def test_manifold_agrees_with_a_search_tree(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "AT_ONCE", 1000)  # several parts
    real, points = rng.standard_normal((80, 3)), 2.0 * rng.standard_normal((50, 3))
    distance, _ = spatial.KDTree(real).query(real, k=4)
    expected = (np.linalg.norm(points[:, None] - real, axis=2) <= distance[:, 3]).any(1)
    assert 0 < expected.sum() < 50
    np.testing.assert_array_equal(distances.within_manifold(points, real, distances.radii(real, 3)), expected)
    assert distances.precision(points, real, distances.radii(real, 3)).value == expected.mean()


@pytest.mark.parametrize("listed", [4, 32])
def test_recall_of_halves_is_that_of_each_half_alone(
    listed: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the neighbours that are listed do not reach to the third of a half."""
    monkeypatch.setattr(distances, "LISTED", listed)
    monkeypatch.setattr(distances, "AT_ONCE", 2000)
    x, real = rng.standard_normal((120, 3)), 1.3 * rng.standard_normal((70, 3))
    found = distances.recall(x, real)
    assert found.value == distances.within_manifold(real, x, distances.radii(x)).mean()
    differences = []
    for signs in statistics.halves()[:, statistics.groups(120)]:
        first, second = x[signs > 0], x[signs < 0]
        covered = [distances.within_manifold(real, each, distances.radii(each)).mean() for each in (first, second)]
        differences.append(covered[0] - covered[1])
    half = (GROUPS - 1) / (2 * GROUPS)
    spread = np.std(differences, ddof=1)  # less what one group more does
    assert found.error == pytest.approx(spread * np.sqrt(half**statistics.FALL / 2.0), rel=0.02)


def test_the_effective_number_of_equally_frequent_kinds_is_their_number() -> None:
    for kinds in (1, 3, 10):
        found = distances.effective_number(np.repeat(np.arange(kinds), 100), 10)
        assert found.value == pytest.approx(kinds)
        assert 1.0 <= found.estimate().low + 1e-9 <= found.value + 1e-9 <= found.estimate().high + 2e-9 <= 10.0 + 1e-6


def test_the_effective_number_of_a_rare_kind_is_the_exponent_of_the_entropy(rng: np.random.Generator) -> None:
    labels = rng.permutation(np.repeat([0, 1], [90, 10]))

    def exponent(kept: np.ndarray) -> float:
        shares = np.bincount(labels[kept]) / kept.sum()
        return float(np.exp(-(shares * np.log(shares)).sum()))

    found = distances.effective_number(labels, 10)
    assert found.value == pytest.approx(np.exp(-(0.9 * np.log(0.9) + 0.1 * np.log(0.1))))
    agrees(found, exponent, 100)
