"""Which solver at which number of network calls: the teacher under every sampler that it takes, at equal NFE."""

from __future__ import annotations

from benchmarks.measure import samples
from benchmarks.measure.sweep import artifact, in_process
from benchmarks.quality.metrics import metric_name
from benchmarks.studies import JUDGES, NETS, Cells, Findings, Study, least, shown
from export.gate import require
from serving.bundles import prepare
from zoo.contract.request import Setting, nfe

CHECKPOINT, IMAGES, CALLS = "ddpm", 1000, (5, 10, 20, 50)
REFERENCE_STEPS = 1000  # Ho et al. 2020
DISTANCES = tuple(metric_name("fd", IMAGES, net) for net in NETS)


def run() -> Findings:
    bundle = require(prepare(CHECKPOINT))
    generator, sampling = in_process(bundle), bundle.spec.sampling
    assert sampling is not None
    settings = [Setting(_steps(sampler, calls), sampler) for calls in CALLS for sampler in sampling.samplers]
    settings.append(Setting(REFERENCE_STEPS, "ddpm"))
    rows: list[Cells] = []
    for setting in settings:
        metrics = samples.judge(generator, setting, IMAGES, artifact(bundle), JUDGES, kinds=("fd",))["metrics"]
        calls = nfe(bundle.spec, setting)
        rows.append((setting.sampler, setting.num_steps, calls, *shown(metrics, DISTANCES)))
    columns = ("sampler", "steps", "NFE", *DISTANCES)
    return Findings(columns, tuple(rows), _answer(rows))


def _steps(sampler: str, calls: int) -> int:
    """Heun spends two calls on every step but the last."""
    return (calls + 1) // 2 if sampler == "heun" else calls


def _answer(rows: list[Cells]) -> str:
    groups = {calls: [row for row in rows if row[2] in (calls, calls - 1)] for calls in CALLS}
    return f"The least Fréchet distance by network calls is that of {least(groups, 3)}."


STUDY = Study(
    "Which solver is best at how many network calls, and what does the 1000-step ancestral sampler give?",
    (CHECKPOINT,),
    run,
    {"images": IMAGES, "calls": CALLS, "reference_steps": REFERENCE_STEPS},
)
