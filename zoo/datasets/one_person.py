"""One person in five pictures, called by a word of their own, and others of the same design beside them.

For textual inversion and DreamBooth: who it is follows from IDENTITY alone, so a generator's picture can be judged
attribute by attribute; what varies is what a prompt asks for. Half of "train" is the five pictures over and over, the
other half pictures of "designs", told as they are there, which keep what a network knows of everybody else. "test" has
the person with every face and shirt that no picture of "train" shows together.
"""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np

from zoo.datasets import Data, Dataset, designs
from zoo.datasets.design_styles import DESIGNS
from zoo.datasets.portrait_styles import LICENCE
from zoo.datasets.portraits import SIZE, VERSIONS, Portrait, draw

WORD = "robin"
STYLE = next(style for style in DESIGNS if style.name == "open-peeps")
IDENTITY = {"skin": "bronze", "hair": "red", "top": "curly", "glasses": "glasses", "beard": "none"}
SEEN = (("smile", "blue"), ("calm", "green"), ("awe", "pink"), ("rage", "yellow"), ("smile", "red"))  # face, shirt
OTHERS = 1000  # pictures of "designs", and as many of the person


def shown(face: str, shirt: str) -> Portrait:
    """The person with this face and shirt."""
    words = {**IDENTITY, "face": face, "shirt": shirt}
    return Portrait(STYLE, {each.name: words[each.name] for each in STYLE.attributes})


def caption(face: str, shirt: str) -> str:
    """What is said of such a picture: the person's word, and what it wears and how it looks."""
    phrases = shown(face, shirt).phrases
    return " ".join((STYLE.word, WORD, phrases["face"], phrases["shirt"]))


UNSEEN = tuple(
    pair
    for pair in itertools.product(*(STYLE.attribute(name).words for name in ("face", "shirt")))
    if pair not in SEEN and pair[0] != "cyclops"
)
EXAMPLES = tuple(caption(*pair) for pair in UNSEEN[:: len(UNSEEN) // 12])[:12]


@cache
def _pictures(pairs: tuple[tuple[str, str], ...]) -> np.ndarray:
    return np.stack([draw(shown(*pair)) for pair in pairs])


def load(split: str, source: str | None = None) -> Data:
    """Images, uint8 (N, 64, 64, 3) in [0, 255], and captions as `prompt`, of "train" or "test". Raises DatasetError."""
    if split == "test":
        return Data(_pictures(UNSEEN), {"prompt": [caption(*pair) for pair in UNSEEN]})
    others = designs.load("train", source)
    rows = np.random.default_rng(0).choice(len(others), OTHERS, replace=False)
    turns = np.arange(OTHERS) % len(SEEN)
    told = [others.conditions["prompt"][row] for row in rows] + [caption(*SEEN[turn]) for turn in turns]
    return Data(np.concatenate([others.images[rows], _pictures(SEEN)[turns]]), {"prompt": told})


DATASET = Dataset(
    name="one_person",
    title="One person in five pictures",
    licence=LICENCE,
    credit=designs.credited([STYLE]),
    shows=f"one person called {WORD}, with other faces and shirts, and others beside",
    prepared=f"drawn at {SIZE}x{SIZE} by DiceBear {VERSIONS['dicebear-core']} and resvg",
    verified="by the digest of a sample",
    image_shape=(SIZE, SIZE, 3),
    counts={"train": 2 * OTHERS, "test": len(UNSEEN)},
    load=load,
)
