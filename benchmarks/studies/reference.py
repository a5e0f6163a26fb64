"""Whether a picture beside the prompt is kept where the prompt says nothing, and gives way where it says something.

The picture beside is a held-out combination with one or two things changed; the prompt says what those are to be. The
attributes' judge reads what was said, and what was not: there the picture is right. At the scale 0 there is no picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.quality.judges.designs import CAPTIONED
from benchmarks.statistics import share
from benchmarks.studies import Cells, Findings, Study, captions, value
from zoo.datasets import designs
from zoo.datasets.altered_designs import REFERENCE, Pair, pairs
from zoo.datasets.design_styles import DESIGNS
from zoo.datasets.portraits import draw

COLUMNS = ("generator", "right where the prompt differs", "as the picture elsewhere", "all right")
NAME = "t2i-reference"
IMAGES = 8  # of each design
SCALES = (0.0, 0.5, 1.0, 1.5)
MANY = 100  # portraits of each design, among which so many are of held-out combinations


def run() -> Findings:
    found = chosen()
    pictures = [draw(each.beside, seed) for each, seed in found]
    asked = [each for each, _ in found]
    rows = tuple(measured(scale, asked, pictures) for scale in SCALES)
    return Findings(COLUMNS, rows, answer(rows))


def chosen() -> list[tuple[Pair, str]]:
    """So many held-out combinations of each design, each with the seed of its picture."""
    held_out = [(each, seed) for each, seed in pairs(MANY) if each.wanted.held_out]
    return [one for style in DESIGNS for one in [each for each in held_out if each[0].wanted.style == style][:IMAGES]]


def measured(scale: float, asked: Sequence[Pair], pictures: Sequence[np.ndarray]) -> Cells:
    seen: dict[str, Sequence[Any]] = {REFERENCE: list(pictures), "likeness": [scale] * len(asked)}
    images = captions.drawn(NAME, [each.caption for each in asked], captions.GUIDED, seen)
    right = CAPTIONED.right(images, [designs.whole(each.wanted) for each in asked])
    differs = np.array([[name in each.differing for _, name in CAPTIONED.heads] for each in asked])
    there = ~np.isnan(right)
    there[:, 0] = False  # the design itself
    return (
        f"{NAME} likeness={scale:g}",
        str(share(right[there & differs])),
        str(share(right[there & ~differs])),
        str(share(np.nanmin(right, axis=1))),
    )


def answer(rows: Sequence[Cells]) -> str:
    none, *_, usual, _ = rows
    return (
        f"With the picture beside, what the prompt says is right in {value(usual[1]):.1%}, and what it leaves open is "
        f"the picture's in {value(usual[2]):.1%}; without, {value(none[1]):.1%} and {value(none[2]):.1%}."
    )


STUDY = Study(
    "Is a picture beside the prompt kept where the prompt says nothing, and does it give way where it does?",
    (NAME,),
    run,
    {"images": IMAGES, "guidance_scale": captions.SCALE},
)
