"""More designs: other pictures of all combinations, for whoever judges generators of designs.

A judge must have seen the combinations that a generator has not, or it fails on real pictures of them; and it must not
have seen the pictures that the generator has: one that both would draw is left out here.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from zoo.datasets import Data, designs

DRAWN = {"train": (1, 3000), "test": (2, 200)}  # the seed, and the pictures of each style


def load(split: str, source: str | None = None) -> Data:
    """As `designs.load`, of "train" or "test"; a combination may be in both, a picture not. Raises DatasetError."""
    seen = {picture.tobytes() for picture in designs.load("train", source).images}
    if split == "test":
        seen |= {picture.tobytes() for picture in _drawn("train", source).images}
    found = _drawn(split, source)
    kept = np.array([picture.tobytes() not in seen for picture in found.images])
    prompts = [said for said, here in zip(found.conditions["prompt"], kept, strict=True) if here]
    return Data(found.images[kept], {"prompt": prompts, "attributes": np.asarray(found.conditions["attributes"])[kept]})


def _drawn(split: str, source: str | None) -> Data:
    seed, count = DRAWN[split]
    return designs.load("all", source, seed=seed, count=count)


DATASET = dataclasses.replace(
    designs.DATASET,
    name="more_designs",
    title="More portraits in twelve designs",
    counts={"train": 30_710, "test": 1_834},
    load=load,
)
