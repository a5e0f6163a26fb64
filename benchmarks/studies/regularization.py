"""What holds a discriminator back: spectral normalization (Miyato et al. 2018) and R1 (Mescheder et al. 2018).

Each on and off, and once the loss of Goodfellow et al. 2014, equation 1, that they themselves advise against: `gan-u`'s
generator under the objective of 2014, from one seed, on fewer pictures. The study trains these ablations itself, some
ten minutes of one core, and keeps them.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from benchmarks.measure import samples
from benchmarks.quality.metrics import metric_name
from benchmarks.studies import JUDGE, JUDGES, NETS, Cells, Findings, Study, shown, value
from benchmarks.studies.ablations import Ablation
from zoo import registry
from zoo.contract.request import Setting

CHECKPOINT, IMAGES, TRAINED = "gan-u", 1000, 48_000
OBJECTIVE: dict[str, Any] = {"kind": "adversarial", "learning_rate": 3e-4, "minutes": 8.0}
DISCRIMINATOR = (24, 48, 96)  # its widths
OPTIONS: dict[str, dict[str, Any]] = {
    "neither": {},
    "spectral normalization": {"spectral": True},
    "R1": {"r1": 1.0},
    "both": {"spectral": True, "r1": 1.0},
    "neither, minimax loss": {"loss": "minimax"},
}
KINDS = ("classes", "fd", "recall")
METRICS = (
    *(metric_name(kind, IMAGES, net) for kind in ("fd", "recall") for net in NETS),
    metric_name("classes", IMAGES, JUDGE),
)


def run() -> Findings:
    rows: list[Cells] = []
    for name, options in OPTIONS.items():
        trained = ablation(options)
        found = samples.judge(trained.generator(), Setting(), IMAGES, trained.made_by, JUDGES, kinds=KINDS)["metrics"]
        rows.append((name, last_loss(trained), *shown(found, METRICS)))
    return Findings(("regularized by", "discriminator's last loss", *METRICS), tuple(rows), _answer(rows))


def ablation(options: dict[str, Any]) -> Ablation:
    entry = registry.checkpoint(CHECKPOINT)
    assert entry.recipe is not None
    recipe = dataclasses.replace(entry.recipe, **OBJECTIVE, images=TRAINED, options=options)
    config = dataclasses.replace(entry.config, discriminator=DISCRIMINATOR)
    return Ablation(dataclasses.replace(entry, config=config, recipe=recipe))


def last_loss(trained: Ablation) -> float:
    """The discriminator's mean loss in the last tenth of its run: 2 ln 2 = 1.386 where it can tell nothing."""
    curves = trained.record()["curves"]
    tail = curves[-max(1, len(curves) // 10) :]
    return round(float(np.mean([point["discriminator"] for point in tail])), 3)


def _answer(rows: list[Cells]) -> str:
    said = []
    for net in NETS:
        column = 2 + METRICS.index(metric_name("fd", IMAGES, net))
        ordered = sorted((value(row[column]), str(row[0])) for row in rows)
        said.append(f"in the {net}'s features, best first, {', '.join(f'{name} {d:.3g}' for d, name in ordered)}")
    return f"Fréchet distances after {TRAINED:,} images, one seed: {'; '.join(said)}."


STUDY = Study(
    "What do spectral normalization and R1 do, each and together, for the same GAN on the same pictures?",
    (CHECKPOINT,),
    run,
    {"images": IMAGES, "trained": TRAINED, "options": OPTIONS},
)
