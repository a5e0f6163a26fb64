"""Distances between two samples of feature vectors, in float64, and how far chance alone moves them.

Features are (N, D). The reference is fixed and named, so what is by chance is which images were generated. One way says
how much that is, for every metric: the delete-a-group jackknife (Tukey 1958; Shao & Tu 1995, section 2.3). Image i is
of group i % GROUPS; a metric is calculated once for each group that is left out. As images of one seed are of one group
in every row, two rows are compared by the differences of these values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
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

    `count` is of how many images the value is a share, in [0, 1]; 0 for a value that is none.
    """

    value: float
    left_out: np.ndarray
    count: int = 0

    @property
    def error(self) -> float:
        """The standard error of the value by chance of the draw."""
        deviations = self.left_out - self.left_out.mean()
        return float(np.sqrt((GROUPS - 1) / GROUPS * (deviations**2).sum()))

    def estimate(self) -> Estimate:
        """With the interval by Student's t with GROUPS - 1 degrees of freedom; Wilson's (1927) for a share.

        A share's interval takes as many images as would give its error if they were independent (Korn & Graubard 1998).
        """
        if self.count:
            variance = self.value * (1.0 - self.value)
            effective = variance / self.error**2 if self.error > 0.0 and variance > 0.0 else float(self.count)
            return _wilson(self.value, effective, _quantile())
        return Estimate(self.value, self.value - _quantile() * self.error, self.value + _quantile() * self.error)

    def against(self, other: Jackknifed, *, lower_is_better: bool) -> Verdict:
        """Whether this is better or worse than another row of the same seeds and the same number of images."""
        paired = Jackknifed(self.value - other.value, self.left_out - other.left_out).estimate()
        if paired.low <= 0.0 <= paired.high:
            return Verdict("indistinguishable", paired)
        return Verdict("better" if (paired.value < 0.0) == lower_is_better else "worse", paired)


def mean(values: np.ndarray, *, share: bool = False) -> Jackknifed:
    """The mean of one value an image, (N,); `share` where they are booleans."""
    x, of = values.astype(np.float64), groups(len(values))
    sums, counts = np.bincount(of, x, GROUPS), np.bincount(of, minlength=GROUPS)
    left_out = (x.sum() - sums) / (len(x) - counts)
    return Jackknifed(float(x.mean()), left_out, len(x) if share else 0)


def jackknife(statistic: Callable[[np.ndarray], float], count: int, *, share: bool = False) -> Jackknifed:
    """Of any function of which images are kept, (N,) bool; it is called GROUPS + 1 times."""
    of = groups(count)
    left_out = np.array([statistic(of != group) for group in range(GROUPS)])
    return Jackknifed(statistic(np.ones(count, bool)), left_out, count if share else 0)


def _quantile() -> float:
    """Student's t at CONFIDENCE with GROUPS - 1 degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(GROUPS - 1, 0.5 * (1.0 + CONFIDENCE)))


def share(hits: np.ndarray) -> Estimate:
    """The mean of independent booleans with its Wilson interval."""
    return _wilson(float(hits.mean()), float(len(hits)), 1.959964)


def _wilson(share: float, count: float, z: float) -> Estimate:
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return Estimate(share, float(min(middle - half, share)), float(max(middle + half, share)))


@dataclass(frozen=True)
class Moments:
    """The mean (D,) and covariance (D, D) of a sample of features."""

    mean: np.ndarray
    covariance: np.ndarray


def moments(features: np.ndarray) -> Moments:
    """Of all rows."""
    x = features.astype(np.float64)
    mean = x.mean(0)
    centred = x - mean
    return Moments(mean, centred.T @ centred / (len(x) - 1.0))


def square_root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric square root of a positive semi-definite matrix."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(values.clip(min=0.0))) @ vectors.T)


def frechet_distance(a: Moments, b: Moments, root: np.ndarray) -> float:
    """Squared Wasserstein-2 distance of two Gaussians (Dowson & Landau 1982), as in the FID (Heusel et al. 2017).

    `root` is the square root of b's covariance: tr (AB)^1/2 = tr (B^1/2 A B^1/2)^1/2, and that is symmetric.
    """
    cross = np.sqrt(np.linalg.eigvalsh(root @ a.covariance @ root).clip(min=0.0)).sum()
    difference = a.mean - b.mean
    return float(difference @ difference + np.trace(a.covariance) + np.trace(b.covariance) - 2.0 * cross)


def frechet(features: np.ndarray, reference: Moments) -> Jackknifed:
    """The distance of a sample from a reference. It depends on the sample's size: compare at equal N only."""
    root = square_root(reference.covariance)
    return jackknife(lambda kept: frechet_distance(moments(features[kept]), reference, root), len(features))


def polynomial_kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(x.y / D + 1)^3 (Binkowski et al. 2018): (N, D), (M, D) -> (N, M)."""
    base = a.astype(np.float64) @ b.astype(np.float64).T / a.shape[1] + 1.0
    return np.asarray(base * base * base)


def self_similarity(features: np.ndarray) -> float:
    """The kernel's mean over all pairs of different rows."""
    within, count = polynomial_kernel(features, features), len(features)
    return float((within.sum() - np.trace(within)) / (count * (count - 1)))


def kernel_distance(features: np.ndarray, reference: np.ndarray, other: float | None = None) -> Jackknifed:
    """The unbiased squared maximum mean discrepancy of the KID (Gretton et al. 2012, equation 3).

    `other` is the `self_similarity` of the reference, where it is known already.
    """
    constant = self_similarity(reference) if other is None else other
    within = polynomial_kernel(features, features)
    np.fill_diagonal(within, 0.0)
    across = polynomial_kernel(features, reference).mean(1)

    def distance(kept: np.ndarray) -> float:
        weights, total = kept.astype(np.float64), kept.sum()
        return float(weights @ within @ weights / (total * (total - 1)) + constant - 2.0 * weights @ across / total)

    return jackknife(distance, len(features))


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, D), (M, D) -> (N, M), never negative."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2.0 * a @ b.T
    return np.asarray(squares.clip(min=0.0))


def radii(features: np.ndarray, k: int = 3) -> np.ndarray:
    """The squared distance from each row to its k-th nearest neighbour among the others: (N,)."""
    return np.asarray(np.partition(squared_distances(features, features), k, axis=1)[:, k])


def within_manifold(points: np.ndarray, manifold: np.ndarray, squared_radii: np.ndarray) -> np.ndarray:
    """Whether each point lies in a ball around a row of `manifold` (Kynkäänniemi et al. 2019, eq. 1): (N,) bool."""
    return np.asarray((squared_distances(points, manifold) <= squared_radii).any(1))


def recall(features: np.ndarray, real: np.ndarray, k: int = 3) -> Jackknifed:
    """The share of real rows within the manifold of the generated ones (Kynkäänniemi et al. 2019, eq. 2)."""

    def covered(kept: np.ndarray) -> float:
        return float(within_manifold(real, features[kept], radii(features[kept], k)).mean())

    return jackknife(covered, len(features), share=True)


def effective_number(labels: np.ndarray, kinds: int) -> Jackknifed:
    """How many equally frequent kinds would be as hard to foretell: exp of the entropy of (N,) labels, 1 to `kinds`."""
    return jackknife(lambda kept: float(_perplexity(np.bincount(labels[kept], minlength=kinds)[None])[0]), len(labels))


def _perplexity(counts: np.ndarray) -> np.ndarray:
    """(R, K) counts -> (R,)."""
    shares = counts / counts.sum(1, keepdims=True)
    return np.asarray(np.exp(-np.where(shares > 0, shares * np.log(np.maximum(shares, 1e-12)), 0.0).sum(1)))


def percentile(samples: np.ndarray, q: float, resamples: int = 1000) -> Estimate:
    """The q-th percentile of measured values, with a bootstrap interval."""
    draws = np.random.default_rng(0).choice(samples, (resamples, len(samples)))
    low, high = np.quantile(np.percentile(draws, q, axis=1), [0.025, 0.975])
    return Estimate(float(np.percentile(samples, q)), float(low), float(high))


def between_runs(values: np.ndarray) -> Estimate:
    """The geometric mean of one positive value a run, (R,) with R > 1, by Student's t on logarithms.

    Calls of one run share its clock, memory and neighbours, so what a repetition may find is said by runs alone.
    """
    from scipy.special import stdtrit

    logs = np.log(values.astype(np.float64))
    half = stdtrit(len(logs) - 1, 0.5 * (1.0 + CONFIDENCE)) * logs.std(ddof=1) / np.sqrt(len(logs))
    return Estimate(*(float(np.exp(logs.mean() + side * half)) for side in (0, -1, 1)))
