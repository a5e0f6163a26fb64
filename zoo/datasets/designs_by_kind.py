"""Designs by their kind alone: the pictures of `designs`, and which of the twelve designs each is of.

What a generator that knows classes is trained on, where one that reads has captions.
"""

from __future__ import annotations

import dataclasses

from zoo.datasets import Data, designs
from zoo.datasets.design_styles import DESIGNS


def load(split: str, source: str | None = None) -> Data:
    """Images, uint8 (N, 64, 64, 3), and their `class_id`, int64 (N,), of "train" or "test". Raises DatasetError."""
    found = designs.load(split, source)
    kind = list(designs.HEADS).index((designs.STYLE, designs.STYLE))
    return Data(found.images, {"class_id": found.conditions["attributes"][:, kind]})


DATASET = dataclasses.replace(
    designs.DATASET,
    name="designs_by_kind",
    title="Portraits in twelve designs, by design",
    shows="critters, pot plants, people, robots and more by the kind alone, as 64x64 colour pictures",
    load=load,
    labels={"class_id": tuple(style.word for style in DESIGNS)},
)
