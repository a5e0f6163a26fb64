"""Distances between two samples of feature vectors, in float64, and how far chance alone moves them.

Features are (N, D). A bootstrap resamples the generated images only: the reference is fixed and named.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95


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


@dataclass(frozen=True)
class Moments:
    """The mean (D,) and covariance (D, D) of a sample of features."""

    mean: np.ndarray
    covariance: np.ndarray


def moments(features: np.ndarray, weights: np.ndarray | None = None) -> Moments:
    """Of all rows, or of a bootstrap resample in which row i occurs `weights[i]` times."""
    x = features.astype(np.float64)
    weights = np.ones(len(x)) if weights is None else weights
    mean = weights @ x / weights.sum()
    centred = x - mean
    return Moments(mean, (centred * weights[:, None]).T @ centred / (weights.sum() - 1.0))


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


def frechet(features: np.ndarray, reference: Moments, resamples: int = 50) -> Estimate:
    """The distance of a sample from a reference. It depends on the sample's size: compare at equal N only."""
    root = square_root(reference.covariance)
    value = frechet_distance(moments(features), reference, root)
    resampled = (moments(features, weights) for weights in bootstrap_weights(len(features), resamples))
    draws = [frechet_distance(each, reference, root) for each in resampled]
    return around(value, np.array(draws))


def polynomial_kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(x.y / D + 1)^3 (Binkowski et al. 2018): (N, D), (M, D) -> (N, M)."""
    base = a.astype(np.float64) @ b.astype(np.float64).T / a.shape[1] + 1.0
    return np.asarray(base * base * base)


def self_similarity(features: np.ndarray) -> float:
    """The kernel's mean over all pairs of different rows."""
    within, count = polynomial_kernel(features, features), len(features)
    return float((within.sum() - np.trace(within)) / (count * (count - 1)))


def kernel_distance(
    features: np.ndarray, reference: np.ndarray, resamples: int = 50, other: float | None = None
) -> Estimate:
    """The unbiased squared maximum mean discrepancy of the KID (Gretton et al. 2012, equation 3).

    `other` is the `self_similarity` of the reference, where it is known already.
    """
    constant = self_similarity(reference) if other is None else other
    within = polynomial_kernel(features, features)
    np.fill_diagonal(within, 0.0)
    across = polynomial_kernel(features, reference).mean(1)

    def distance(weights: np.ndarray) -> np.ndarray:  # (R, N) -> (R,)
        total = weights.sum(1)
        pairs = total**2 - (weights**2).sum(1)
        inner = np.einsum("rn,rn->r", weights @ within, weights)
        return np.asarray(inner / pairs + constant - 2.0 * weights @ across / total)

    value = float(distance(np.ones((1, len(features))))[0])
    return around(value, distance(bootstrap_weights(len(features), resamples)))


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


def share(hits: np.ndarray) -> Estimate:
    """The mean of booleans with its Wilson interval."""
    n, p, z = len(hits), float(hits.mean()), 1.959964
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return Estimate(p, float(middle - half), float(middle + half))


def effective_number(labels: np.ndarray, kinds: int, resamples: int = 200) -> Estimate:
    """How many equally frequent kinds would be as hard to foretell: exp of the entropy of (N,) labels, 1 to `kinds`."""
    value = _perplexity(np.bincount(labels, minlength=kinds)[None])[0]
    weights = bootstrap_weights(len(labels), resamples)
    draws = _perplexity(weights @ np.eye(kinds)[labels])
    found = around(float(value), draws)
    return Estimate(found.value, max(found.low, 1.0), min(found.high, float(kinds)))


def _perplexity(counts: np.ndarray) -> np.ndarray:
    """(R, K) counts -> (R,)."""
    shares = counts / counts.sum(1, keepdims=True)
    return np.asarray(np.exp(-np.where(shares > 0, shares * np.log(np.maximum(shares, 1e-12)), 0.0).sum(1)))


def bootstrap_weights(count: int, resamples: int, seed: int = 0) -> np.ndarray:
    """How often each of `count` rows occurs in each resample: (resamples, count)."""
    return (
        np.random.default_rng(seed).multinomial(count, np.full(count, 1.0 / count), size=resamples).astype(np.float64)
    )


def around(value: float, draws: np.ndarray) -> Estimate:
    """`value` with the spread of its draws around their own mean: repeated rows inflate every distance alike."""
    tail = 0.5 * (1.0 - CONFIDENCE)
    low, high = np.quantile(draws - draws.mean(), [tail, 1.0 - tail])
    return Estimate(value, value + float(low), value + float(high))


def percentile(samples: np.ndarray, q: float, resamples: int = 1000) -> Estimate:
    """The q-th percentile of measured values, with a bootstrap interval."""
    draws = np.random.default_rng(0).choice(samples, (resamples, len(samples)))
    low, high = np.quantile(np.percentile(draws, q, axis=1), [0.025, 0.975])
    return Estimate(float(np.percentile(samples, q)), float(low), float(high))
