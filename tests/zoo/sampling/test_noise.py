"""A seed is an image: what the noise depends on, and what it must not depend on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from zoo.sampling.noise import MAX_SEED, normal, uniform

GOLDEN_SEED_7 = [-0.14712793, 0.50211215, -1.09110105, 0.73758703, -0.73446286, -2.1076498]


@given(st.lists(st.integers(0, MAX_SEED), min_size=1, max_size=8), st.integers(1, 33))
def test_a_seed_gives_the_same_noise_in_any_batch(seeds: list[int], count: int) -> None:
    together = normal(seeds, (count,))
    for row, seed in enumerate(seeds):
        np.testing.assert_array_equal(together[row], normal([seed], (count,))[0])


@given(st.integers(0, MAX_SEED), st.integers(1, 20), st.integers(1, 20))
def test_a_shorter_draw_is_a_prefix(seed: int, first: int, second: int) -> None:
    low, high = sorted((first, second))
    np.testing.assert_array_equal(normal([seed], (high,))[0, :low], normal([seed], (low,))[0])


def test_it_is_standard_normal_and_seeds_are_independent() -> None:
    draws = normal(range(200), (500,)).astype(np.float64)
    assert stats.kstest(draws.reshape(-1), "norm").pvalue > 1e-3
    correlation = np.corrcoef(draws)
    assert np.abs(correlation[np.triu_indices(200, 1)]).max() < 0.25


def test_it_never_changes() -> None:
    """Published images hang on these values: a change of them is a change of every image."""
    np.testing.assert_allclose(normal([7], (6,))[0], GOLDEN_SEED_7, rtol=0, atol=1e-7)


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        normal([seed], (1,))


def test_uniform_numbers_are_a_seed_s_own_and_no_part_of_its_noise() -> None:
    drawn = uniform(range(2000), 1 << 32)
    assert stats.kstest(drawn, "uniform").pvalue > 1e-3
    np.testing.assert_array_equal(uniform([7, 3], 1 << 32), drawn[[7, 3]])
    assert abs(np.corrcoef(drawn, normal(range(2000), (1,))[:, 0])[0, 1]) < 0.1
    assert not np.intersect1d(drawn, uniform(range(2000))).size
