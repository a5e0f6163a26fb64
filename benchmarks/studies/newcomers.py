"""What came after a GAN of 2018, one call each, beside it: R3GAN's objective on its networks, and no game at all.

R3GAN (Huang et al. 2025) judges in pairs and regularizes both sides. A drifting model (Deng et al. 2026) has a kernel
in place of a discriminator, between features and, for comparison, between pixels: the study trains the two of less time
itself, some two minutes of one core, and keeps them.
"""

from __future__ import annotations

import dataclasses

from benchmarks.measure import samples
from benchmarks.measure.sweep import artifact, in_process
from benchmarks.quality.metrics import metric_name
from benchmarks.studies import JUDGES, NETS, Cells, Findings, Study, shown, value
from benchmarks.studies.ablations import Ablation
from export.gate import require
from serving.bundles import prepare
from zoo import registry, shelf
from zoo.contract.request import Setting

GAN, DRIFTING = "gan", "drift"
LATER = ("r3gan", DRIFTING)
KERNELS, TRAINED, IMAGES = ("maps", "pixels"), 48_000, 1000
KINDS = ("fd", "recall")
METRICS = tuple(metric_name(kind, IMAGES, net) for kind in KINDS for net in NETS)


def run() -> Findings:
    rows: list[Cells] = [shipped(name) for name in (GAN, *LATER)]
    rows += [shorter(kernel) for kernel in KERNELS]
    return Findings(("generator", "pictures", "core-minutes", *METRICS), tuple(rows), answer(rows))


def shipped(name: str) -> Cells:
    bundle, training = require(prepare(name)), shelf.config(name)["training"]
    found = samples.judge(in_process(bundle), Setting(), IMAGES, artifact(bundle), JUDGES, kinds=KINDS)["metrics"]
    return name, training["images"], training.get("core_minutes"), *shown(found, METRICS)


def shorter(kernel: str) -> Cells:
    trained, record = ablation(kernel), ablation(kernel).record()
    found = samples.judge(trained.generator(), Setting(), IMAGES, trained.made_by, JUDGES, kinds=KINDS)["metrics"]
    return titled(kernel), record["images"], record["core_minutes"], *shown(found, METRICS)


def titled(kernel: str) -> str:
    return f"{DRIFTING}, {kernel}"


def ablation(kernel: str) -> Ablation:
    entry = registry.checkpoint(DRIFTING)
    assert entry.recipe is not None
    options = {**entry.recipe.options, "features": kernel}
    recipe = dataclasses.replace(entry.recipe, images=TRAINED, options=options)
    return Ablation(dataclasses.replace(entry, recipe=recipe))


def answer(rows: list[Cells]) -> str:
    """Who recalls at least what the GAN does, and which kernel is nearer, in which nets."""
    known = {str(row[0]): [value(cell) for cell in row[3:]] for row in rows}
    recall = slice(len(NETS), None)
    said = []
    for name in LATER:
        pairs = zip(NETS, known[name][recall], known[GAN][recall], strict=True)
        nets = [net for net, found, least in pairs if found >= least]
        said.append(f"`{name}` recalls at least what `{GAN}` does in {' and '.join(nets) or 'no net'}")
    maps, pixels = (known[titled(kernel)][: len(NETS)] for kernel in KERNELS)
    nearer = [net for net, found, other in zip(NETS, maps, pixels, strict=True) if found < other]
    return (
        f"{'; '.join(said)}. After {TRAINED:,} pictures a kernel of features is nearer to real ones than one of pixels "
        f"in {' and '.join(nearer) or 'no net'}: Fréchet distances {listed(maps)} against {listed(pixels)}."
    )


def listed(numbers: list[float]) -> str:
    return ", ".join(f"{each:.3g}" for each in numbers)


STUDY = Study(
    "Do systems of one call that came after a GAN show as much of the data as it does, and does drift need features?",
    (GAN, *LATER),
    run,
    {"images": IMAGES, "trained": TRAINED, "kernels": KERNELS},
)
