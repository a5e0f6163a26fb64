"""Scenes with a box for all that is in them: one of the whole picture, which says the hour, and one of each figure.

As of a picture with stuff and things: what the hour's box shows, the sky and hills, is behind all others.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from zoo.datasets import Data, scenes
from zoo.datasets.scenes import HOURS

BOXES = "boxes"
LABELS = (*HOURS, *scenes.LABELS)
MOST = 1 + scenes.MOST
WHOLE = (0.0, 0.0, 1.0, 1.0)


def of_hour(hours: Sequence[str], figures: np.ndarray) -> np.ndarray:
    """The rows of scenes' hours before those of their figures, float32 (N, 5, 5) of (N, 4, 5), as `scenes.draw`."""
    found = np.concatenate([np.zeros_like(figures[:, :1]), figures], axis=1)
    found[:, 0] = [(tuple(HOURS).index(hour), *WHOLE) for hour in hours]
    found[:, 1:, 0] += np.where(figures[..., 0] >= 0, len(HOURS), 0)
    return found


def examples(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Held-out scenes: pictures, uint8 (count, 64, 64, 3), and their boxes, float32 (count, 5, 5)."""
    kept = list(itertools.islice(scenes.held_out(), count))
    pictures, _, boxes = zip(*(scenes.draw(shown, f"{scenes.SEED} {index}") for shown, index in kept), strict=True)
    return np.stack(pictures), of_hour([shown.hour for shown, _ in kept], np.stack(boxes))


def load(split: str, source: str | None = None) -> Data:
    """Pictures, uint8 (N, 64, 64, 3), and `boxes`, float32 (N, 5, 5), of "train" or "test". Raises DatasetError."""
    found = scenes.load(split, source)
    hours = scenes.hours_of(found.conditions["prompt"])
    return Data(found.images, {BOXES: of_hour(hours, np.asarray(found.conditions["boxes"]))})


DATASET = dataclasses.replace(
    scenes.DATASET,
    name="scene_boxes",
    title="Scenes of three designs and their boxes",
    shows=f"critters, pot plants and planets in a landscape, by boxes of {len(LABELS)} classes",
    load=load,
    labels={BOXES: LABELS},
)
