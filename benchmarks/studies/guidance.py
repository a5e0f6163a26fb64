"""Guidance by a classifier, without one, and as an input: what it buys in accuracy, and costs in variety and calls.

Sources: Dhariwal & Nichol 2021 (a classifier's gradient); Ho & Salimans 2022 (no classifier); Geng et al. 2025 (an
input of the network, so that nothing is summed).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from benchmarks.measure import samples
from benchmarks.measure.sweep import artifact, in_process
from benchmarks.quality.metrics import metric_name
from benchmarks.studies import JUDGE, JUDGES, NETS, Cells, Findings, Study, shown, value
from export.gate import require
from serving.bundles import prepare
from zoo.contract.request import Setting, nfe
from zoo.contract.spec import GeneratorSpec

SUMMED, TOLD, IMAGES, STEPS, CALLS = ("ddpm", "guided"), "fm-imf", 500, 20, 1
SCALES, STRENGTHS = (0.0, 1.0, 2.0, 3.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0)
KINDS = ("accuracy", "fd", "precision", "recall")
ACCURACY, RECALL, DISTANCE = (metric_name(kind, IMAGES, JUDGE) for kind in ("accuracy", "recall", "fd"))
METRICS = (ACCURACY, *(metric_name(kind, IMAGES, net) for net in NETS for kind in KINDS[1:]))
FIRST = 3  # column of metrics


def run() -> Findings:
    rows = (*(row for name in SUMMED for row in summed(name)), *told(TOLD))
    said = " ".join(_answer(rows, name) for name in (*SUMMED, TOLD))
    return Findings(("generator", "scale", "network calls", *METRICS), rows, said)


def summed(name: str) -> Iterator[Cells]:
    """A generator whose sampler sums what the network says under several conditions."""
    bundle = require(prepare(name))
    assert bundle.spec.sampling is not None
    for scale in (each for each in SCALES if each <= bundle.spec.sampling.max_guidance_scale):
        setting = Setting(STEPS, guidance_scale=scale)
        found = samples.judge(in_process(bundle), setting, IMAGES, artifact(bundle), JUDGES, kinds=KINDS)["metrics"]
        yield name, scale, nfe(bundle.spec, setting), *shown(found, METRICS)


def told(name: str) -> Iterator[Cells]:
    """A generator whose network is told of its guidance."""
    bundle, setting = require(prepare(name)), Setting(CALLS)
    for strength in STRENGTHS:
        generator = in_process(bundle).with_spec(always(bundle.spec, strength))
        made_by = artifact(bundle) | {"guidance": strength}
        found = samples.judge(generator, setting, IMAGES, made_by, JUDGES, kinds=KINDS)["metrics"]
        yield name, strength, nfe(bundle.spec, setting), *shown(found, METRICS)


def always(spec: GeneratorSpec, strength: float) -> GeneratorSpec:
    """What asks for that guidance where it is not said."""
    asked = (replace(each, default=strength) if each.name == "guidance" else each for each in spec.conditions)
    return replace(spec, conditions=tuple(asked))


def _answer(rows: tuple[Cells, ...], name: str) -> str:
    """What the rows of one generator say."""

    def of(row: Cells, metric: str) -> float:
        return value(row[METRICS.index(metric) + FIRST])

    mine = [row for row in rows if row[0] == name]
    plain, most = next(row for row in mine if row[1] == 1.0), mine[-1]
    nearest = min(mine, key=lambda row: of(row, DISTANCE))[1]
    calls = f"{plain[2]} calls" if plain[2] == most[2] else f"{most[2]} calls for {plain[2]}"
    return (
        f"`{name}`: from a scale of 1 to {most[1]} the right class goes from {of(plain, ACCURACY):.1%} to "
        f"{of(most, ACCURACY):.1%} of the images and recall in the {JUDGE}'s features from "
        f"{of(plain, RECALL):.1%} to {of(most, RECALL):.1%}, in {calls}; the least Fréchet distance there is at "
        f"{nearest}."
    )


STUDY = Study(
    "What does guidance, by a classifier, without one and as an input, buy in class accuracy, and what does it cost in "
    "variety and in calls?",
    (*SUMMED, TOLD),
    run,
    {"images": IMAGES, "num_steps": (STEPS, CALLS), "scales": (SCALES, STRENGTHS)},
)
