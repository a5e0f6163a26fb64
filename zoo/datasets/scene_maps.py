"""Scene maps: scenes of three designs, each with a map of what every pixel is of.

A map's classes are the sky and four hills at each of three hours, then each kind of figure in each of its colours. They
are exact: a landscape has no other colours than those of its hour, and figures are drawn one by one.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from zoo.datasets import Data, scenes
from zoo.datasets.portrait_styles import Style
from zoo.datasets.scenes import HOURS, LABELS, Scene

GROUNDS = ("sky", "far hill", "middle hill", "near hill", "front hill")
CLASSES = (*(f"{hour} {ground}" for hour in HOURS for ground in GROUNDS), *LABELS)
FIGURES = len(HOURS) * len(GROUNDS)  # the first class of a figure
MAP = "map"


def rgb(colour: str) -> tuple[int, int, int]:
    """Of "#rrggbb"."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _of_figure(label: str) -> tuple[int, int, int]:
    word, kind = label.split()
    style: Style = next(each for each in scenes.KINDS if each.word == kind)
    return rgb(style.attribute("color").values[word])


COLOURS = np.array([
    *(rgb(colour) for hour in HOURS.values() for colour in hour.values()),
    *(_of_figure(label) for label in LABELS),
], np.int16)  # fmt: skip
"""What each class is painted in, (classes, 3); a critter and a pot plant may have one colour."""


def nearest(images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Which of some classes each pixel's colour is nearest to, (N, H, W), of uint8 (N, H, W, 3)."""
    away = [np.abs(images.astype(np.int16) - COLOURS[each]).sum(axis=-1) for each in classes]
    return np.asarray(classes[np.argmin(away, axis=0)])


def mapped(picture: np.ndarray, hour: str, figures: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A scene's map, uint8 (64, 64): of its picture, whose each pixel is, (64, 64), and each figure's label."""
    first = len(GROUNDS) * tuple(HOURS).index(hour)
    ground = nearest(picture, np.arange(first, first + len(GROUNDS)))
    of_figures = FIGURES + labels.astype(np.int64)
    of_each = of_figures[np.maximum(figures, 1) - 1]
    return np.asarray(np.where(figures > 0, of_each, ground).astype(np.uint8))


def draw(shown: Scene, seed: str = "") -> tuple[np.ndarray, np.ndarray]:
    """A scene's picture, uint8 (64, 64, 3), and its map. Raises DatasetError."""
    picture, figures, boxes = scenes.draw(shown, seed)
    return picture, mapped(picture, shown.hour, figures, boxes[:, 0])


def examples(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Held-out scenes: pictures, uint8 (count, 64, 64, 3), and maps, uint8 (count, 64, 64). Raises DatasetError."""
    kept = itertools.islice(scenes.held_out(), count)
    pictures, maps = zip(*(draw(each, f"{scenes.SEED} {index}") for each, index in kept), strict=True)
    return np.stack(pictures), np.stack(maps)


def load(split: str, source: str | None = None) -> Data:
    """Pictures, uint8 (N, 64, 64, 3), and `map`, uint8 (N, 64, 64), of "train" or "test". Raises DatasetError."""
    found = scenes.load(split, source)
    hours = scenes.hours_of(found.conditions["prompt"])
    figures, boxes = (np.asarray(found.conditions[name]) for name in ("figures", "boxes"))
    shown = zip(found.images, hours, figures, boxes[:, :, 0], strict=True)
    return Data(found.images, {MAP: np.stack([mapped(*each) for each in shown])})


DATASET = dataclasses.replace(
    scenes.DATASET,
    name="scene_maps",
    title="Scenes of three designs and their maps",
    shows=f"critters, pot plants and planets in a landscape, painted from a map of {len(CLASSES)} classes",
    load=load,
    labels={MAP: CLASSES},
)
