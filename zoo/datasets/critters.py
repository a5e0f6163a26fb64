"""Critters: the one design of the portraits of which every picture is a creature of parts and colours, front view.

What a generator of one design makes can be judged by what varies in it: nine colours, six shapes, seven tops, seven
pairs of eyes, six mouths and six grounds, all of them equally frequent.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from zoo.datasets import Data, portraits
from zoo.datasets.designs import credited
from zoo.datasets.portrait_styles import STYLES, vocabulary

CRITTER = next(style for style in STYLES if style.name == "critters")
WORDS = vocabulary((CRITTER,))


def load(split: str, source: str | None = None) -> Data:
    """Images, uint8 (N, 64, 64, 3), and their captions as `prompt`, of "train" or "test". Raises DatasetError."""
    found = portraits.load(split, source)
    captions = found.conditions["prompt"]
    kept = np.array([CRITTER.word in caption.split() for caption in captions])
    return Data(found.images[kept], {"prompt": [said for said, here in zip(captions, kept, strict=True) if here]})


DATASET = dataclasses.replace(
    portraits.DATASET,
    name="critters",
    title="Critters, one design of the portraits",
    credit=credited((CRITTER,)),
    shows="critters of nine colours and six shapes, with horns, crowns and the like",
    counts={"train": 3_835, "test": 1_165},
    load=load,
    judged_by="designs",
    asks=("prompt",),
)
