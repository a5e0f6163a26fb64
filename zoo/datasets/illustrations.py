"""Illustrations: designs, scenes and emoji together, for what has to know any picture of them, as a first stage does.

Emoji are few, so each is there as often as makes them a tenth of the training pictures.
"""

from __future__ import annotations

import numpy as np

from zoo.datasets import Data, Dataset, designs, emoji, scenes
from zoo.datasets.portraits import SIZE

PARTS = (designs, scenes, emoji)
SHARE = 0.1  # of emoji


def load(split: str, source: str | None = None) -> Data:
    """Images, uint8 (N, 64, 64, 3), of "train" or "test", and `prompt`. Raises DatasetError.

    `source` is nothing here: each of the three is in its own usual place.
    """
    found = [part.load(split, None) for part in PARTS]
    *many, few = (len(each) for each in found)
    times = [1, 1, max(1, round(SHARE / (1.0 - SHARE) * sum(many) / few)) if split == "train" else 1]
    images = np.concatenate([np.tile(each.images, (often, 1, 1, 1)) for each, often in zip(found, times, strict=True)])
    prompts = [each.conditions["prompt"] for each in found]
    return Data(
        images, {"prompt": [one for each, often in zip(prompts, times, strict=True) for one in [*each] * often]}
    )


DATASET = Dataset(
    name="illustrations",
    title="Designs, scenes and emoji",
    licence=f"{designs.DATASET.licence} and, for the emoji, {emoji.DATASET.licence}",
    credit="; ".join(part.DATASET.credit for part in PARTS),
    shows="figures of twelve designs, scenes of them, and emoji, as 64x64 colour pictures",
    prepared=f"drawn at {SIZE}x{SIZE} by DiceBear and resvg",
    verified="by the digest of samples",
    image_shape=(SIZE, SIZE, 3),
    counts={"train": 46_268, "test": 12_503},
    load=load,
)
