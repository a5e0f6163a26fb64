"""Whether a part of a picture that is made anew shows what the prompt says, and fits to what is kept.

Portraits of combinations that no training picture shows, each with a box around one part that is to be another. The
base's masking is untrained: at each step what is known takes the place of what is made. The attributes' judge reads the
part that was asked for; a seam is the mean step of grey levels across the box's edge, in the true picture as in any.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.quality.judges.designs import CAPTIONED
from benchmarks.statistics import mean, share
from benchmarks.studies import Cells, Findings, Study, captions, value
from zoo.datasets.design_styles import DESIGNS
from zoo.datasets.portrait_styles import Style
from zoo.datasets.portraits import SEED, portrait
from zoo.families.guides.repaint import IMAGE, KEPT, MASK, NEW, Altered, altered

COLUMNS = (
    "generator",
    "prompt",
    "the part is right",
    "all is right",
    "kept pixels that changed",
    "grey levels from the true part",
    "step across the edge",
)
BASE, TRAINED = "t2i-base", "t2i-inpaint"
SAYS = {"all": "prompt", "the part": "of_part"}  # what a prompt says, and where an example has it
IMAGES = 8  # of each design


def run() -> Findings:
    asked = [each for style in DESIGNS for each in itertools.islice(chosen(style), IMAGES)]
    pictures, truth = (np.stack([getattr(each, name) for each in asked]) for name in ("picture", "wanted"))
    made = {(name, says): repainted(name, says, asked) for says in SAYS for name in (BASE, TRAINED)}
    rows = (
        ("the picture as it was", None, *measured(pictures, asked)),
        *((*row, *measured(images, asked)) for row, images in made.items()),
        ("the true picture", None, *measured(truth, asked)),
    )
    return Findings(COLUMNS, rows, answer(rows))


def chosen(style: Style) -> Iterator[Altered]:
    """Held-out portraits of a design without end, each with what is to be another in it."""
    for index in itertools.count():
        shown = portrait(style, index)
        made = altered(shown, f"{SEED} {index}", np.random.default_rng([SEED, index])) if shown.held_out else None
        if made:
            yield made


def repainted(name: str, says: str, asked: Sequence[Altered]) -> np.ndarray:
    seen = {IMAGE: [each.picture for each in asked], MASK: [each.mask for each in asked]}
    return captions.drawn(name, [getattr(each, SAYS[says]) for each in asked], captions.GUIDED, seen)


def measured(images: np.ndarray, asked: Sequence[Altered]) -> Cells:
    pictures, masks, truth = (
        np.stack([getattr(each, name) for each in asked]) for name in ("picture", "mask", "wanted")
    )
    new = masks[..., 0] == NEW
    right = CAPTIONED.right(images, [each.prompt for each in asked])
    names = [name for _, name in CAPTIONED.heads]
    own = np.array([[name == each.name for name in names] for each in asked])
    away = np.abs(images.astype(np.int16) - truth).mean(axis=-1)
    changed = (images != pictures).any(axis=-1) & (masks[..., 0] == KEPT)
    return (
        str(share(right[own & ~np.isnan(right)])),
        str(share(np.nanmin(right, axis=1))),
        int(changed.sum()),
        str(mean((away * new).sum((1, 2)) / new.sum((1, 2))).estimate()),
        str(mean(steps(images, new)).estimate()),
    )


def steps(images: np.ndarray, new: np.ndarray) -> np.ndarray:
    """The mean step of grey levels between neighbours of which a mask keeps one alone, (N,)."""
    total, count = np.zeros(len(images)), np.zeros(len(images))
    for axis in (1, 2):
        edge = np.diff(new.astype(np.int8), axis=axis) != 0
        step = np.abs(np.diff(images.astype(np.int16), axis=axis)).mean(axis=-1)
        total += (step * edge).sum((1, 2))
        count += edge.sum((1, 2))
    return np.asarray(total / np.maximum(1, count))


def answer(rows: Sequence[Cells]) -> str:
    _, *made, truth = rows
    said = [
        f"where the prompt says {own[1]}, the part is right in {value(own[2]):.1%} of the pictures, in "
        f"{value(base[2]):.1%} by the base's untrained masking, {value(own[5]):.1f} and {value(base[5]):.1f} grey "
        f"levels from the true part, and neighbours across the edge differ by {value(own[6]):.1f} and "
        f"{value(base[6]):.1f}"
        for base, own in zip(made[::2], made[1::2], strict=True)
    ]
    changed = sum(int(row[4] or 0) for row in made[1::2])
    sentences = ". ".join(each[0].upper() + each[1:] for each in said)
    return f"{sentences}. In the true picture they differ by {value(truth[6]):.1f}. Of kept pixels {changed} changed."


STUDY = Study(
    "Does a part that is made anew show what the prompt says, and fit to what is kept?",
    (BASE, TRAINED),
    run,
    {"images": IMAGES, "guidance_scale": captions.SCALE},
)
