"""More portraits: other pictures of all combinations, for whoever judges generators of portraits.

A judge must have seen the combinations that a generator has not, or it fails on real pictures of them; and it must not
have seen the pictures that the generator has.
"""

from __future__ import annotations

import dataclasses

from zoo.datasets import Data, portraits

DRAWN = {"train": (1, 3000), "test": (2, 200)}  # the seed, and the pictures of each style


def load(split: str, source: str | None = None) -> Data:
    """As `portraits.load`, of "train" or "test"; a combination may be in both, a picture not. Raises DatasetError."""
    found = _drawn(split, source)
    if split == "train":
        return found
    seen = {picture.tobytes() for picture in _drawn("train", source).images}
    kept = [row for row, picture in enumerate(found.images) if picture.tobytes() not in seen]
    return Data(found.images[kept], {"prompt": [found.conditions["prompt"][row] for row in kept]})


def _drawn(split: str, source: str | None) -> Data:
    seed, count = DRAWN[split]
    return portraits.load("all", source, seed=seed, count=count)


DATASET = dataclasses.replace(
    portraits.DATASET,
    name="more_portraits",
    title="More portraits in six designs",
    counts={"train": 18_000, "test": 1_127},
    load=load,
)
