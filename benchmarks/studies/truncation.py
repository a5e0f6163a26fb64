"""What a truncation gives and takes: how surely a judge reads what is made, against how much of it there is.

A critter is read for what it shows, attribute by attribute, by a judge of real pictures that the generator never saw.
A picture that is torn or between two kinds is read with little confidence. How much there is, is how far two pictures
are from each other, in grey levels and in the eyes of a second judge, and how many of all words are shown at all. The
same seeds for every psi; real pictures are of combinations that training never showed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.measure.samples import FIRST_SEED
from benchmarks.measure.sweep import in_process
from benchmarks.quality.judges.portraits import CAPTIONED
from benchmarks.statistics import mean
from benchmarks.studies import Cells, Findings, Study, value
from benchmarks.studies.translations import away
from export.gate import require
from serving.bundles import prepare
from zoo.contract.request import SampleRequest
from zoo.datasets.critters import CRITTER, load

NAME, PSI = "stylegan", "psi"
PSIS = (1.0, 0.85, 0.7, 0.5, 0.25, 0.0)
IMAGES, SURE = 300, 0.9
COLUMNS = (
    "pictures", "told as a critter", "sure of an attribute", "sure of all", "grey levels between two",
    "distance between two", "words shown",
)  # fmt: skip


def run() -> Findings:
    generator = in_process(require(prepare(NAME)))
    seeds = tuple(range(FIRST_SEED, FIRST_SEED + IMAGES))
    rows = [
        (f"{NAME} psi={psi:g}", *measured(np.asarray(generator.sample(SampleRequest(seeds, {PSI: [psi]})))))
        for psi in PSIS
    ]
    rows.append(("real", *measured(load("test").images[:IMAGES])))
    return Findings(COLUMNS, tuple(rows), answer(rows))


def measured(images: np.ndarray) -> Cells:
    words, confidence = CAPTIONED.told(images, CRITTER)
    pictures, _ = CAPTIONED.embeddings(images, [CRITTER.word])
    sure = confidence[:, 1:] >= SURE
    found = (
        confidence[:, 0],
        sure.mean(axis=1),
        (sure.all(axis=1) & (confidence[:, 0] >= SURE)).astype(float),
        away(images, np.roll(images, 1, axis=0)),
        1.0 - (pictures * np.roll(pictures, 1, axis=0)).sum(axis=1),
    )
    return (*(str(mean(each).estimate()) for each in found), shown(words[:, 1:], sure))


def shown(words: np.ndarray, sure: np.ndarray) -> str:
    """How many of all words of all attributes are surely shown by a picture."""
    there = sum(len(set(column[told].tolist())) for column, told in zip(words.T, sure.T, strict=True))
    return f"{there} of {sum(len(each.words) for each in CRITTER.attributes)}"


def answer(rows: Sequence[Cells]) -> str:
    whole, real = rows[0], rows[-1]
    best = max(rows[1 : PSIS.index(0.25)], key=lambda row: value(row[3]))
    return (
        f"A judge is sure of all attributes in {value(whole[3]):.1%} of what is made without truncation and in "
        f"{value(best[3]):.1%} at {str(best[0]).split()[1]}, of real pictures in {value(real[3]):.1%}; two pictures "
        f"are then {value(whole[4]):.0f} and {value(best[4]):.0f} grey levels apart, real ones {value(real[4]):.0f}."
    )


STUDY = Study(
    "What does a truncation give, and what does it take?",
    (NAME,),
    run,
    {"images": IMAGES, "psi": list(PSIS), "sure": SURE},
)
