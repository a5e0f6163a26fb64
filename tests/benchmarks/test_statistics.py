"""Distances against closed forms and against implementations written the other way round."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg, spatial

from benchmarks import statistics
from benchmarks.statistics import Moments


@pytest.fixture
def rng() -> np.random.Generator:
    """Each test's own, so that its draws do not depend on which tests ran before."""
    return np.random.default_rng(0)


def distance(a: Moments, b: Moments) -> float:
    return statistics.frechet_distance(a, b, statistics.square_root(b.covariance))


def covariance(width: int, rng: np.random.Generator) -> np.ndarray:
    root = rng.standard_normal((width, width))
    return root @ root.T


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


def test_the_effective_number_of_equally_frequent_kinds_is_their_number() -> None:
    for kinds in (1, 3, 10):
        found = statistics.effective_number(np.arange(300) % kinds, 10)
        assert found.value == pytest.approx(kinds)
        assert 1.0 <= found.low <= found.value <= found.high + 1e-9 <= 10.0 + 1e-9


def test_the_effective_number_of_a_rare_kind_is_the_exponent_of_the_entropy() -> None:
    labels = np.repeat([0, 1], [90, 10])
    expected = np.exp(-(0.9 * np.log(0.9) + 0.1 * np.log(0.1)))
    assert statistics.effective_number(labels, 10).value == pytest.approx(expected)


def test_moments_of_a_resample_are_those_of_its_rows(rng: np.random.Generator) -> None:
    x = rng.standard_normal((20, 3))
    weights = rng.integers(0, 4, 20).astype(float)
    found, rows = statistics.moments(x, weights), np.repeat(x, weights.astype(int), axis=0)
    np.testing.assert_allclose(found.mean, rows.mean(0))
    np.testing.assert_allclose(found.covariance, np.cov(rows, rowvar=False))


def test_kernel_distance_agrees_with_sums_over_pairs(rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((12, 4)), rng.standard_normal((9, 4)) + 0.3

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / 4 + 1) ** 3)

    xx = np.mean([k(x[i], x[j]) for i in range(12) for j in range(12) if i != j])
    yy = np.mean([k(y[i], y[j]) for i in range(9) for j in range(9) if i != j])
    xy = np.mean([k(a, b) for a in x for b in y])
    assert statistics.kernel_distance(x, y).value == pytest.approx(xx + yy - 2 * xy)


def test_kernel_distance_is_unbiased(rng: np.random.Generator) -> None:
    """Over many pairs of samples of one distribution it averages to 0, and is negative as often as not."""
    values = [statistics.kernel_distance(*rng.standard_normal((2, 60, 5)), resamples=2).value for _ in range(200)]
    assert abs(np.mean(values)) < 3.5 * np.std(values) / np.sqrt(200)
    assert 0.2 < np.mean(np.array(values) < 0) < 0.9


def test_frechet_interval_covers_the_spread_of_fresh_samples(rng: np.random.Generator) -> None:
    """The interval of one sample is as wide as the spread of the distance over fresh samples, within a third."""
    reference = Moments(np.zeros(8), np.eye(8))
    fresh = [distance(statistics.moments(rng.normal(0.3, 1, (300, 8))), reference) for _ in range(100)]
    found = statistics.frechet(rng.normal(0.3, 1, (300, 8)), reference, resamples=200)
    assert found.low < found.value < found.high
    assert (found.high - found.low) / (3.92 * np.std(fresh)) == pytest.approx(1.0, abs=0.33)


def test_manifold_agrees_with_a_search_tree(rng: np.random.Generator) -> None:
    real, points = rng.standard_normal((80, 3)), 2.0 * rng.standard_normal((50, 3))
    distance, _ = spatial.KDTree(real).query(real, k=4)
    expected = (np.linalg.norm(points[:, None] - real, axis=2) <= distance[:, 3]).any(1)
    assert 0 < expected.sum() < 50
    np.testing.assert_array_equal(statistics.within_manifold(points, real, statistics.radii(real, 3)), expected)


def test_share_is_the_wilson_interval() -> None:
    """Brown, Cai & DasGupta 2001: 0 of 10 is 0 to 0.278."""
    found = statistics.share(np.zeros(10, bool))
    assert (found.value, found.low) == (0.0, pytest.approx(0.0, abs=1e-12))
    assert found.high == pytest.approx(0.2775, abs=1e-4)


def test_percentile_interval_holds_the_percentile(rng: np.random.Generator) -> None:
    samples = rng.exponential(size=400)
    found = statistics.percentile(samples, 90)
    assert found.value == np.percentile(samples, 90)
    assert found.low < np.log(10) < found.high
