"""Whether a picture shows the person of a face, in the design of the face and in another, and obeys its words.

People are of combinations that no training picture shows; their face is from another picture, with other clothes and a
background of its own. Words say all but who it is. The attributes' judge reads who it is, as far as both designs can
show it, and what was asked. The base is told the same words, and then who it is in words: the best that it can say.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.quality.judges.designs import CAPTIONED
from benchmarks.statistics import share
from benchmarks.studies import Cells, Findings, Study, captions, value
from zoo.datasets import designs
from zoo.datasets.same_people import FACE, Pair, pairs

COLUMNS = (
    "generator",
    "who it is, same design",
    "who it is, another design",
    "all of it at once",
    "what is asked",
)
BASE, SHOWN = "t2i-base", "t2i-face"
PEOPLE = 100
SCALES = (0.0, 0.5, 1.0, 1.5)


def run() -> Findings:
    asked = list(itertools.islice((each for each in pairs() if each.wanted.held_out), PEOPLE))
    faces = [each.face for each in asked]
    said, spelled = [each.caption for each in asked], [designs.whole(each.wanted) for each in asked]
    rows = [measured(f"{BASE}, who it is unsaid", BASE, said, {}, asked)]
    for scale in SCALES:
        seen = {FACE: faces, "likeness": [scale] * len(asked)}
        rows.append(measured(f"{SHOWN} likeness={scale:g}", SHOWN, said, seen, asked))
    rows.append(measured(f"{BASE}, who it is in words", BASE, spelled, {}, asked))
    return Findings(COLUMNS, tuple(rows), answer(rows))


def measured(title: str, name: str, said: Sequence[str], seen: dict[str, Any], asked: Sequence[Pair]) -> Cells:
    images = captions.drawn(name, said, captions.GUIDED, seen)
    right = CAPTIONED.right(images, [designs.whole(each.wanted) for each in asked])
    names = [head for _, head in CAPTIONED.heads]
    there = ~np.isnan(right)
    there[:, 0] = False  # the design itself
    who = there & np.array([[head in each.same for head in names] for each in asked])
    other = there & np.array([[head in each.asked for head in names] for each in asked])
    alike = np.array([each.wanted.style is each.beside.style for each in asked])
    return (
        title,
        str(share(right[who & alike[:, None]])),
        str(share(right[who & ~alike[:, None]])),
        str(share(np.where(who, right, 1.0).min(axis=1))),
        str(share(right[other])),
    )


def answer(rows: Sequence[Cells]) -> str:
    unsaid, *_, usual, _, words = rows
    return (
        f"Shown a face, {value(usual[1]):.1%} of who somebody is are right in the design of the face and "
        f"{value(usual[2]):.1%} in another, {value(unsaid[1]):.1%} and {value(unsaid[2]):.1%} by chance, "
        f"{value(words[1]):.1%} and {value(words[2]):.1%} where words say it. Of what is asked {value(usual[4]):.1%} "
        f"is right, {value(unsaid[4]):.1%} of the base's."
    )


STUDY = Study(
    "Does a picture show the person of the face that it was shown, and obey its words?",
    (BASE, SHOWN),
    run,
    {"people": PEOPLE, "guidance_scale": captions.SCALE},
)
