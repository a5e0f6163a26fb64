"""Whether the outlines of a picture agree with the drawing that it was controlled by, whatever the prompt says.

Drawings are of combinations that no training picture shows. The prompt says all, the design and its colour, nothing, or
the whole of another picture of the same design. Agreement is the F1 of lines: a line counts where the other picture has
one within a pixel. The base, which sees no drawing, says what prompt and chance give; at the scale 0 it is that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.quality.judges.designs import CAPTIONED
from benchmarks.studies import Cells, Findings, Study, captions, value
from zoo.datasets import designs
from zoo.datasets.design_styles import DESIGNS
from zoo.datasets.parts import outlines
from zoo.datasets.portraits import Portrait
from zoo.families.guides.control import DRAWN

COLUMNS = (
    "generator",
    "prompt",
    "lines agree",
    "of the prompt's attributes right",
    "of the drawing's attributes right",
)
BASE, CONTROLLED = "t2i-base", "t2i-control"
IMAGES = 8  # of each design


@dataclass(frozen=True)
class Asked:
    name: str
    prompt: str  # a word of PROMPTS
    scale: float | None = None


ROWS = (
    Asked(BASE, "all"),
    Asked(BASE, "another's"),
    *(Asked(CONTROLLED, prompt, 1.0) for prompt in ("all", "the design", "nothing", "another's")),
    Asked(CONTROLLED, "all", 0.0),
)


def run() -> Findings:
    found = [captions.held_out(style, IMAGES) for style in DESIGNS]
    shown = [each for portraits, _ in found for each in portraits]
    drawings = outlines(np.concatenate([pictures for _, pictures in found]))
    rows = tuple(measured(row, shown, drawings) for row in ROWS)
    return Findings(COLUMNS, rows, answer(rows))


def prompts(kind: str, shown: Sequence[Portrait]) -> list[str]:
    """What is said with each drawing; another's is that of the next of the same design."""
    if kind == "all":
        return [designs.whole(each) for each in shown]
    if kind == "another's":
        groups = [shown[start : start + IMAGES] for start in range(0, len(shown), IMAGES)]
        return [designs.whole(each) for group in groups for each in (*group[1:], group[0])]
    return [each.style.word if kind == "the design" else "" for each in shown]


def measured(asked: Asked, shown: Sequence[Portrait], drawings: np.ndarray) -> Cells:
    said = prompts(asked.prompt, shown)
    seen = {} if asked.scale is None else {DRAWN: list(drawings), "control": [asked.scale] * len(said)}
    images = captions.drawn(asked.name, said, captions.GUIDED, seen)
    told = CAPTIONED.right(images, said) if asked.prompt in ("all", "another's") else None
    return (
        asked.name if asked.scale is None else f"{asked.name} control={asked.scale:g}",
        asked.prompt,
        f"{agreement(outlines(images), drawings):.3f}",
        None if told is None else captions.attributes_right(told),
        captions.attributes_right(CAPTIONED.right(images, prompts("all", shown))),
    )


def agreement(found: np.ndarray, wanted: np.ndarray) -> float:
    """The mean F1 of lines, uint8 (N, H, W, 1) twice, of which one within a pixel of the other's is right."""
    scores = []
    for one, other in zip(found[..., 0] > 0, wanted[..., 0] > 0, strict=True):
        precision, recall = ((a & near(b)).sum() / max(1, a.sum()) for a, b in ((one, other), (other, one)))
        scores.append(2.0 * precision * recall / max(1e-9, precision + recall))
    return float(np.mean(scores))


def near(lines: np.ndarray) -> np.ndarray:
    """bool (H, W) -> what lies on a line or beside one."""
    padded = np.pad(lines, 1)
    height, width = lines.shape
    found: np.ndarray = np.max([padded[y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=0)
    return found


def answer(rows: Sequence[Cells]) -> str:
    base, another, every, design, nothing, against, off = rows
    said = ", ".join(f"{value(row[2]):.2f} where it says {row[1]}" for row in (every, design, nothing, against))
    return (
        f"By the prompt, lines agree with the drawing at {said}; without a drawing at {value(base[2]):.2f}, and at "
        f"{value(another[2]):.2f} by another's prompt. At the scale 0 they agree as the base's do, {value(off[2]):.2f}."
    )


STUDY = Study(
    "Do the outlines of a picture agree with the drawing that controls it?",
    (BASE, CONTROLLED),
    run,
    {"images": IMAGES, "guidance_scale": captions.SCALE},
)
