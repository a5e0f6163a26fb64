"""Faces: the people among the portraits, in two designs, with the colours of their hair and skin.

Those whose hair is of a colour that both designs have. What one face is with another colour of hair or skin is drawn as
exactly as the face itself (`altered`), so a change of one of them can be judged by its truth.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np

from zoo.datasets import Data, portraits
from zoo.datasets.designs import credited
from zoo.datasets.parts import counterfactual
from zoo.datasets.portrait_styles import STYLES
from zoo.datasets.portraits import Portrait, portrait, read

PEOPLE = tuple(style for style in STYLES if style.name in ("voxel-art", "open-peeps"))
COLOURS = {"hair": ("black", "brown", "blond", "red"), "skin": ("light", "tan", "bronze", "deep")}
CHANGES = tuple((name, word) for name, words in COLOURS.items() for word in words)  # one attribute, and what it becomes
CHANGE = "change"


def is_here(shown: Portrait) -> bool:
    return shown.style in PEOPLE and all(shown.words[name] in words for name, words in COLOURS.items())


def places(shown: Portrait) -> list[int]:
    """Which of its colours each attribute has."""
    return [words.index(shown.words[name]) for name, words in COLOURS.items()]


def examples() -> Iterator[tuple[Portrait, str]]:
    """Held-out faces without end, of both designs in turn, each with the seed of its picture."""
    for index in itertools.count():
        for style in PEOPLE:
            shown = portrait(style, index)
            if shown.held_out and is_here(shown):
                yield shown, f"{portraits.SEED} {index}"


def altered(shown: Portrait, seed: str, change: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A face, the same after a change of CHANGES, and where they differ, as `parts.counterfactual`."""
    return counterfactual(shown, *CHANGES[change], seed)


def load(split: str, source: str | None = None) -> Data:
    """Faces, uint8 (N, 64, 64, 3), and `colours`, int64 (N, 2): of hair and of skin. Raises DatasetError."""
    found = portraits.load(split, source)
    shown = [read(said) for said in found.conditions["prompt"]]
    kept = np.array([is_here(each) for each in shown])
    colours = np.array([places(each) for each, here in zip(shown, kept, strict=True) if here], np.int64)
    return Data(found.images[kept], {"colours": colours})


DATASET = dataclasses.replace(
    portraits.DATASET,
    name="faces",
    title="People in two designs",
    credit=credited(PEOPLE),
    shows="voxel people and peeps with hair of four colours and skin of four",
    counts={"train": 5_829, "test": 1_556},
    load=load,
    labels={CHANGE: tuple(f"{word} {name}" for name, word in CHANGES)},
)
