"""Guidance as a sum of terms, against the formulas as their papers write them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.sampling.guidance import Term, terms, weights

SCALES = st.floats(0.0, 20.0)
Estimate = Callable[[frozenset[str], int], np.ndarray]


def estimate(without: frozenset[str], value: int = 0) -> np.ndarray:
    """What a network says without some conditions, or with a value of a mixture: any numbers, the same each time."""
    seed = [ord(letter) for letter in "".join(sorted(without))] or [0]
    return np.random.default_rng([*seed, value]).standard_normal(4)


def total(found: Sequence[Term], off: bool = False) -> np.ndarray:
    parts = [(term.unguided if off else term.weight) * estimate(term.without, term.value) for term in found]
    return np.sum(parts, axis=0)


NOTHING, ALL = frozenset("ab"), frozenset[str]()


def test_scale_one_is_the_network_itself_in_one_call() -> None:
    assert terms(("a",), (1.0,)) == (Term(1.0, unguided=1.0),)
    assert terms(("a", "b"), (1.0, 1.0)) == (Term(1.0, unguided=1.0),)
    assert terms((), ()) == (Term(1.0, unguided=1.0),)


@given(SCALES)
def test_one_condition(scale: float) -> None:
    """Ho & Salimans 2022, equation 6, with 1 + w = scale."""
    given_it, without = estimate(ALL), estimate(frozenset("a"))
    w = scale - 1.0
    assert np.allclose(total(terms(("a",), (scale,))), (1.0 + w) * given_it - w * without)


@given(SCALES, SCALES)
def test_two_conditions_with_a_scale_each(image: float, text: float) -> None:
    """Brooks et al. 2023, equation 3: the first is their image, the second their instruction."""
    both, one, none = estimate(ALL), estimate(frozenset("b")), estimate(NOTHING)
    expected = none + image * (one - none) + text * (both - one)
    assert np.allclose(total(terms(("a", "b"), (image, text))), expected)


@given(SCALES)
def test_two_conditions_with_one_scale_are_one_condition(scale: float) -> None:
    found = terms(("a", "b"), (scale, scale))
    assert np.allclose(total(found), estimate(NOTHING) + scale * (estimate(ALL) - estimate(NOTHING)))
    assert len(found) <= 2, "no call whose weight is nothing"


@given(SCALES, SCALES, SCALES)
def test_three_conditions_go_on_likewise(first: float, second: float, third: float) -> None:
    names = ("a", "b", "c")
    none, one, two, all_of_them = (estimate(frozenset(names[kept:])) for kept in range(4))
    expected = none + first * (one - none) + second * (two - one) + third * (all_of_them - two)
    assert np.allclose(total(terms(names, (first, second, third))), expected)


@given(SCALES, st.floats(0.0, 1.0))
def test_a_mixture(scale: float, share: float) -> None:
    """Liu et al. 2022, equation 11, with the weights scale times share."""
    none, first, second = estimate(frozenset("a")), estimate(ALL, 0), estimate(ALL, 1)
    expected = none + scale * share * (first - none) + scale * (1.0 - share) * (second - none)
    found = terms(("a",), (scale,), (share, 1.0 - share))
    assert np.allclose(total(found), expected)
    assert np.allclose(total(found, off=True), share * first + (1.0 - share) * second)


@given(SCALES, SCALES)
def test_a_mixture_of_several_conditions_asks_each_value_as_far_as_it_is_kept(first: float, second: float) -> None:
    found = terms(("a", "b"), (first, second), (0.25, 0.75))
    none = estimate(NOTHING)
    one = 0.25 * estimate(frozenset("b"), 0) + 0.75 * estimate(frozenset("b"), 1)
    both = 0.25 * estimate(ALL, 0) + 0.75 * estimate(ALL, 1)
    assert np.allclose(total(found), none + first * (one - none) + second * (both - one))


@given(SCALES, SCALES, st.floats(0.0, 1.0))
def test_weights_sum_to_one_whether_guidance_is_on_or_off(first: float, second: float, share: float) -> None:
    found = terms(("a", "b"), (first, second), (share, 1.0 - share))
    assert np.isclose(sum(term.weight for term in found), 1.0)
    assert np.isclose(sum(term.unguided for term in found), 1.0)


def test_weights_of_all_rows_are_one_row() -> None:
    found = weights(terms(("a",), (3.0,)), np.array([10.0, 1.0, 0.1]))
    assert found.dtype == np.float32
    assert found.tolist() == [[3.0, -2.0]]


@pytest.mark.parametrize(
    ("interval", "on"),
    [((0.5, 5.0), [False, True, False]), ((1.0, 10.0), [True, True, False]), ((0.0, np.inf), [True, True, True])],
)
def test_an_interval(interval: tuple[float, float], on: list[bool]) -> None:
    """Kynkäänniemi et al. 2024, equation 5: elsewhere the scale is 1; both ends are inside."""
    found = weights(terms(("a",), (3.0,)), np.array([10.0, 1.0, 0.1]), interval)
    assert found.dtype == np.float32
    assert found.tolist() == [[3.0, -2.0] if each else [1.0, 0.0] for each in on]
