"""What is no piece of clothing: reconstruction error as an anomaly score, of the plain and the denoising autoencoder.

Unseen clothes against the outlines of OpenMoji, against clothes turned by a quarter, and against clothes under noise.
An area under the curve of 1 keeps the two apart, 0.5 is a coin, and what is below would serve with its sign changed.
Brightness alone is shown beside it, because a score that tells no more than that has learned nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from benchmarks.statistics import Estimate
from benchmarks.studies import Cells, Findings, Study, value
from zoo import registry
from zoo.datasets import fashion_mnist, openmoji
from zoo.images import to_pixels
from zoo.training.loop import chunks

CHECKPOINTS, IMAGES, NOISE = ("ae", "dae"), 2000, 0.2
Score = Callable[[np.ndarray], np.ndarray]  # float (N, C, H, W) in [-1, 1] -> (N,), the larger the stranger


def run() -> Findings:
    clothes = to_pixels(fashion_mnist.load("test").images[:IMAGES])
    strangers = dict(anomalies(clothes))
    rows: list[Cells] = []
    for name, score in scores():
        normal = score(clothes)
        found = [area_under_curve(normal, score(pictures)) for pictures in strangers.values()]
        rows.append((name, *(f"{e.value:.3f} ({e.low:.3f} to {e.high:.3f})" for e in found)))
    return Findings(("score", *strangers), tuple(rows), _answer(rows, list(strangers)))


def anomalies(clothes: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """What is to be told from clothes, by name."""
    generator = np.random.default_rng(0)
    outlines = openmoji.outlines()
    yield "outlines", to_pixels(outlines[generator.permutation(len(outlines))[:IMAGES]])
    yield "turned", np.ascontiguousarray(np.rot90(clothes, axes=(2, 3)))
    noise = generator.normal(0.0, NOISE, clothes.shape).astype(np.float32)
    yield "under noise", (clothes + noise).clip(-1.0, 1.0)


def scores() -> Iterator[tuple[str, Score]]:
    yield "brightness", lambda pixels: np.asarray(pixels.mean((1, 2, 3)))
    for name in CHECKPOINTS:
        yield f"error of {name}", reconstruction_error(registry.load_module(registry.checkpoint(name)))


def reconstruction_error(model: Any) -> Score:
    """The mean squared error of each picture."""

    def score(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            parts = [
                (model.reconstruct(part) - part).square().mean((1, 2, 3)) for part in chunks(torch.from_numpy(pixels))
            ]
        return torch.cat(parts).numpy()

    return score


def area_under_curve(normal: np.ndarray, strange: np.ndarray) -> Estimate:
    """The chance that a strange picture scores above a normal one, ties half, with DeLong's interval (1988)."""
    above, below = _placements(strange, normal), 1.0 - _placements(normal, strange)
    value = float(above.mean())
    deviation = np.sqrt(above.var(ddof=1) / len(above) + below.var(ddof=1) / len(below))
    return Estimate(value, max(0.0, value - 1.96 * deviation), min(1.0, value + 1.96 * deviation))


def _placements(points: np.ndarray, among: np.ndarray) -> np.ndarray:
    """For each point the share of `among` that lies below it, ties counting half."""
    ordered = np.sort(among)
    return (np.searchsorted(ordered, points, "left") + np.searchsorted(ordered, points, "right")) / (2.0 * len(among))


def _answer(rows: list[Cells], names: list[str]) -> str:
    plain, denoising = ([value(cell) for cell in row[1:]] for row in rows[1:])
    said = [f"{d - p:+.3f} on {name}" for name, p, d in zip(names, plain, denoising, strict=True)]
    return f"Denoising moves the area under the curve by {', '.join(said)}, against the plain autoencoder."


STUDY = Study(
    "Does the reconstruction error tell what is no piece of clothing, and does denoising help?",
    CHECKPOINTS,
    run,
    {"images": IMAGES, "noise": NOISE, "openmoji": openmoji.DIGEST},
)
