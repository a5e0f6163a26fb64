"""Guidance as a sum: the network's estimates with and without its conditions, each with a weight.

    off            F(c)
    scale s        s F(c) + (1 - s) F(null)                       Ho & Salimans 2022, equation 6
    several        s1 over nothing, s2 over what s1 asks for ...  Brooks et al. 2023, equation 3
    a mixture      w1 F(c1) + w2 F(c2) in place of F(c)           Liu et al. 2022, equation 11
    an interval    only at some noise levels                      Kynkäänniemi et al. 2024

What is not linear in the estimates cannot be said so: rescaled guidance, dynamic thresholding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class Term:
    """A network call: its weight, the conditions that it goes without, and which value of a mixture it takes."""

    weight: float
    without: frozenset[str] = frozenset()
    value: int = 0
    unguided: float = 0.0  # its weight where guidance is off


@lru_cache(maxsize=1024)
def terms(guided: tuple[str, ...], scales: tuple[float, ...], mixture: tuple[float, ...] = (1.0,)) -> tuple[Term, ...]:
    """The terms of a guided estimate; `scales` has one for each of the `guided` conditions, in their order.

    The first scale is over an estimate without any, the next over one with the first alone, and so on; `mixture` are
    the weights of the values that each condition has, which sum to one.
    """
    ladder = (1.0, *scales, 0.0)
    found = []
    for kept in range(len(guided), -1, -1):
        weight = ladder[kept] - ladder[kept + 1]
        whole = kept == len(guided)
        without = frozenset(guided[kept:])
        for value, share in enumerate(mixture if kept else (1.0,)):
            if whole or weight:
                found.append(Term(weight * share, without, value, share if whole else 0.0))
    return tuple(found)


def weights(terms: Sequence[Term], levels: np.ndarray, interval: tuple[float, float] | None = None) -> np.ndarray:
    """(1, terms) float32, or (rows, terms) where guidance is on only at `levels` inside `interval`, ends included."""
    guided = np.array([[term.weight for term in terms]], np.float32)
    if interval is None:
        return guided
    low, high = np.asarray(interval, np.float32)  # as an interval is that travelled
    levels = levels.astype(np.float32)
    off = np.array([[term.unguided for term in terms]], np.float32)
    return np.where(((low <= levels) & (levels <= high))[:, None], guided, off)
