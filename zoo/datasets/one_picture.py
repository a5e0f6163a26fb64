"""One picture of one person, over and over, told by what it shall become: for Imagic.

Nobody says what it shows. The person is of no other set's words, and only their skin, hair, its cut, glasses and beard
say who it is; TARGETS are what a picture of them may be asked to become, the first while it is learned from.
"""

from __future__ import annotations

import itertools

import numpy as np

from zoo.datasets import Data, Dataset, designs
from zoo.datasets.design_styles import DESIGNS
from zoo.datasets.portrait_styles import LICENCE
from zoo.datasets.portraits import SIZE, VERSIONS, Portrait, draw

STYLE = next(style for style in DESIGNS if style.name == "open-peeps")
WHO = {"skin": "tan", "hair": "white", "top": "mohawk", "glasses": "glasses", "beard": "beard"}
BEFORE = {"face": "calm", "shirt": "blue"}
TARGETS = tuple(itertools.product(("rage", "smile", "awe"), ("red", "green", "yellow", "pink")))  # face, shirt
TIMES = 1000  # the picture, in "train"


def shown(face: str, shirt: str) -> Portrait:
    """The person with this face and shirt."""
    words = {**WHO, "face": face, "shirt": shirt}
    return Portrait(STYLE, {each.name: words[each.name] for each in STYLE.attributes})


def caption(face: str, shirt: str) -> str:
    """What is said of a picture that it shall become."""
    phrases = shown(face, shirt).phrases
    return " ".join((STYLE.word, phrases["face"], phrases["shirt"]))


def picture() -> np.ndarray:
    """The one, uint8 (64, 64, 3). Raises DatasetError."""
    return draw(shown(**BEFORE))


def load(split: str, source: str | None = None) -> Data:
    """Images, uint8 (N, 64, 64, 3) in [0, 255], and the first target's caption as `prompt`, of "train" or "test".

    "test" is the picture once. Raises DatasetError.
    """
    count = TIMES if split == "train" else 1
    return Data(np.repeat(picture()[None], count, 0), {"prompt": [caption(*TARGETS[0])] * count})


DATASET = Dataset(
    name="one_picture",
    title="One person in one picture",
    licence=LICENCE,
    credit=designs.credited([STYLE]),
    shows="one person, and by words what their picture shall become",
    prepared=f"drawn at {SIZE}x{SIZE} by DiceBear {VERSIONS['dicebear-core']} and resvg",
    verified="by the digest of a sample",
    image_shape=(SIZE, SIZE, 3),
    counts={"train": TIMES, "test": 1},
    load=load,
)
