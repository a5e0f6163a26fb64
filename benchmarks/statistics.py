"""How far chance alone moves a metric of generated images, and what two rows' values say of each other.

The reference is fixed and named, so what is by chance is which images were generated. Image i is of group i % GROUPS,
and for every metric there are the values without each of the groups, of which the delete-a-group jackknife (Tukey 1958;
Shao & Tu 1995, section 2.3) makes an interval. As images of one seed are of one group in every row, two rows are
compared by the differences of these values. What the jackknife has too much is taken out of them:

    means               nothing
    smooth functions    what images do by twos counts twice: 1.2 times too wide for a distance near its floor. Leaving
                        out pairs of groups tells how much that is (Efron & Stein 1981). A squared distance is skewed
                        there too: its interval is that of its root
    nearest neighbours  of generated images: all that they do is done together, 1.3 to 1.8 times too wide. Disjoint
                        halves, balanced over the groups (McCarthy 1969), take the place of leaving out
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

CONFIDENCE = 0.95
BETTER, WORSE, ALIKE = "better", "worse", "indistinguishable"  # what a comparison says of the first
GROUPS = 50


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{short(self.value)} ({short(self.low)} to {short(self.high)})"


def short(value: float) -> str:
    """Three digits, never an exponent: 0.012, 4.56, 789, 12,300."""
    if abs(value) >= 1000:
        digits = len(str(int(abs(value)))) - 3
        return f"{round(value, -digits):,.0f}"
    decimals = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 0.095 else 3
    return f"{value:.{decimals}f}"


def groups(count: int) -> np.ndarray:
    """Which group each of `count` images is of: (N,) int64, 0 to GROUPS - 1."""
    return np.arange(count) % GROUPS


@dataclass(frozen=True)
class Verdict:
    """What a comparison of two rows says of the first: "better", "worse" or "indistinguishable" at 95 %.

    `difference` is the first row's value less the second's, with its interval.
    """

    word: str
    difference: Estimate


@dataclass(frozen=True)
class Jackknifed:
    """A metric's value in a sample, and its values without each of the groups: (GROUPS,).

    `count` is of how many images the value is a share, in [0, 1]; 0 for a value that is none. `root` is what
    the interval follows from where the value is known to be skewed.
    """

    value: float
    left_out: np.ndarray
    count: int = 0
    root: Root | None = None

    @property
    def error(self) -> float:
        """The standard error of the value by chance of the draw."""
        return float(np.sqrt(_variance(self.left_out)))

    def times(self, factor: float) -> Jackknifed:
        """In other units."""
        root = self.root and replace(self.root, scale=factor * self.root.scale)
        return Jackknifed(factor * self.value, factor * self.left_out, root=root)

    def estimate(self) -> Estimate:
        """With the interval by Student's t with GROUPS - 1 degrees of freedom; Wilson's (1927) for a share.

        A share's interval takes as many images as would give its error if they were independent (Korn & Graubard 1998).
        """
        quantile = _quantile()
        if self.root is not None:
            return Estimate(self.value, *self.root.interval())
        if not self.count:
            return Estimate(self.value, self.value - quantile * self.error, self.value + quantile * self.error)
        variance = self.value * (1.0 - self.value)
        independent = variance / self.error**2 if self.error > 0.0 and variance > 0.0 else float(self.count)
        return _wilson(self.value, independent, quantile)

    def less(self, other: Jackknifed) -> Jackknifed:
        """The difference, of rows of the same seeds."""
        return Jackknifed(self.value - other.value, self.left_out - other.left_out)

    def against(self, other: Jackknifed, *, lower_is_better: bool) -> Verdict:
        """Whether this is better or worse than another row of the same seeds and the same number of images."""
        paired = self.less(other).estimate()
        if paired.low <= 0.0 <= paired.high:
            return Verdict(ALIKE, paired)
        return Verdict(BETTER if (paired.value < 0.0) == lower_is_better else WORSE, paired)


@dataclass(frozen=True)
class Root:
    """A squared distance d that a skewed metric is a function of: `scale` (d + `shift`), or of `kinds`, kinds exp(-d).

    `left_out` (GROUPS,) are the distance's own, not corrected. It stands on record, as what an interval follows from.
    """

    value: float
    left_out: np.ndarray
    scale: float = 1.0
    shift: float = 0.0
    kinds: int = 0

    def metric(self, distance: float | None = None) -> float:
        """What the metric is at a squared distance; at its own without."""
        d = self.value if distance is None else distance
        return float(self.kinds * np.exp(-d)) if self.kinds else float(self.scale * (d + self.shift))

    def interval(self) -> tuple[float, float]:
        """The metric's."""
        low, high = sorted(map(self.metric, squared(self.value, self.left_out)))
        return low, high

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "value": float(self.value),
            "left_out": self.left_out.tolist(),
            "scale": float(self.scale),
            "shift": float(self.shift),
            "kinds": self.kinds,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Root:
        """Raises TypeError or ValueError for what `to_json` does not give."""
        return cls(**{**found, "left_out": np.array(found["left_out"], dtype=np.float64)})


def mean(values: np.ndarray, *, share: bool = False) -> Jackknifed:
    """The mean of one value an image, (N,); `share` where they are booleans."""
    x, of = values.astype(np.float64), groups(len(values))
    sums, counts = np.bincount(of, x, GROUPS), np.bincount(of, minlength=GROUPS)
    return Jackknifed(float(x.mean()), (x.sum() - sums) / (len(x) - counts), len(x) if share else 0)


def jackknife(
    statistic: Callable[[np.ndarray], float], count: int, *, share: bool = False, in_pairs: bool = False
) -> Jackknifed:
    """Of any smooth function of which of `count` images are kept, (N,) bool.

    It is called for all images and without each group, and `in_pairs` without two groups too, which takes away what the
    jackknife has too much where a value is far from a mean.
    """
    of = groups(count)
    value = statistic(np.ones(count, bool))
    left_out = np.array([statistic(of != group) for group in range(GROUPS)])
    if not in_pairs:
        return Jackknifed(value, left_out, count if share else 0)
    pairs = np.array([statistic((of != i) & (of != j)) for i, j in PAIRS])
    return replace(corrected(value, left_out, pairs), count=count if share else 0)


PAIRS = np.array([(group, (group + away) % GROUPS) for away in range(1, 6) for group in range(GROUPS)])  # (P, 2)


def corrected(value: float, left_out: np.ndarray, pairs: np.ndarray, part: float = 1.0) -> Jackknifed:
    """The values without each group, (GROUPS,), drawn together by as much as their jackknife is too wide.

    `pairs` has the values without both groups of each of PAIRS, (P,), which stand for all pairs. What two groups do
    together is Q = n t - (n - 1) (t_i + t_j) + (n - 2) t_ij, and the jackknife exceeds the variance by the sum of its
    squares over n (n - 1) (Efron & Stein 1981, equation 4.2); at most by half, which is where there is nothing else.
    Where more than two do something together, that is too much, and a `part` of it is taken.
    """
    n, variance = GROUPS, _variance(left_out)
    if variance == 0.0:
        return Jackknifed(value, left_out)
    together = n * value - (n - 1) * left_out[PAIRS].sum(1) + (n - 2) * pairs
    remains = max(0.5, 1.0 - part * float(together.var()) / 2.0 / variance)
    return Jackknifed(value, left_out.mean() + np.sqrt(remains) * (left_out - left_out.mean()))


def chance(value: float, left_out: np.ndarray) -> float:
    """What a smooth function that falls as 1 / N has too much by chance alone (Quenouille 1956), by the values without
    each group: the rest is what it becomes in infinitely many images."""
    return float((GROUPS - 1) * (left_out.mean() - value))


def squared(value: float, left_out: np.ndarray) -> tuple[float, float]:
    """The interval of a squared distance (a norm, a divergence) that chance alone makes larger than 0.

    Its error grows with its root, so what is normal is the root: of the value less half of what it has by chance, where
    the error of the first order ends. `left_out` are not corrected.
    """
    if value <= 0.0:
        return value, value + _quantile() * float(np.sqrt(_variance(left_out)))
    rest = value - 0.5 * float(np.clip(chance(value, left_out), 0.0, value))
    half = _quantile() * np.sqrt(_variance(left_out) / value) / 2.0
    low, high = max(np.sqrt(rest) - half, 0.0), np.sqrt(rest) + half
    return float(value - rest + low**2), float(value - rest + high**2)


def _variance(left_out: np.ndarray) -> float:
    return float((GROUPS - 1) / GROUPS * ((left_out - left_out.mean()) ** 2).sum())


@cache
def halves() -> np.ndarray:
    """Ways to leave one group out and halve the others: (GROUPS - 1, GROUPS) of -1, 0, 1, its rows orthogonal.

    All rows but the first of the conference matrix of Paley (1933) over GF(49), with i^2 = -1, where x is a square if
    its norm is one modulo 7.
    """
    elements = np.array([(a, b) for a in range(7) for b in range(7)])
    norms = ((elements[:, None] - elements) ** 2).sum(2) % 7
    found = np.ones((GROUPS - 1, GROUPS), np.int64)
    found[:, 1:] = np.array([0, 1, 1, -1, 1, -1, -1])[norms]
    return found


FALL = 0.7  # the variance of a share that neighbours decide falls as N^-FALL, as `quality.coverage` finds: 0.6 to 0.9


class Covered:
    """The share of fixed points that some of N generated images cover, added up for some of the points at a time."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.halves = halves()[:, groups(count)]  # (H, N)
        self._points, self._covered = 0, 0
        self._differences = np.zeros(len(self.halves))

    def add(
        self, points: int, rows: np.ndarray, columns: np.ndarray, inside: Callable[[int | None], np.ndarray]
    ) -> None:
        """The next `points` points. (rows, columns) are the pairs of a point and an image that may cover it; `inside`
        says which do, (pairs,) bool: when all images are there for None, else within both halves of that row of
        `halves`."""
        self._points += points
        self._covered += len(np.unique(rows[inside(None)]))
        for half, signs in enumerate(self.halves):
            here, of = inside(half), signs[columns]
            first, second = np.zeros(points, bool), np.zeros(points, bool)
            first[rows[here & (of > 0)]] = True
            second[rows[here & (of < 0)]] = True
            self._differences[half] += int(first.sum()) - int(second.sum())

    def jackknifed(self) -> Jackknifed:
        """The values without each group, which have the variance that the halves' has, brought to all images.

        The first group is in the larger half of every split: its effect is not told from that of one group more, and is
        left to the others.
        """
        value, design = self._covered / self._points, halves()
        effects = (self._differences / self._points) @ design / len(design)  # (G,)
        effects[0] = 0.0
        half = (GROUPS - 1) / (2 * GROUPS)  # of all images
        factor = np.sqrt(half**FALL / 2.0 * GROUPS / (GROUPS - 2))
        return Jackknifed(value, value - factor * effects, self.count)


def _quantile(degrees: int = GROUPS - 1) -> float:
    """Student's t at CONFIDENCE."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.5 * (1.0 + CONFIDENCE)))


def share(hits: np.ndarray) -> Estimate:
    """The mean of independent booleans with its Wilson interval."""
    return _wilson(float(hits.mean()), float(len(hits)), 1.959964)


def _wilson(share: float, count: float, z: float) -> Estimate:
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return Estimate(share, float(min(middle - half, share)), float(max(middle + half, share)))


def percentile(samples: np.ndarray, q: float, resamples: int = 1000) -> Estimate:
    """The q-th percentile of measured values, with a bootstrap interval."""
    draws = np.random.default_rng(0).choice(samples, (resamples, len(samples)))
    low, high = np.quantile(np.percentile(draws, q, axis=1), [0.025, 0.975])
    return Estimate(float(np.percentile(samples, q)), float(low), float(high))


def between_runs(values: np.ndarray) -> Estimate:
    """The geometric mean of one positive value a run, (R,) with R > 1, by Student's t on logarithms.

    Calls of one run share its clock, memory and neighbours, so what a repetition may find is said by runs alone.
    """
    logs = np.log(values.astype(np.float64))
    half = _quantile(len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs))
    return Estimate(*(float(np.exp(logs.mean() + side * half)) for side in (0, -1, 1)))
