"""How much of one picture is left, and how much of the edit is there, from no edit to all of it.

The picture shows one person; the words say another face and another shirt, and nothing of who it is. The attributes'
judge reads who it is and what was asked for. The base is told the same words, and knows no picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.quality.judges.designs import CAPTIONED
from benchmarks.statistics import mean, share
from benchmarks.studies import Cells, Findings, Study, captions, value
from benchmarks.studies.translations import away
from zoo.datasets import designs, one_picture
from zoo.families.guides.edit import EDIT

COLUMNS = (
    "generator",
    "who it is",
    "all of it at once",
    "what is asked",
    "both asked for",
    "grey levels from the picture",
)
BASE, EDITED = "t2i-base", "t2i-edit"
TIMES = 4  # each target
EDITS = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def run() -> Findings:
    rows = [measured(f"{EDITED} edit={edit:g}", EDITED, {EDIT: [edit] * len(asked())}) for edit in EDITS]
    rows.append(measured(BASE, BASE, {}))
    return Findings(COLUMNS, tuple(rows), answer(rows))


def asked() -> list[tuple[str, str]]:
    return [pair for pair in one_picture.TARGETS for _ in range(TIMES)]


def measured(title: str, name: str, seen: Mapping[str, Sequence[Any]]) -> Cells:
    images = captions.drawn(name, [one_picture.caption(*each) for each in asked()], captions.GUIDED, seen)
    right = CAPTIONED.right(images, [designs.whole(one_picture.shown(*each)) for each in asked()])
    heads = list(CAPTIONED.heads)
    who, what = (
        right[:, [heads.index((one_picture.STYLE.name, each)) for each in each_of]]
        for each_of in (one_picture.WHO, one_picture.BEFORE)
    )
    picture = np.repeat(one_picture.picture()[None], len(images), 0)
    return (
        title,
        str(share(who.ravel())),
        str(share(who.min(axis=1))),
        str(share(what.ravel())),
        str(share(what.min(axis=1))),
        str(mean(away(images, picture)).estimate()),
    )


def answer(rows: Sequence[Cells]) -> str:
    """The edit at which who it is and what is asked are together right most."""
    *edited, base = rows
    best = max(edited, key=lambda row: value(row[1]) + value(row[3]))
    return (
        f"At no edit {value(edited[0][1]):.1%} of who it is and {value(edited[0][3]):.1%} of what is asked are there, "
        f"at a whole one {value(edited[-1][1]):.1%} and {value(edited[-1][3]):.1%}; together most at "
        f"{str(best[0]).split()[-1]}, {value(best[1]):.1%} and {value(best[3]):.1%}. The base, which knows no picture, "
        f"has {value(base[1]):.1%} and {value(base[3]):.1%}."
    )


STUDY = Study(
    "How much of one picture is left, and how much of an edit is there, as it is edited further?",
    (BASE, EDITED),
    run,
    {"times": TIMES, "guidance_scale": captions.SCALE},
)
