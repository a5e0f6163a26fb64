"""Scenes with critters and scenes with pot plants, each with a mask of every one of them, and no pair among them.

A scene of either may show figures of the other kind and planets besides: what is not masked is to stay.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from zoo.datasets import Data, scenes
from zoo.datasets.scenes import LABELS

FIGURES, PLANT_IMAGE, PLANTS = "figures", "plant_image", "plants"
CRITTER, PLANT = "critter", "potplant"  # words of labels


def of_kind(label: int, word: str) -> bool:
    return label >= 0 and LABELS[label].endswith(word)


def masked(figures: np.ndarray, labels: np.ndarray, word: str) -> np.ndarray:
    """Those figures of a scene that are of a kind, uint8 (64, 64): 0 elsewhere, else a number of each from 1 on.

    Of whose each pixel is, as `scenes.draw` says it, and each figure's label.
    """
    kept = [place + 1 for place, label in enumerate(labels.astype(int)) if of_kind(label, word)]
    seen = np.zeros(scenes.MOST + 1, np.uint8)
    seen[kept] = np.arange(1, len(kept) + 1)
    return np.asarray(seen[figures])


def examples(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Held-out scenes with critters: pictures, the critters' masks, boxes, and the same scenes with plants instead.

    uint8 (count, 64, 64, 3), uint8 (count, 64, 64), float32 (count, 4, 5), uint8 (count, 64, 64, 3). Of a critter's
    colour and size is its plant, and in its place. Raises DatasetError.
    """
    drawn = []
    for shown, index in scenes.held_out():
        if any(of_kind(each.label, CRITTER) for each in shown.figures):
            seed = f"{scenes.SEED} {index}"
            picture, figures, boxes = scenes.draw(shown, seed)
            with_plants, _, _ = scenes.draw(potted(shown), seed)
            drawn.append((picture, masked(figures, boxes[:, 0], CRITTER), boxes, with_plants))
        if len(drawn) == count:
            break
    first, second, third, fourth = (np.stack(each) for each in zip(*drawn, strict=True))
    return first, second, third, fourth


def potted(shown: scenes.Scene) -> scenes.Scene:
    """The same scene with a pot plant in the place of every critter."""
    figures = tuple(
        dataclasses.replace(each, label=LABELS.index(LABELS[each.label].replace(CRITTER, PLANT)))
        if of_kind(each.label, CRITTER)
        else each
        for each in shown.figures
    )
    return dataclasses.replace(shown, figures=figures)


def load(split: str, source: str | None = None) -> Data:
    """Scenes with critters, uint8 (N, 64, 64, 3), and their masks, `figures`, as `masked`; as many others with plants,
    `plant_image`, and their masks, `plants`. Raises DatasetError."""
    found = scenes.load(split, source)
    figures, boxes = (np.asarray(found.conditions[name]) for name in ("figures", "boxes"))
    masks = {
        word: np.stack([masked(*each, word) for each in zip(figures, boxes[:, :, 0], strict=True)])
        for word in (CRITTER, PLANT)
    }
    there = {word: np.flatnonzero(each.any((1, 2))) for word, each in masks.items()}
    # Of a scene with both it is drawn by its number which of the two it stands for, so that none is on both sides.
    critters = there[CRITTER][there[CRITTER] % 2 == 0]
    plants = there[PLANT][there[PLANT] % 2 == 1]
    count = min(len(critters), len(plants))
    critters, plants = critters[:count], plants[:count]
    return Data(
        found.images[critters],
        {
            FIGURES: masks[CRITTER][critters],
            PLANT_IMAGE: found.images[plants],
            PLANTS: masks[PLANT][plants],
        },
    )


DATASET = dataclasses.replace(
    scenes.DATASET,
    name="critters_and_plants",
    title="Scenes with critters, and others with pot plants",
    shows="critters in a landscape with planets and pot plants, each masked, and other scenes with pot plants masked",
    counts={"train": 1_271, "test": 613},
    load=load,
    labels={FIGURES: ("nothing", "first", "second", "third", "fourth")},
)
