"""Distances between generated and real features, in float64, each with its values without each group of images.

Features are (N, D). All that is quadratic in N is calculated a few rows at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.statistics import GROUPS, PAIRS, Covered, Jackknifed, Root, chance, corrected, groups, mean

AT_ONCE = 1 << 22  # values of a part of a matrix of distances


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


def frechet(features: np.ndarray, reference: Moments) -> tuple[Jackknifed, Jackknifed]:
    """The distance of a sample from a reference, and what it becomes in infinitely many images.

    The first depends on the sample's size: compare at equal N only. It falls as 1 / N (Chong & Forsyth 2020), and the
    second is where the line through all images and all but a group ends.
    """
    parts = _Sums.of_groups(features, reference)
    whole = parts.total()
    without = whole - parts
    value, left_out = float(whole.distance()), without.distance()
    pairs = np.concatenate([(without[each[:, 0]] - parts[each[:, 1]]).distance() for each in np.split(PAIRS, 5)])
    root, excess = Root(value, left_out), chance(value, left_out)
    found = replace(corrected(value, left_out, pairs), root=root)
    return found, Jackknifed(value - excess, found.left_out - excess, root=replace(root, shift=-excess))


@dataclass(frozen=True)
class _Sums:
    """Sums over some images, of which their distance follows, so that a group is taken out without a look at the rest.

    Of x less the reference's mean, with R the root of the reference's covariance and one or no axis of groups in front.
    """

    count: np.ndarray  # (...)
    first: np.ndarray  # x, (..., D)
    second: np.ndarray  # R x x^T R, (..., D, D)
    square: np.ndarray  # |x|^2, (...)
    root: np.ndarray
    trace: float  # of the reference's covariance

    @classmethod
    def of_groups(cls, features: np.ndarray, reference: Moments) -> _Sums:
        root, of = square_root(reference.covariance), groups(len(features))
        x = features.astype(np.float64) - reference.mean
        parts = [x[of == group] for group in range(GROUPS)]
        return cls(
            np.array([len(part) for part in parts], np.float64),
            np.stack([part.sum(0) for part in parts]),
            np.stack([(part @ root).T @ (part @ root) for part in parts]),
            np.array([(part**2).sum() for part in parts]),
            root,
            float(np.trace(reference.covariance)),
        )

    def total(self) -> _Sums:
        return self._each(lambda sums: sums.sum(0))

    def __getitem__(self, picked: np.ndarray) -> _Sums:
        return self._each(lambda sums: sums[picked])

    def _each(self, change: Callable[[np.ndarray], np.ndarray]) -> _Sums:
        sums = (change(self.count), change(self.first), change(self.second), change(self.square))
        return _Sums(*sums, root=self.root, trace=self.trace)

    def __sub__(self, other: _Sums) -> _Sums:
        first, second = self.first - other.first, self.second - other.second
        return _Sums(self.count - other.count, first, second, self.square - other.square, self.root, self.trace)

    def distance(self) -> np.ndarray:
        """As `frechet_distance`, (...)."""
        mean, degrees = self.first / self.count[..., None], self.count - 1.0
        turned, squared = mean @ self.root, (mean**2).sum(-1)
        outer = self.count[..., None, None] * turned[..., :, None] * turned[..., None, :]
        product = (self.second - outer) / degrees[..., None, None]
        cross = np.sqrt(np.linalg.eigvalsh(product).clip(min=0.0)).sum(-1)
        own = (self.square - self.count * squared) / degrees
        return np.asarray(squared + own + self.trace - 2.0 * cross)


def polynomial_kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(x.y / D + 1)^3 (Binkowski et al. 2018): (N, D), (M, D) -> (N, M)."""
    base = a.astype(np.float64) @ b.astype(np.float64).T / a.shape[1] + 1.0
    return np.asarray(base * base * base)


def self_similarity(features: np.ndarray) -> float:
    """The kernel's mean over all pairs of different rows."""
    count = len(features)
    total = sum(float(polynomial_kernel(part, features).sum()) for part in _parts(features, count))
    return (total - float(_norms(features).sum())) / (count * (count - 1))


def kernel_distance(features: np.ndarray, reference: np.ndarray, other: float | None = None) -> Jackknifed:
    """The unbiased squared maximum mean discrepancy of the KID (Gretton et al. 2012, equation 3).

    `other` is the `self_similarity` of the reference, where it is known already.
    """
    constant = self_similarity(reference) if other is None else other
    of = groups(len(features))
    across = np.concatenate([polynomial_kernel(part, reference).mean(1) for part in _parts(features, len(reference))])
    counts, between = np.bincount(of, minlength=GROUPS).astype(np.float64), np.bincount(of, across, GROUPS)
    diagonal = np.bincount(of, _norms(features), GROUPS)
    blocks = _kernel_blocks(features)  # (G, G)
    rows, own = blocks.sum(1), np.diag(blocks)

    def distance(count: Any, within: Any, sum_across: Any) -> Any:
        return within / (count * (count - 1.0)) + constant - 2.0 * sum_across / count

    count, within, total = counts.sum(), blocks.sum(), between.sum()
    value = float(distance(count, within, total))
    left, kept = count - counts, within - 2.0 * rows + own
    left_out = distance(left, kept, total - between)
    i, j = PAIRS.T
    pairs = distance(
        left[i] - counts[j], kept[i] - 2.0 * (rows[j] - blocks[i, j]) + own[j], total - between[i] - between[j]
    )

    # The squared distance of the two mean embeddings (equation 5) differs by the rows' own similarities.
    excess = (diagonal.sum() - within / (count - 1.0)) / count**2
    without = (diagonal.sum() - diagonal - kept / (left - 1.0)) / left**2
    of_real = float(_norms(reference).mean() - constant) / len(reference)
    root = Root(value + excess + of_real, left_out + without + of_real, shift=-float(excess + of_real))
    return replace(corrected(value, left_out, pairs), root=root)


def _norms(features: np.ndarray) -> np.ndarray:
    """The kernel of each row and itself: (N,)."""
    return np.asarray((np.square(features.astype(np.float64)).sum(1) / features.shape[1] + 1.0) ** 3)


def _kernel_blocks(features: np.ndarray) -> np.ndarray:
    """The kernel's sums over pairs of different rows of two groups: (GROUPS, GROUPS)."""
    of, found = groups(len(features)), np.zeros((GROUPS, GROUPS))
    order = np.argsort(of, kind="stable")
    by_group, starts = features[order], np.searchsorted(of[order], np.arange(GROUPS))
    for start, part in zip(_starts(features, len(features)), _parts(features, len(features)), strict=True):
        here = of[start : start + len(part)]
        sums = np.add.reduceat(polynomial_kernel(part, by_group), starts, axis=1)  # (n, G)
        sums[np.arange(len(part)), here] -= _norms(part)
        np.add.at(found, here, sums)
    return found


def _starts(rows: np.ndarray, columns: int) -> range:
    return range(0, len(rows), max(1, AT_ONCE // columns))


def _parts(rows: np.ndarray, columns: int) -> Iterator[np.ndarray]:
    """The rows, as many at a time as make a matrix with so many columns that memory holds."""
    step = max(1, AT_ONCE // columns)
    return (rows[start : start + step] for start in _starts(rows, columns))


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, D), (M, D) -> (N, M), never negative."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2.0 * a @ b.T
    return np.asarray(squares.clip(min=0.0))


def radii(features: np.ndarray, k: int = 3) -> np.ndarray:
    """The squared distance from each row to its k-th nearest neighbour among the others: (N,)."""
    return np.concatenate(
        [np.partition(squared_distances(part, features), k, axis=1)[:, k] for part in _parts(features, len(features))]
    )


def within_manifold(points: np.ndarray, manifold: np.ndarray, squared_radii: np.ndarray) -> np.ndarray:
    """Whether each point lies in a ball around a row of `manifold` (Kynkäänniemi et al. 2019, eq. 1): (N,) bool."""
    parts = _parts(points, len(manifold))
    return np.concatenate([(squared_distances(part, manifold) <= squared_radii).any(1) for part in parts])


def precision(features: np.ndarray, real: np.ndarray, squared_radii: np.ndarray) -> Jackknifed:
    """The share of generated rows within the manifold of the real ones, whose `radii` are known."""
    return mean(within_manifold(features, real, squared_radii), share=True)


def recall(features: np.ndarray, real: np.ndarray, k: int = 3) -> Jackknifed:
    """The share of real rows within the manifold of the generated ones (Kynkäänniemi et al. 2019, eq. 2)."""
    found = Covered(len(features))
    whole, halved = _radii_of_halves(features, found.halves, k)
    largest = np.maximum(whole, halved.max(0))
    for part in _parts(real, len(features)):
        squares = squared_distances(part, features)
        rows, columns = np.nonzero(squares <= largest)
        near = squares[rows, columns]

        def inside(half: int | None, near: np.ndarray = near, columns: np.ndarray = columns) -> np.ndarray:
            return np.asarray(near <= (whole if half is None else halved[half])[columns])

        found.add(len(part), rows, columns, inside)
    return found.jackknifed()


LISTED = 32  # nearest neighbours of a row, of which k are nearly always of its own half


def _radii_of_halves(features: np.ndarray, signs: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The squared radii (N,) among all rows, and (H, N) among those of a row's own half, by `signs` (H, N); -1 where
    that is 0."""
    listed = min(LISTED, len(features) - 1)
    whole, halved = np.empty(len(features)), np.full(signs.shape, -1.0)
    for start, part in zip(_starts(features, len(features)), _parts(features, len(features)), strict=True):
        here = np.arange(start, start + len(part))
        squares = squared_distances(part, features)
        squares[np.arange(len(part)), here] = np.inf
        nearest = np.argpartition(squares, listed - 1, axis=1)[:, :listed]
        nearest = np.take_along_axis(nearest, np.take_along_axis(squares, nearest, 1).argsort(1), 1)
        distances = np.take_along_axis(squares, nearest, 1)  # (n, listed), rising
        whole[here] = distances[:, k - 1]
        for half, sign in enumerate(signs):
            rank = (sign[nearest] == sign[here][:, None]).cumsum(1)
            found = np.take_along_axis(distances, (rank >= k).argmax(1)[:, None], 1)[:, 0]
            for row in np.flatnonzero((rank[:, -1] < k) & (sign[here] != 0)):  # farther than all that are listed
                found[row] = np.partition(squares[row][sign == sign[here[row]]], k - 1)[k - 1]
            halved[half, here] = np.where(sign[here] == 0, -1.0, found)
    return whole, halved


def effective_number(labels: np.ndarray, kinds: int) -> Jackknifed:
    """How many equally frequent kinds would be as hard to foretell: exp of the entropy of (N,) labels, 1 to `kinds`."""
    counts = np.zeros((GROUPS, kinds))
    np.add.at(counts, (groups(len(labels)), labels), 1.0)
    whole = counts.sum(0)
    without = whole - counts
    value, left_out = float(_perplexity(whole)), _perplexity(without)
    pairs = _perplexity(without[PAIRS[:, 0]] - counts[PAIRS[:, 1]])
    root = Root(float(np.log(kinds / value)), np.log(kinds / left_out), kinds=kinds)  # the divergence from all alike
    return replace(corrected(value, left_out, pairs), root=root)


def _perplexity(counts: np.ndarray) -> np.ndarray:
    """(..., K) counts -> (...)."""
    shares = counts / counts.sum(-1, keepdims=True)
    return np.asarray(np.exp(-np.where(shares > 0, shares * np.log(np.maximum(shares, 1e-12)), 0.0).sum(-1)))
