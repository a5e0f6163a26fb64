"""Whether what stands in a box is what the box says, by colour, exactly: its own boxes against those of another scene.

Scenes show at their hour a figure that no training picture shows then. A box agrees by the share of its pixels that are
nearer to its figure's colour than to any colour of the landscape or of another figure; a real figure does not fill its
box. The first stage learned portraits alone: what it makes of real scenes is the best that can be reached.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.statistics import mean
from benchmarks.studies import Cells, Findings, Study, captions, designs, value
from zoo.contract.request import Setting
from zoo.datasets import scene_maps
from zoo.datasets.scene_maps import COLOURS, FIGURES
from zoo.families.guides.layout import BOXES, held_out
from zoo.families.text_to_image import SIZE

COLUMNS = ("pictures", "of a box in its colour", "by another scene's boxes", "boxes that have it")
NAME, BASE = "t2i-layout", "t2i-base"
IMAGES = 100
HAS = 0.2  # of a box's pixels: it has its figure


def run() -> Findings:
    real, where, said = held_out(IMAGES)
    seen = {BOXES: list(where)}
    pictures = {
        "real": real,
        "real, through the first stage": captions.reconstructed(designs.BASE, real),
        f"{NAME} layout=1": captions.drawn(NAME, said, captions.GUIDED, {**seen, "layout": [1.0] * IMAGES}),
        f"{NAME} layout=1, no prompt": captions.drawn(NAME, [""] * IMAGES, Setting(), seen),
        f"{NAME} layout=0": captions.drawn(NAME, said, captions.GUIDED, {**seen, "layout": [0.0] * IMAGES}),
    }
    rows = tuple((name, *measured(images, where)) for name, images in pictures.items())
    return Findings(COLUMNS, rows, answer(rows))


def measured(images: np.ndarray, where: np.ndarray) -> Cells:
    own, other = shares(images, where), shares(images, np.roll(where, 1, axis=0))
    return str(mean(own).estimate()), str(mean(other).estimate()), str(mean((own > HAS).astype(float)).estimate())


def shares(images: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Of each box the share of its pixels that have its colour, (boxes,), of boxes float32 (N, L, 5)."""
    nearest = scene_maps.nearest(images, np.arange(len(COLOURS)))
    found = []
    for classes, boxes in zip(nearest, where, strict=True):
        for label, left, top, right, bottom in boxes[boxes[:, 0] >= 0]:
            rows, columns = (slice(round(a * SIZE), round(b * SIZE)) for a, b in ((top, bottom), (left, right)))
            colours = COLOURS[classes[rows, columns]]
            found.append(float((colours == COLOURS[FIGURES + int(label)]).all(axis=-1).mean()))
    return np.array(found)


def answer(rows: Sequence[Cells]) -> str:
    _, stage, told, plain, _ = rows
    return (
        f"Of a box {value(told[1]):.1%} has its figure's colour, {value(plain[1]):.1%} without a prompt and "
        f"{value(told[2]):.1%} of another scene's boxes; of real scenes after the first stage {value(stage[1]):.1%}."
    )


STUDY = Study(
    "Does what stands in a box have the colour that the box says?",
    (NAME, BASE),
    run,
    {"images": IMAGES, "guidance_scale": captions.SCALE},
)
