"""How often generated images lie where real ones do, and how much of the real is there (Naeem et al. 2020).

Both look at balls around *real* pictures only, out to their k-th nearest real neighbour, so one outlier among the
generated images does not make a manifold of its own, as it does in recall.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from benchmarks import statistics
from benchmarks.quality import distances
from benchmarks.statistics import GROUPS, PAIRS, Jackknifed

NEIGHBOURS = 5
PART = 0.5  # of the correction by pairs: images share balls; `quality.coverage` finds 0.6 to 1, less is cautious
ROWS = 500  # generated images at a time: (500, M) distances are held, whatever N is


def density(generated: np.ndarray, real: np.ndarray, squared_radii: np.ndarray, k: int = NEIGHBOURS) -> Jackknifed:
    """In how many balls a generated image lies, divided by k: (N, D), (M, D), and `distances.radii(real, k)`; eq. 3.

    1 is expected of real pictures, more of images that crowd where the real are densest.
    """
    return statistics.mean(np.concatenate([part.sum(1) for part in _inside(generated, real, squared_radii)]) / k)


def coverage(generated: np.ndarray, real: np.ndarray, squared_radii: np.ndarray) -> Jackknifed:
    """The share of balls that hold a generated image: the same arguments, equation 4.

    It is below 1 for real pictures too, and grows with N: compare at equal N only.
    """
    of, covered, start = statistics.groups(len(generated)), np.zeros((GROUPS, len(real)), bool), 0
    for part in _inside(generated, real, squared_radii):
        np.logical_or.at(covered, of[start : start + len(part)], part)
        start += len(part)
    left = covered.sum(0) - covered  # (GROUPS, M)
    pairs = (left[PAIRS[:, 0]] > covered[PAIRS[:, 1]]).mean(1)
    found = statistics.corrected(float(covered.any(0).mean()), (left > 0).mean(1), pairs, PART)
    return replace(found, count=len(generated))


def _inside(generated: np.ndarray, real: np.ndarray, squared_radii: np.ndarray) -> Iterator[np.ndarray]:
    """Which balls each of some generated images lies in, some at a time: (ROWS, M) bool."""
    for start in range(0, len(generated), ROWS):
        yield distances.squared_distances(generated[start : start + ROWS], real) < squared_radii
