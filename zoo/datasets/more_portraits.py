"""More portraits: other pictures of all combinations, for whoever judges generators of portraits.

A judge must have seen the combinations that a generator has not, or it fails on real pictures of them; and it must not
have seen the pictures that the generator has.
"""

from __future__ import annotations

import dataclasses

from zoo.datasets import Data, portraits
from zoo.datasets.portrait_styles import STYLES

DRAWN = {"train": (1, 3000), "test": (2, 200)}  # the seed, and the pictures of each style


def load(split: str, source: str | None = None) -> Data:
    """As `portraits.load`, of "train" or "test"; every combination may be in either. Raises DatasetError."""
    seed, count = DRAWN[split]
    return portraits.load("all", source, seed=seed, count=count)


DATASET = dataclasses.replace(
    portraits.DATASET,
    name="more_portraits",
    title="More portraits in six designs",
    counts={split: count * len(STYLES) for split, (_, count) in DRAWN.items()},
    load=load,
)
