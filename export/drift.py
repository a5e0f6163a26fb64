"""Drift: whether a candidate's images are distributed as the reference's, from pairs made of the same seeds.

The features are fixed and cheap, and belong to the gate alone: pooled pixels, contrast, gradient energy, and the
magnitudes of 16 5x5 convolutions whose kernels come from the counter-based noise. For each feature the mean shift, in
standard deviations of the reference, and the spread, the logarithm of the ratio of standard deviations, get a paired
bootstrap interval. The window has two sides: images that look better than the reference are not what was trained.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from zoo.sampling import noise

GRID, KERNELS, KERNEL_SIZE, KERNEL_SEED = 4, 16, 5, 20260
RESAMPLES, LEVEL = 1000, 0.95


@dataclass(frozen=True)
class Drift:
    """The statistic whose interval reaches farthest from 0: `feature` is like "convolution 3 (spread)"."""

    feature: str
    estimate: float
    low: float
    high: float
    images: int

    def within(self, window: float) -> bool:
        return -window <= self.low and self.high <= window


def features(images: np.ndarray) -> dict[str, np.ndarray]:
    """uint8 (N, H, W, C) -> (N,) float64 each."""
    pixels = images.astype(np.float64).mean(-1) / 255.0  # (N, H, W)
    found = {"contrast": pixels.std(axis=(1, 2))}
    found["gradient"] = np.abs(np.diff(pixels, axis=1)).mean((1, 2)) + np.abs(np.diff(pixels, axis=2)).mean((1, 2))
    for row, band in enumerate(np.array_split(pixels, GRID, axis=1)):
        for column, patch in enumerate(np.array_split(band, GRID, axis=2)):
            found[f"brightness {row},{column}"] = patch.mean((1, 2))
    side = min(KERNEL_SIZE, *pixels.shape[1:])  # of the kernels, in images smaller than them
    kernels = noise.normal(range(KERNEL_SEED, KERNEL_SEED + KERNELS), (side, side)).astype(np.float64)
    windows = sliding_window_view(pixels, (side, side), axis=(1, 2))[:, ::2, ::2]
    responses = np.abs(np.tensordot(windows, kernels, axes=((3, 4), (1, 2)))).mean((1, 2))  # (N, KERNELS)
    return found | {f"convolution {index}": responses[:, index] for index in range(KERNELS)}


def drift(reference: np.ndarray, candidate: np.ndarray) -> Drift:
    """The worst statistic of two sets of images, uint8 (N, H, W, C), the same seeds in the same order."""
    before, after = features(reference), features(candidate)
    names = list(before)
    a, b = (np.stack([values[name] for name in names], axis=1) for values in (before, after))  # (N, K)
    count = len(reference)
    rng = np.random.Generator(np.random.Philox(key=0))
    weights = rng.multinomial(count, np.full(count, 1.0 / count), size=RESAMPLES) / count  # (R, N)
    estimates = _statistics(a, b, np.full((1, count), 1.0 / count))[0]
    resampled = _statistics(a, b, weights)
    tail = (1.0 - LEVEL) / 2.0
    low, high = np.quantile(resampled, [tail, 1.0 - tail], axis=0)
    worst = int(np.argmax(np.maximum(np.abs(low), np.abs(high))))
    label = f"{names[worst % len(names)]} ({'shift' if worst < len(names) else 'spread'})"
    return Drift(label, float(estimates[worst]), float(low[worst]), float(high[worst]), count)


def _statistics(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(R, 2 K): shifts, then spreads, of each weighting of the images."""
    scale = a.std(0) + 1e-6
    shifts = weights @ (b - a) / scale
    deviations = [np.sqrt(np.maximum(weights @ v**2 - (weights @ v) ** 2, 0.0)) + 1e-3 * scale for v in (a, b)]
    return np.concatenate([shifts, np.log(deviations[1] / deviations[0])], axis=1)
