"""Drawings: the portraits of six designs, each with a drawing of it in coloured pencil.

A line stands where colours meet, in the colour of its left or upper side; all else is white paper. So a drawing says
every shape, and of each area a colour at one of its borders.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from zoo.datasets import Data, portraits
from zoo.datasets.parts import outlines
from zoo.datasets.portrait_styles import STYLES
from zoo.datasets.portraits import Portrait, draw, read

PAPER, INK = 255, 0
IMAGE = "image"


def pencilled(images: np.ndarray) -> np.ndarray:
    """The drawing of each picture, uint8 (N, H, W, 3), of uint8 (N, H, W, 3)."""
    return np.where(outlines(images) > 0, images, np.uint8(PAPER))


def inked(images: np.ndarray) -> np.ndarray:
    """The same in black, which says no colour."""
    return np.where(outlines(images) > 0, np.uint8(INK), np.uint8(PAPER)).repeat(3, axis=-1)


def examples(count: int) -> tuple[list[Portrait], np.ndarray]:
    """Held-out portraits of all designs, and their pictures, uint8 (count, 64, 64, 3). Raises DatasetError."""
    shown = list(portraits.examples(count))
    return shown, np.stack([draw(each) for each in shown])


def load(split: str, source: str | None = None) -> Data:
    """Pictures, uint8 (N, 64, 64, 3), with their drawing as `image`, of the same shape, and `style`, int64 (N,).

    Of "train" or "test". Raises DatasetError.
    """
    found = portraits.load(split, source)
    styles = [STYLES.index(read(said).style) for said in found.conditions["prompt"]]
    return Data(found.images, {IMAGE: pencilled(found.images), "style": np.array(styles, np.int64)})


DATASET = dataclasses.replace(
    portraits.DATASET,
    name="drawings",
    title="Portraits in six designs and their drawings",
    shows="critters, pot plants, moods, planets, voxel people and peeps, each with its line drawing",
    load=load,
    judged_by="designs",
    asks=(IMAGE,),
)
