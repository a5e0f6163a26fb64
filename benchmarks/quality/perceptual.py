"""A perceptual distance of two images in the maps of a net's depths, and how varied images of one condition are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks import statistics
from benchmarks.quality.features import FeatureNet
from benchmarks.statistics import GROUPS, Jackknifed

ROWS = 50  # pairs at a time: the maps of 32x32 pictures are some 0.2 MB each
MOST_PAIRS = 2_000  # beyond that the interval is narrow enough, and a pair costs two calls of the net


def distance(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> np.ndarray:
    """Of N pairs, from the maps (N, C, H, W) of each depth: (N,) in [0, 4 depths].

    Zhang et al. 2018, equation 1, with all weights 1, as nobody's judgements are at hand to learn from: at each place
    the channels become a unit vector, squared differences are summed over channels, averaged over places, and summed
    over depths.
    """
    parts = [((_unit(x) - _unit(y)) ** 2).sum(1).mean((1, 2)) for x, y in zip(a, b, strict=True)]
    return np.asarray(np.sum(parts, axis=0))


def _unit(maps: np.ndarray) -> np.ndarray:
    return np.asarray(maps / (np.sqrt((maps.astype(np.float32) ** 2).sum(1, keepdims=True)) + 1e-10))


def distances(net: FeatureNet, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of each image of `a` to its partner in `b`, uint8 (N, H, W, C): (N,); what an edit or a student changed."""
    parts = [distance(net.maps(a[i : i + ROWS]), net.maps(b[i : i + ROWS])) for i in range(0, len(a), ROWS)]
    return np.concatenate(parts) if parts else np.empty(0)


def pairs(asked: np.ndarray, most: int = MOST_PAIRS) -> np.ndarray:
    """Each image with the next that was asked for the same, the last with the first: int64 (P, 2)."""
    found = []
    for value in np.unique(asked):
        rows = np.flatnonzero(asked == value)
        if len(rows) > 2 or len(rows) == 2:
            ring = np.stack([rows, np.roll(rows, -1)], axis=1)
            found.append(ring if len(rows) > 2 else ring[:1])
    joined = np.concatenate(found) if found else np.empty((0, 2), np.int64)
    return joined[np.argsort(joined[:, 0], kind="stable")][:most]


def diversity(net: FeatureNet, images: np.ndarray, asked: np.ndarray) -> Jackknifed | None:
    """The mean distance of images that were asked for the same, uint8 (N, H, W, C), (N,); None without pairs.

    It is compared with that of real pictures: less says that a condition always gives nearly the same picture, more
    may be variety or noise, as nothing here knows which.
    """
    chosen = pairs(asked)
    if not len(chosen):
        return None
    found = distances(net, images[chosen[:, 0]], images[chosen[:, 1]])
    first, second = statistics.groups(len(images))[chosen].T
    left_out = np.empty(GROUPS)
    for group in range(GROUPS):
        kept = (first != group) & (second != group)
        left_out[group] = found[kept].mean() if kept.any() else found.mean()
    return Jackknifed(float(found.mean()), left_out)
