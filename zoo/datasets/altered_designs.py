"""Designs beside a picture that is the same but for one or two things, and a caption that says what those are here.

For what takes a picture and words: the picture shows all but what differs, the words say that, and something else at
times. What is wanted is of combinations that "train" of "designs" shows or not, as the split says; the picture beside
it is drawn with other words. Nothing that is absent is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo import files
from zoo.datasets import Data, Dataset, designs
from zoo.datasets.design_styles import DESIGNS
from zoo.datasets.portrait_styles import ABSENT, LICENCE
from zoo.datasets.portraits import SEED, SIZE, VERSIONS, Portrait, draw, drawn_once, identity, numbered
from zoo.datasets.svg import one_by_one

COUNT = 2000  # of each style, both splits together
SAID_TOO = 0.2  # of what does not differ
REFERENCE = "reference"


@dataclass(frozen=True)
class Pair:
    """What is wanted, what the picture beside it shows, what differs, and what is said."""

    wanted: Portrait
    beside: Portrait
    differing: tuple[str, ...]
    caption: str


def pair(wanted: Portrait, number: np.random.Generator) -> Pair:
    there = [name for name, word in wanted.words.items() if word != ABSENT]
    differing = tuple(number.choice(there, min(len(there), 1 + int(number.integers(2))), replace=False).tolist())
    beside = wanted
    for name in differing:
        others = [word for word in wanted.style.attribute(name).words if word != wanted.words[name]]
        beside = beside.with_word(name, str(number.choice(others)))
    said = [phrase for name, phrase in wanted.phrases.items() if name in differing or number.random() < SAID_TOO]
    return Pair(wanted, beside, differing, " ".join(number.permutation([wanted.style.word, *said]).tolist()))


def pairs(count: int) -> list[tuple[Pair, str]]:
    """Of the first `count` portraits of each style, each with the seed of its pictures."""
    return [
        (pair(shown, np.random.default_rng([SEED, row])), seed)
        for row, (shown, seed) in enumerate(numbered(SEED, count, DESIGNS))
    ]


def load(split: str, source: str | None = None, *, count: int = COUNT) -> Data:
    """Images and, as `reference`, the pictures beside them, uint8 (N, 64, 64, 3) in [0, 255], and a `prompt` of each.

    Of "train" or "test"; drawn once, in about three minutes. Raises DatasetError.
    """
    name = files.identify([identity(SEED, count, DESIGNS), SAID_TOO])
    kept = drawn_once(DATASET.name, name, lambda: _drawn(count), source)
    wanted = kept["held_out"] == (split == "test")
    conditions = {"prompt": kept["captions"][wanted].tolist(), REFERENCE: kept[REFERENCE][wanted]}
    return Data(kept["images"][wanted], conditions)


def _drawn(count: int) -> dict[str, np.ndarray]:
    found = pairs(count)
    drawn = [(draw(each.wanted, seed), draw(each.beside, seed)) for each, seed in one_by_one(found, DATASET.name)]
    return {
        "images": np.stack([first for first, _ in drawn]),
        REFERENCE: np.stack([second for _, second in drawn]),
        "captions": np.array([each.caption for each, _ in found]),
        "held_out": np.array([each.wanted.held_out for each, _ in found]),
    }


DATASET = Dataset(
    name="altered_designs",
    title="Portraits in twelve designs beside altered ones",
    licence=LICENCE,
    credit=designs.credited(DESIGNS),
    shows="the designs' portraits by a picture that differs in one or two things, and words that say which",
    prepared=f"drawn at {SIZE}x{SIZE} by DiceBear {VERSIONS['dicebear-core']} and resvg",
    verified="by the digest of a sample",
    image_shape=(SIZE, SIZE, 3),
    counts={"train": 18_665, "test": 5_335},
    load=load,
)
