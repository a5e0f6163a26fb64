"""Intervals and verdicts against closed forms and against fresh draws."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks import statistics
from benchmarks.statistics import GROUPS, Jackknifed


@pytest.fixture
def rng() -> np.random.Generator:
    """Each test's own, so that its draws do not depend on which tests ran before."""
    return np.random.default_rng(0)


def test_the_jackknife_of_a_mean_is_student_s_interval_of_its_groups_means(rng: np.random.Generator) -> None:
    x = rng.exponential(size=400)
    of = statistics.groups(400)
    means = np.array([x[of == group].mean() for group in range(GROUPS)])
    low, high = stats.t.interval(0.95, GROUPS - 1, means.mean(), stats.sem(means))
    found = statistics.mean(x).estimate()
    assert (found.value, found.low, found.high) == pytest.approx((x.mean(), low, high))


@pytest.mark.parametrize("count", [50, 137, 300])
def test_a_mean_has_nothing_to_correct(count: int, rng: np.random.Generator) -> None:
    x = rng.standard_normal(count)
    quick, slow = statistics.mean(x), statistics.jackknife(lambda kept: float(x[kept].mean()), count, in_pairs=True)
    assert slow.value == pytest.approx(quick.value)
    np.testing.assert_allclose(slow.left_out, quick.left_out, rtol=0.02 if count % GROUPS else 1e-7)


def product(total: np.ndarray, squares: np.ndarray, count: int) -> np.ndarray:
    """The mean product of two different vectors of a sample, by their sum (..., D) and that of their squares (...)."""
    return ((total**2).sum(-1) - squares) / (count * (count - 1))


def test_what_pairs_do_together_is_counted_once(rng: np.random.Generator) -> None:
    """The mean product of two of N vectors around 0 has the variance 2 D / N (N - 1); the plain jackknife says twice
    that. The correction never takes away more than half, which leaves a little too much."""
    n, width, plain, found = GROUPS, 100, [], []
    for _ in range(200):
        x = rng.standard_normal((n, width))
        total, own = x.sum(0), (x**2).sum(1)
        left_out = product(total - x, own.sum() - own, n - 1)
        i, j = statistics.PAIRS.T
        pairs = product(total - x[i] - x[j], own.sum() - own[i] - own[j], n - 2)
        plain.append(Jackknifed(0.0, left_out).error ** 2)
        found.append(statistics.corrected(float(product(total, own.sum(), n)), left_out, pairs).error ** 2)
    right = 2.0 * width / (n * (n - 1))
    assert np.mean(plain) / right == pytest.approx(2.0, abs=0.1)
    assert np.mean(found) / right == pytest.approx(1.05, abs=0.1)


def test_a_bias_of_one_part_in_n_is_taken_away(rng: np.random.Generator) -> None:
    """The square of a mean is too large by the variance over N; without that it is the mean product, exactly."""
    x = rng.standard_normal((GROUPS, 1)) + 0.3
    total, n = x.sum(0), GROUPS
    value = float((total / n) @ (total / n))
    rest = value - statistics.chance(value, ((total - x) / (n - 1))[:, 0] ** 2)
    assert rest == pytest.approx(float(product(total, (x**2).sum(), n)))


def test_the_interval_of_a_square_is_that_of_its_root(rng: np.random.Generator) -> None:
    """Of a mean that is far from 0; near it, the interval still holds what it should."""
    x = rng.standard_normal(GROUPS) + 10.0
    low, high = statistics.squared(float(x.mean() ** 2), ((x.sum() - x) / (GROUPS - 1)) ** 2)
    error = stats.t.ppf(0.975, GROUPS - 1) * stats.sem(x)
    assert (low, high) == pytest.approx(((x.mean() - error) ** 2, (x.mean() + error) ** 2), rel=1e-3)
    for shift, most in ((0.3, 0.97), (0.1, 0.99)):  # cautious where there is nothing but chance
        held = []
        for _ in range(2000):
            x = rng.standard_normal((GROUPS, 4)) + shift
            mean, left_out = x.mean(0), (x.sum(0) - x) / (GROUPS - 1)
            low, high = statistics.squared(float((mean**2).sum()), (left_out**2).sum(1))
            held.append(low <= 4 * (shift**2 + 1.0 / GROUPS) <= high)
        assert 0.93 < np.mean(held) < most


def test_the_halves_are_a_balanced_design() -> None:
    found = statistics.halves()
    np.testing.assert_array_equal(found @ found.T, (GROUPS - 1) * np.eye(GROUPS - 1, dtype=int))
    assert {int(row) for row in found.sum(1)} == {1}
    assert ((found == 0).sum(1) == 1).all()
    assert ((found == 0).sum(0)[1:] == 1).all()


def test_halves_of_a_mean_give_what_the_jackknife_gives(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each image covers points of its own: then the share is a mean, and its variance falls as 1 / N."""
    monkeypatch.setattr(statistics, "FALL", 1.0)
    share = rng.integers(0, 30, 500)  # of 30 points an image
    rows, columns = np.arange(500 * 30), np.repeat(np.arange(500), 30)
    covers = rows % 30 < share[columns]
    found = statistics.Covered(500)
    found.add(len(rows), rows, columns, lambda half: covers)
    assert found.jackknifed().value == pytest.approx(share.mean() / 30)
    # Each half has its images' share of all points, not of its own: 24.5 of 50 groups.
    half = (GROUPS - 1) / (2 * GROUPS)
    assert found.jackknifed().error == pytest.approx(half * statistics.mean(share / 30).error, rel=0.03)


def test_an_interval_of_a_share_is_wilson_s() -> None:
    """Brown, Cai & DasGupta 2001: 0 of 10 is 0 to 0.278; of a jackknifed share by Student's quantile."""
    found = statistics.share(np.zeros(10, bool))
    assert (found.value, found.low) == (0.0, pytest.approx(0.0, abs=1e-12))
    assert found.high == pytest.approx(0.2775, abs=1e-4)
    none = statistics.mean(np.zeros(500, bool), share=True).estimate()
    t = stats.t.ppf(0.975, GROUPS - 1)
    assert (none.low, none.high) == pytest.approx((0.0, t**2 / (500 + t**2)), abs=1e-9)


def test_shares_near_one_are_held_as_often_as_they_should(rng: np.random.Generator) -> None:
    estimates = [statistics.mean(rng.random(500) < 0.98, share=True).estimate() for _ in range(2000)]
    assert all(each.high <= 1.0 for each in estimates)
    assert 0.93 < np.mean([each.low <= 0.98 <= each.high for each in estimates]) < 0.97


def test_shared_seeds_sharpen_a_difference(rng: np.random.Generator) -> None:
    """Two rows that differ by 0.1 of what they share are told apart by their differences, not by their intervals."""
    shared = rng.standard_normal(500)
    a, b = (statistics.mean(shared + 0.1 * rng.standard_normal(500) + shift) for shift in (0.0, 0.05))
    other = statistics.mean(rng.standard_normal(500) + 0.05)
    assert a.estimate().low < b.value < a.estimate().high
    verdict = a.against(b, lower_is_better=True)
    assert verdict.word == "better"
    assert verdict.difference.low < -0.05 < verdict.difference.high < 0.0
    assert a.against(b, lower_is_better=False).word == b.against(a, lower_is_better=True).word == "worse"
    assert a.against(other, lower_is_better=True).word == "indistinguishable"


def test_equals_are_told_apart_once_in_twenty_times(rng: np.random.Generator) -> None:
    told = []
    for _ in range(2000):
        shared = rng.standard_normal(200)
        a, b = (statistics.mean(shared + rng.standard_normal(200)) for _ in range(2))
        told.append(a.against(b, lower_is_better=True).word != "indistinguishable")
    assert 0.035 < np.mean(told) < 0.065


def test_percentile_interval_holds_the_percentile(rng: np.random.Generator) -> None:
    samples = rng.exponential(size=400)
    found = statistics.percentile(samples, 90)
    assert found.value == np.percentile(samples, 90)
    assert found.low < np.log(10) < found.high
