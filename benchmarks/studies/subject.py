"""Whether one person, learned from five pictures, is that person elsewhere, obeys the prompt, and leaves others alone.

The person is asked for with every face and shirt that no picture showed together. The attributes' judge, which never
saw a generated picture, reads who it is (skin, hair, its cut, glasses, beard), and what was asked for (face and shirt).
The base is asked in words for the same: that is the best that it can say. Others are combinations of all designs that
no training picture shows; beside the base's they say what was forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.quality.judges.designs import CAPTIONED
from benchmarks.statistics import share
from benchmarks.studies import Cells, Findings, Study, captions, value
from zoo.datasets import designs, one_person
from zoo.datasets.design_styles import DESIGNS

COLUMNS = ("generator", "who it is", "all of it at once", "what is asked", "others", "others, all right")
TUNED = ("t2i-word", "t2i-subject")
BASE = "t2i-base"
OTHERS = 8  # of each design
ASKED = ("face", "shirt")


def run() -> Findings:
    others = [designs.whole(each) for style in DESIGNS for each in captions.held_out(style, OTHERS)[0]]
    spelled = [designs.whole(one_person.shown(*pair)) for pair in one_person.UNSEEN]
    called = [one_person.caption(*pair) for pair in one_person.UNSEEN]
    rows = tuple(
        measured(name, said, spelled, others) for name, said in ((BASE, spelled), *((name, called) for name in TUNED))
    )
    return Findings(COLUMNS, rows, answer(rows))


def measured(name: str, said: Sequence[str], spelled: Sequence[str], others: Sequence[str]) -> Cells:
    """A generator that is asked for the person by what is `said`, judged by what is `spelled` out."""
    right = CAPTIONED.right(captions.drawn(name, said, captions.GUIDED), spelled)
    heads = list(CAPTIONED.heads)
    asked, identity = (
        [heads.index((one_person.STYLE.name, each)) for each in each_of] for each_of in (ASKED, one_person.IDENTITY)
    )
    elsewhere = CAPTIONED.right(captions.drawn(name, others, captions.GUIDED), others)
    return (
        name,
        str(share(right[:, identity].ravel())),
        str(share(right[:, identity].min(axis=1))),
        str(share(right[:, asked].ravel())),
        captions.attributes_right(elsewhere),
        str(share(np.nanmin(elsewhere, axis=1))),
    )


def answer(rows: Sequence[Cells]) -> str:
    base, word, network = ([value(cell) for cell in row[1:]] for row in rows)
    return (
        f"Asked by the word alone, textual inversion shows {word[0]:.1%} of who the person is and {word[2]:.1%} of "
        f"what is asked, DreamBooth {network[0]:.1%} and {network[2]:.1%}; the base, told all in words, {base[0]:.1%} "
        f"and {base[2]:.1%}. Of others all is right in {word[4]:.1%} and {network[4]:.1%} of the pictures, in "
        f"{base[4]:.1%} of the base's."
    )


STUDY = Study(
    "Is one person, learned from five pictures, that person with other faces and shirts, and are others left alone?",
    (BASE, *TUNED),
    run,
    {"others": OTHERS, "guidance_scale": captions.SCALE},
)
