"""Guidance with a classifier and without: what it buys in class accuracy and costs in variety.

Sources: Dhariwal & Nichol 2021 (a classifier's gradient); Ho & Salimans 2022 (no classifier).
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.measure import samples
from benchmarks.measure.sweep import artifact, in_process
from benchmarks.quality.metrics import metric_name
from benchmarks.studies import JUDGE, JUDGES, NETS, Cells, Findings, Study, shown, value
from export.gate import require
from serving.bundles import prepare
from zoo.contract.request import Setting

CHECKPOINTS, IMAGES, STEPS, SCALES = ("ddpm", "guided"), 500, 20, (0.0, 1.0, 2.0, 3.0, 5.0)
KINDS = ("accuracy", "fd", "precision", "recall")
ACCURACY, RECALL, DISTANCE = (metric_name(kind, IMAGES, JUDGE) for kind in ("accuracy", "recall", "fd"))
METRICS = (ACCURACY, *(metric_name(kind, IMAGES, net) for net in NETS for kind in KINDS[1:]))


def run() -> Findings:
    rows = tuple(row for name in CHECKPOINTS for row in measured(name))
    return Findings(("generator", "scale", *METRICS), rows, " ".join(_answer(rows, name) for name in CHECKPOINTS))


def measured(name: str) -> Iterator[Cells]:
    bundle = require(prepare(name))
    assert bundle.spec.sampling is not None
    for scale in (each for each in SCALES if each <= bundle.spec.sampling.max_guidance_scale):
        setting = Setting(STEPS, guidance_scale=scale)
        found = samples.judge(in_process(bundle), setting, IMAGES, artifact(bundle), JUDGES, kinds=KINDS)["metrics"]
        yield name, scale, *shown(found, METRICS)


def _answer(rows: tuple[Cells, ...], name: str) -> str:
    """What the rows of one generator say."""

    def of(row: Cells, metric: str) -> float:
        return value(row[METRICS.index(metric) + 2])

    mine = [row for row in rows if row[0] == name]
    plain, most = next(row for row in mine if row[1] == 1.0), mine[-1]
    nearest = min(mine, key=lambda row: of(row, DISTANCE))[1]
    return (
        f"`{name}`: from a scale of 1 to {most[1]} the right class goes from {of(plain, ACCURACY):.1%} to "
        f"{of(most, ACCURACY):.1%} of the images and recall in the {JUDGE}'s features from "
        f"{of(plain, RECALL):.1%} to {of(most, RECALL):.1%}; the least Fréchet distance there is at {nearest}."
    )


STUDY = Study(
    "What does guidance, with a classifier and without, buy in class accuracy, and what does it cost in variety?",
    CHECKPOINTS,
    run,
    {"images": IMAGES, "num_steps": STEPS, "scales": SCALES},
)
