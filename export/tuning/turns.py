"""Contenders that take turns, so that a clock that changes or a neighbour that wakes up meets them all.

A turn is a short burst of calls, of which the first ones are not counted: a runtime's idle threads go on spinning for a
while and would slow whoever comes next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

SETTLE, BURST = 3, 5  # calls of a turn: not counted, and counted by their median
Contender = Callable[[], Any]


def turns(contenders: Mapping[str, Contender], rounds: int) -> Iterator[dict[str, float]]:
    """Milliseconds a call of each contender, round by round, the order reversed every other round."""
    names = list(contenders)
    for turn in range(-1, rounds):
        ordered = names if turn % 2 == 0 else names[::-1]
        times = {name: _burst(contenders[name]) for name in ordered}
        if turn >= 0:  # the first round is a warm-up
            yield times


def interleaved(contenders: Mapping[str, Contender], rounds: int) -> dict[str, np.ndarray]:
    """Milliseconds a call of each contender in each round: (rounds,) each."""
    made = list(turns(contenders, rounds))
    return {name: np.array([times[name] for times in made]) for name in contenders}


def _burst(contender: Contender) -> float:
    for _ in range(SETTLE):
        contender()
    times = []
    for _ in range(BURST):
        began = time.perf_counter()
        contender()
        times.append(1000.0 * (time.perf_counter() - began))
    return float(np.median(times))
