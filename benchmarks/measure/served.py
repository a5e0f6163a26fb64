"""Whether what an endpoint serves is what its bundle makes, and whether it makes it at all.

A few of the answers that were given while the endpoint was timed are compared with the bundle's own images. Where more
differs than rounding explains, the two are compared as distributions, by a window of two sides: images that look better
than the bundle's are not the bundle's. And seeds that are new are timed against one seed again and again, as MLPerf's
compliance test TEST04 does: an endpoint that is faster at the latter keeps its answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.measure.latency import Ask
from benchmarks.statistics import CONFIDENCE, Estimate

CACHED_FROM = 0.9  # of the time of new seeds
PAIRS, PAIR_SECONDS = (10, 100), 0.3  # at least and at most, and when enough is enough
WINDOW_IMAGES = 250

Kept = Sequence[tuple[int, np.ndarray]]  # seeds and the images that were given for them
Own = Callable[[list[int]], np.ndarray]


@dataclass(frozen=True)
class Tolerance:
    """What a precision explains: grey levels, the share of the values of all images that differ at all, and half the
    width of the window in which distributions count as the same, in standard deviations."""

    lsb: int = 1
    differing: float = 0.002
    drift: float = 0.01

    def explains(self, found: Compared) -> bool:
        return found.lsb <= self.lsb and found.differing <= self.differing


ROUNDING = Tolerance()


@dataclass(frozen=True)
class Compared:
    """How some images differ from the bundle's own: grey levels at most, and the share of the values."""

    images: int
    lsb: int
    differing: float


def compare(kept: Kept, own: Own) -> Compared:
    """uint8 (H, W, C) each, against `own` of the same seeds."""
    given, made = np.stack([image for _, image in kept]), own([seed for seed, _ in kept])
    if given.shape != made.shape:
        return Compared(len(kept), 255, 1.0)
    difference = np.abs(given.astype(np.int64) - made)
    return Compared(len(kept), int(difference.max()), float((difference > 0).mean()))


def pooled(parts: Iterable[Mapping[str, Any]]) -> Compared:
    """The comparisons of several runs, as one."""
    every = [Compared(**each) for each in parts]
    images = sum(each.images for each in every)
    differing = sum(each.images * each.differing for each in every) / images
    return Compared(images, max(each.lsb for each in every), differing)


@dataclass(frozen=True)
class Audit:
    """The time of a repeated seed over that of new ones, in pairs of neighbouring calls."""

    ratio: Estimate
    pairs: int

    @property
    def cached(self) -> bool:
        """Faster by a tenth, beyond what chance explains."""
        return self.ratio.high < 1.0 and self.ratio.value < CACHED_FROM


def audit(ask: Ask, first_seed: int) -> Audit:
    """Of one image a call. What could be a cache is looked at again, in as many pairs as there may be."""
    found = _audit(ask, first_seed, PAIRS[0])
    return _audit(ask, first_seed + 2 * PAIRS[1], PAIRS[1]) if found.ratio.value < CACHED_FROM else found


def _audit(ask: Ask, first_seed: int, least: int) -> Audit:
    """Pairs of calls, the order reversed every other time."""
    ratios: list[float] = []
    repeated = first_seed
    ask([repeated])
    began = time.perf_counter()
    while len(ratios) < least or (len(ratios) < PAIRS[1] and time.perf_counter() - began < PAIR_SECONDS):
        new = first_seed + 1 + len(ratios)
        order = (new, repeated) if len(ratios) % 2 else (repeated, new)
        took = {seed: _seconds(ask, seed) for seed in order}
        ratios.append(took[repeated] / took[new])
    return Audit(median(np.array(ratios)), len(ratios))


def median(values: np.ndarray) -> Estimate:
    """With its interval by order statistics (Hahn & Meeker 1991, 5.2): a call that was held up moves neither."""
    from scipy.special import bdtr

    ordered, count = np.sort(values), len(values)
    cut = next(k for k in range(count) if bdtr(k, count, 0.5) > 0.5 * (1.0 - CONFIDENCE))
    cut = max(cut, 1)  # of too few values all are within
    return Estimate(float(np.median(ordered)), float(ordered[cut - 1]), float(ordered[count - cut]))


def _seconds(ask: Ask, seed: int) -> float:
    began = time.perf_counter()
    ask([seed])
    return time.perf_counter() - began


@dataclass(frozen=True)
class Window:
    """The statistic of the images that moved farthest, and whether its interval lies in the window."""

    feature: str
    moved: Estimate
    images: int
    within: bool


def window(ask: Ask, own: Own, first_seed: int, tolerance: Tolerance, batch: int, count: int = WINDOW_IMAGES) -> Window:
    """Served images against the bundle's own, as distributions, of the same seeds."""
    from export.drift import drift

    seeds = list(range(first_seed, first_seed + count))
    parts = [seeds[start : start + batch] for start in range(0, len(seeds), batch)]
    found = drift(np.concatenate([own(part) for part in parts]), np.concatenate([ask(part) for part in parts]))
    moved = Estimate(found.estimate, found.low, found.high)
    return Window(found.feature, moved, found.images, found.within(tolerance.drift))


@dataclass(frozen=True)
class Served:
    """All that was found of the images that a cell served; a window only where rounding does not explain it."""

    compared: Compared
    tolerance: Tolerance
    window: Window | None = None
    cache: Audit | None = None

    @property
    def within(self) -> bool:
        return self.tolerance.explains(self.compared) and (self.window is None or self.window.within)

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {**asdict(self.compared), "within": self.within, "window": None, "cache": None}
        if self.window:
            found["window"] = asdict(self.window)
        if self.cache:
            found["cache"] = {**asdict(self.cache), "cached": self.cache.cached}
        return found
