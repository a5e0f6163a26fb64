"""Whether pictures of twelve designs show what captions of unseen combinations say, in the grammar's order and in any.

As the study of captions, of the generator that others are built on. The last column asks for the same combinations with
the phrases of each caption in another order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.quality.judges.designs import CAPTIONED
from benchmarks.statistics import share
from benchmarks.studies import Cells, Findings, Study, captions
from zoo.datasets.design_styles import DESIGNS
from zoo.datasets.designs import whole
from zoo.datasets.portrait_styles import Style
from zoo.datasets.portraits import Portrait

BASE = captions.Subject("t2i-base", CAPTIONED, whole)
COLUMNS = (*captions.COLUMNS, "all right in any order")


def run() -> Findings:
    rows = tuple((*captions.measured(BASE, style), _in_any_order(style)) for style in DESIGNS)
    return Findings(COLUMNS, rows, answer(rows))


def shuffled(shown: Portrait, draws: np.random.Generator) -> str:
    """A whole caption in an order of chance."""
    return " ".join(draws.permutation([shown.style.word, *shown.phrases.values()]).tolist())


def _in_any_order(style: Style) -> str:
    shown, _ = captions.held_out(style, captions.IMAGES)
    said = [shuffled(each, np.random.default_rng(row)) for row, each in enumerate(shown)]
    right = CAPTIONED.right(captions.drawn(BASE.checkpoint, said, captions.GUIDED), said)
    return str(share(np.nanmin(right, axis=1)))


def answer(rows: Sequence[Cells]) -> str:
    *_, mixed = captions.means(rows)
    return f"{captions.answer(rows)} With the words in any order all are right at once in {mixed:.1%}."


STUDY = Study(
    "Does a picture of twelve designs show what a caption of an unseen combination says, in any order of words?",
    (BASE.checkpoint,),
    run,
    {"images": captions.IMAGES, "guidance_scale": captions.SCALE},
)
