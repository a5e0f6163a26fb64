"""Model cards in the manner of Hugging Face: front matter, then facts from the training record and from records."""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.measure import samples
from benchmarks.measure.workload import RUNTIMES
from benchmarks.quality.metrics import held_out, metric_name
from benchmarks.records import Record, RecordError
from benchmarks.report import summary
from benchmarks.report.findings import concerning, markdown
from benchmarks.report.overview import readings
from benchmarks.report.summary import Row, Section
from benchmarks.statistics import Estimate
from benchmarks.templates import template
from zoo import files, shelf
from zoo.contract.conditions import class_id, kind
from zoo.contract.request import Setting
from zoo.contract.spec import GeneratorSpec
from zoo.datasets import dataset
from zoo.family import Checkpoint

TASKS = dict.fromkeys(("image", "label_map"), "image-to-image") | dict.fromkeys(
    ("text", "texts", "instructed"), "text-to-image"
)
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
CURVE_WIDTH, CURVE_HEIGHT = 640, 220
CARD = "README.md"


def write(checkpoint: Checkpoint, found: Iterable[Record]) -> Path:
    """Write the card and its pictures into the checkpoint's folder; the card's path. Raises as `contents` does.

    Raises StoreError where the checkpoint is a publisher's.
    """
    folder = _folder(checkpoint.name)
    for name, data in contents(checkpoint, found).items():
        with files.atomic(folder / name) as temporary:
            temporary.write_bytes(data)
    return folder / CARD


def contents(checkpoint: Checkpoint, found: Iterable[Record]) -> dict[str, bytes]:
    """`grid.png`, `interpolation.png` where there is noise, `curves.svg` where there are curves, and `README.md`.

    Raises RecordError where the weights of the tree were not measured, StoreError where there are none.
    """
    config, found = shelf.config(checkpoint.name), list(found)
    section, rows = measured(checkpoint.name, config["weights"]["sha256"], found)
    shown, answered = default(checkpoint, rows), concerning(checkpoint.name, config["weights"]["sha256"], found)
    pictures = {"grid.png": base64.b64decode(shown.grid)}
    if shown.interpolation:
        pictures["interpolation.png"] = base64.b64decode(shown.interpolation)
    if curves := config["training"].get("curves", []):
        pictures["curves.svg"] = curves_svg(curves).encode()
    card = render(checkpoint, config | _shown(checkpoint.spec), section, rows, answered)
    return {**pictures, CARD: card.encode()}


def _shown(spec: GeneratorSpec) -> dict[str, Any]:
    """What a card tells of a generator's images and of what it takes, however its config says it."""
    takes = ", ".join(condition.name for condition in spec.conditions)
    return {"image_shape": spec.default_image_shape, "num_classes": class_id.count(spec.conditions), "takes": takes}


def _folder(name: str) -> Path:
    """Where a card may be written: what was pulled, or came with an installed genzoo, stays as it was published."""
    folder = shelf.directory(name)
    if folder.parent == shelf.own_tree() or (folder.parent == shelf.TREE and files.checkout()):
        return folder
    raise shelf.StoreError(
        f"{name} is its publisher's, and so is its card: `genzoo report` shows what you measured, "
        f"`genzoo card` is for what you trained, or for a checkout of genzoo"
    )


def measured(name: str, weights: str, found: Iterable[Record]) -> tuple[Section, list[Row]]:
    """The section with the most judged images, and its rows of these weights; without metrics where none is judged.

    Raises RecordError.
    """

    def concerns(identity: Mapping[str, Any]) -> bool:
        kind = identity["kind"]
        if kind not in ("cell", "quality", "cost"):
            return bool(kind == "baseline")
        return bool(identity[kind]["generator"] == name and identity["artifact"]["checkpoint"] == weights)

    mine = [record for record in found if concerns(record["identity"])]
    sections = sorted(summary.sections(mine), key=lambda section: section.count)
    sections = [section for section in sections if any(row.metrics for row in section.rows)] or sections
    if not sections:
        raise RecordError(
            f"the weights of {name} ({weights[:12]}) are not on record; `genzoo bench {name}` measures them"
        )
    return sections[-1], sections[-1].rows


def default(checkpoint: Checkpoint, rows: list[Row]) -> Row:
    """The row of what the checkpoint does where nothing is asked of it, or the last."""
    asked = Setting().resolved(checkpoint.spec)
    return next((row for row in rows if row.setting == asked), rows[-1])


def quality(checkpoint: Checkpoint, found: Iterable[Record]) -> dict[str, Any] | None:
    """What the index tells of a checkpoint at its default setting; None where nobody judges such images.

    Raises as `write` does.
    """
    section, rows = measured(checkpoint.name, shelf.config(checkpoint.name)["weights"]["sha256"], found)
    distances = {net: default(checkpoint, rows).metric("fd", net) for net in section.judges.names}
    known = {net: distance.value for net, distance in distances.items() if distance}
    return {"images": section.count, "fd": known} if known else None


def render(
    checkpoint: Checkpoint, config: Mapping[str, Any], section: Section, rows: list[Row], answered: list[Record]
) -> str:
    best, judges, data = default(checkpoint, rows), section.judges, dataset(checkpoint.dataset)
    page: str = template("card.md.j2").render(
        checkpoint=checkpoint,
        config=config,
        training=config["training"],
        dataset=data,
        pipeline_tag=pipeline_tag([condition.kind for condition in checkpoint.spec.conditions]),
        recipe=config["recipe"],
        section=section,
        rows=rows,
        studies=[(record["question"], record["identity"]["study"], markdown(record)) for record in answered],
        best=best,
        last_seed=samples.grid_columns(checkpoint.spec) * samples.GRID_ROWS - 1,
        shown=any(kind(condition).picture for condition in checkpoint.spec.conditions),
        judges=judges,
        held_out=held_out(data.name),
        labels=in_words(len(data.labels[judges.teller.tells])) if judges.teller else "",
        classes=best.metric("classes", judges.judge),
        floor=section.baselines.get("floor"),
        ceiling=section.baselines.get("ceiling"),
        nets=[net for net in judges.names if any(row.metric("fd", net) for row in rows)],
        judge=judges.judge,
        readings=[each for each in readings(section) if judges.teller or any(row.metric(*each) for row in rows)],
        copies=best.copies,
        name=metric_name,
        cell=str,
        warned=summary.warned,
        share=_share,
        runtimes=[
            runtime for runtime in RUNTIMES if runtime != "torch" and any(runtime in row.runtimes for row in rows)
        ],
    )
    return page


def pipeline_tag(kinds: Collection[str]) -> str:
    """Hugging Face's word for a task, by the kinds of a generator's conditions."""
    return next((tag for kind, tag in TASKS.items() if kind in kinds), "unconditional-image-generation")


def in_words(count: int) -> str:
    return NUMBERS[count] if count < len(NUMBERS) else str(count)


def _share(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.1f} % ({100 * estimate.low:.1f} to {100 * estimate.high:.1f})"


def curves_svg(curves: list[dict[str, float]]) -> str:
    """The losses over the images seen, each from its least to its greatest value, in the phase that has it."""
    names = [name for name in dict.fromkeys(name for point in curves for name in point) if name != "images"]
    last = curves[-1]["images"]
    lines = []
    for index, name in enumerate(names):
        having = [point for point in curves if name in point]
        values = [point[name] for point in having]
        low, high = min(values), max(values)
        span = (high - low) or 1.0
        points = " ".join(
            f"{40 + 580 * point['images'] / last:.1f},{190 - 150 * (point[name] - low) / span:.1f}" for point in having
        )
        text = f"{name}: {low:.4g} to {high:.4g}"
        lines.append({"points": points, "text": text, "hue": 215 + 75 * index, "y": 20 + 16 * index})
    page: str = template("curves.svg.j2").render(lines=lines, images=last, width=CURVE_WIDTH, height=CURVE_HEIGHT)
    return page
