"""The pictures of "designs" as if drawn in ink: lines where colours change, a wash where it is dark, on paper.

For an adapter that learns a manner of drawing and nothing else: the captions are those of the coloured pictures, so
what is shown is asked for as before.
"""

from __future__ import annotations

import numpy as np

from zoo.datasets import Data, Dataset, designs

PAPER, INK = np.array([250.0, 244.0, 230.0]), np.array([28.0, 30.0, 66.0])
LINES = 3.0  # how dark a line is, times the difference of neighbours
WASH = 0.45  # how dark black is where there is no line
AT_ONCE = 1000  # pictures: all at once would take gigabytes
WEIGHTS = np.array([0.299, 0.587, 0.114])  # of the luma of ITU-R BT.601


def drawn(images: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, 3) in [0, 255] -> the same in ink."""
    grey = images @ (WEIGHTS / 255.0)
    across, down = (np.abs(np.diff(images / 255.0, axis=axis, append=1.0)).max(-1) for axis in (2, 1))
    dark = np.clip(LINES * np.maximum(across, down) + WASH * (1.0 - grey), 0.0, 1.0)[..., None]
    found: np.ndarray = np.rint(PAPER + dark * (INK - PAPER)).astype(np.uint8)
    return found


def load(split: str, source: str | None = None) -> Data:
    """Images, uint8 (N, 64, 64, 3) in [0, 255], and captions as `prompt`, of "train" or "test". Raises DatasetError."""
    found = designs.load(split, source)
    parts = [drawn(found.images[start : start + AT_ONCE]) for start in range(0, len(found), AT_ONCE)]
    return Data(np.concatenate(parts), found.conditions)


DATASET = Dataset(
    name="inked_designs",
    title="Portraits in ink",
    licence=designs.DATASET.licence,
    credit=designs.DATASET.credit,
    shows="the designs' portraits in ink on paper, by the captions of the coloured ones",
    prepared=f"{designs.DATASET.prepared}, then drawn in ink",
    verified=designs.DATASET.verified,
    image_shape=designs.DATASET.image_shape,
    counts=designs.DATASET.counts,
    load=load,
    judged_by="designs",
    asks=("prompt",),
)
