"""Intervals hold what they say. `python -m benchmarks.quality.coverage` counts over more samples, and real features."""

from __future__ import annotations

import pytest

from benchmarks.quality import coverage
from benchmarks.quality.coverage import CASES, Coverage

PAIRS = 200  # of samples: 400 intervals, of which 95 % are known within 2.2 %


@pytest.fixture(scope="module", params=[1, 2, 4], ids=lambda place: CASES[place].title)
def found(request: pytest.FixtureRequest) -> dict[str, Coverage]:
    return CASES[request.param].simulate(PAIRS)


def test_intervals_hold_the_right_value_95_times_in_100(found: dict[str, Coverage]) -> None:
    assert set(coverage.KINDS) - set(found) <= {"classes"}  # where there is one kind
    assert {kind: each.held for kind, each in found.items() if not 0.92 <= each.held <= 0.98} == {}


def test_errors_are_as_large_as_the_spread(found: dict[str, Coverage]) -> None:
    assert {kind: each.width for kind, each in found.items() if not 0.87 <= each.width <= 1.15} == {}


def test_equals_are_seldom_told_apart_and_pairs_are_sharper(found: dict[str, Coverage]) -> None:
    assert {kind: each.false for kind, each in found.items() if each.false > 0.1} == {}
    assert {kind: each.sharper for kind, each in found.items() if each.sharper > 0.98} == {}


def test_an_interval_that_forgets_the_neighbours_is_found_out() -> None:
    """Counting real pictures as if each were covered by itself (Wilson's interval of recall) is far too narrow."""
    law = coverage.clusters(6)
    real = coverage.Judged.by(law, 1000).real
    held = coverage.counted_alone(law.moved(0.2, 0.9), real, 300, 100)
    assert held < 0.85
