"""The score that tells strangers: its area under the curve is the chance it claims to be, with an honest interval."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from benchmarks.studies.anomaly import area_under_curve
from benchmarks.studies.codes import bits, frequencies


def test_the_area_is_the_share_of_pairs_in_order() -> None:
    normal, strange = np.array([1.0, 2.0, 2.0, 5.0]), np.array([2.0, 3.0, 0.0])
    pairs = [(1.0 if s > n else 0.5 if s == n else 0.0) for s in strange for n in normal]
    assert area_under_curve(normal, strange).value == pytest.approx(np.mean(pairs))


def test_apart_is_one_and_alike_is_half() -> None:
    scores = np.random.default_rng(0).normal(size=500)
    assert area_under_curve(scores, scores + 100.0).value == 1.0
    assert area_under_curve(scores, scores).value == 0.5


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Two normals one deviation apart: the area is the normal distribution's value at 1 / sqrt(2), 0.7602."""
    generator, held = np.random.default_rng(0), 0
    for _ in range(300):
        found = area_under_curve(generator.normal(size=100), generator.normal(size=80) + 1.0)
        held += found.low <= 0.76025 <= found.high
    assert 0.91 < held / 300 < 0.99


def test_counted_codes_need_the_bits_of_their_entropy() -> None:
    import torch

    class_ids = torch.arange(40_000) % 10
    codes = torch.stack([torch.randint(4, (40_000,)), torch.full((40_000,), 7)], dim=1)  # two bits, and none
    table = frequencies(codes, class_ids, 8)
    torch.testing.assert_close(table.sum(2), torch.ones(10, 2))
    assert bits(table, codes, class_ids) == pytest.approx(1.0, abs=0.02)
