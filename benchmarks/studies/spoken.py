"""Whether GANs that were told a caption paint what it says: by the right caption and by a wrong one, for one picture.

Each caption is of a combination that no training picture shows; the wrong ones are the same captions, each of the next
picture. A judge of real pictures reads every attribute. The same noise with the wrong caption gives another picture,
which is read for the right one: what a generator shows that does not listen. Of an enlarger the picture at half the
size is given besides, and what bicubic interpolation makes of it is beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.measure.samples import FIRST_SEED
from benchmarks.measure.sweep import in_process
from benchmarks.quality.judges.portraits import CAPTIONED
from benchmarks.statistics import mean
from benchmarks.studies import Cells, Findings, Study, captions, value
from export.gate import require
from serving.bundles import prepare
from zoo.contract.request import SampleRequest
from zoo.datasets.critters import CRITTER

NAMES = ("gan-cls",)
IMAGES = 200
COLUMNS = ("pictures", "attributes right", "all right", "agreement with the caption", "with another")


def run() -> Findings:
    shown, real = captions.held_out(CRITTER, IMAGES)
    said = [each.caption for each in shown]
    wrong = said[1:] + said[:1]
    rows: list[Cells] = []
    for name in NAMES:
        rows.append((f"{name}, the right caption", *measured(made(name, said), said)))
        rows.append((f"{name}, a wrong caption", *measured(made(name, wrong), said)))
    rows.append(("real", *measured(real, said)))
    rows.append(("real, of a wrong caption", *measured(np.roll(real, -1, axis=0), said)))
    return Findings(COLUMNS, tuple(rows), answer(rows))


def made(name: str, said: Sequence[str]) -> np.ndarray:
    seeds = tuple(range(FIRST_SEED, FIRST_SEED + len(said)))
    return np.asarray(in_process(require(prepare(name))).sample(SampleRequest(seeds, {"prompt": list(said)})))


def measured(images: np.ndarray, said: Sequence[str]) -> Cells:
    """Of attributes the share that is read right, and how well the pair's judge finds picture and words to agree."""
    right = CAPTIONED.right(images, said)
    attributes = np.nanmean(right[:, 1:], axis=1)
    pairs = CAPTIONED.agreement(images, said)
    own, other = np.diag(pairs), np.diag(np.roll(pairs, -1, axis=1))
    found = (attributes, np.nanmin(right, axis=1), own, other)
    return tuple(str(mean(each.astype(float)).estimate()) for each in found)


def answer(rows: Sequence[Cells]) -> str:
    right = [value(row[1]) for row in rows]
    said = [
        f"{name} {own:.1%} by the right caption and {other:.1%} by a wrong one"
        for name, own, other in zip(NAMES, right[::2], right[1::2], strict=False)
    ]
    return f"Of the attributes of unseen combinations are right: {'; '.join(said)}; of real pictures {right[-2]:.1%}."


STUDY = Study("Do GANs that are told a caption paint what it says?", NAMES, run, {"images": IMAGES})
