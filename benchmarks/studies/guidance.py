"""Classifier-free guidance (Ho & Salimans 2022): what it buys in class accuracy and costs in variety."""

from __future__ import annotations

from benchmarks import samples
from benchmarks.features import JUDGE, NETS
from benchmarks.quality import metric_name
from benchmarks.studies import Cell, Findings, Study
from benchmarks.sweep import in_process
from benchmarks.workload import Setting
from export.gate import require
from serving.bundles import prepare

CHECKPOINT, IMAGES, STEPS, SCALES = "ddpm", 2000, 20, (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0)


def run() -> Findings:
    bundle = require(prepare(CHECKPOINT))
    generator = in_process(bundle)
    metrics = (
        metric_name("accuracy", IMAGES, JUDGE),
        *(metric_name(kind, IMAGES, net) for net in NETS for kind in ("fd", "precision", "recall")),
    )
    rows: list[tuple[Cell, ...]] = []
    for scale in SCALES:
        setting = Setting(STEPS, guidance_scale=scale)
        found = samples.judge(generator, setting, IMAGES, {"bundle": bundle.digest})["metrics"]
        rows.append(
            (scale, *(f"{m['value']:.3g} ({m['low']:.3g} to {m['high']:.3g})" for m in map(found.get, metrics)))
        )
    return Findings(("scale", *metrics), tuple(rows), _answer(rows, metrics))


def _answer(rows: list[tuple[Cell, ...]], metrics: tuple[str, ...]) -> str:
    def value(row: tuple[Cell, ...], column: int) -> float:
        return float(str(row[column]).split()[0])

    none, most = rows[SCALES.index(1.0)], rows[-1]
    recall = metrics.index(metric_name("recall", IMAGES, JUDGE)) + 1
    nearest = min(rows, key=lambda row: value(row, 2))[0]
    return (
        f"From no guidance (1) to {most[0]} the right class goes from {value(none, 1):.1%} to {value(most, 1):.1%} of "
        f"the images and recall in the {JUDGE}'s features from {value(none, recall):.1%} to {value(most, recall):.1%}; "
        f"the least Fréchet distance there is at a scale of {nearest}."
    )


STUDY = Study(
    "What does classifier-free guidance buy in class accuracy, and what does it cost in variety?",
    (CHECKPOINT,),
    run,
    {"images": IMAGES, "num_steps": STEPS, "scales": SCALES},
)
