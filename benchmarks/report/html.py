"""The HTML report: one file that opens offline, made of records and of nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.measure.workload import RUNTIMES
from benchmarks.quality import metrics
from benchmarks.quality.metrics import metric_name
from benchmarks.records import Record
from benchmarks.report import plot, summary
from benchmarks.report.summary import Section
from benchmarks.statistics import short
from benchmarks.templates import template
from zoo import datasets, files


def render(found: Iterable[Record]) -> str:
    """The page. Raises RecordError where no cell is on record."""
    found = list(found)
    sections, main = summary.sections(found), summary.main(found)
    newest = max((record for row in main.rows for record in row.cells.values()), key=lambda record: record["time"])
    ratios = [record for record in found if record["identity"]["kind"] == "ratio"][-1:]
    page: str = template("report.html.j2").render(
        sections=sections,
        main=main,
        plots=plot.plots(main),
        families=sorted({row.family for section in sections for row in section.rows}),
        disagreements=summary.disagreements(main.rows),
        ratios=ratios,
        generators=len({row.generator for row in main.rows}),
        rows=len(main.rows),
        records=len(found),
        measured=newest["time"][:10],
        environment=_facts(newest),
        batch_size=newest["identity"]["protocol"]["batch_size"],
        section_runtimes=_runtimes,
        name=metric_name,
        nets=main.judges.nets,
        judge=main.judges.judge,
        dataset=datasets.known(main.dataset),
        held_out=metrics.held_out,
        titled=_titled,
        pictured=summary.by_dataset(sections),
        short=short,
        **dataclasses.asdict(plot.FRAME),
    )
    return page


def write(found: Iterable[Record], path: Path) -> Path:
    page = render(found)
    with files.atomic(path) as temporary:
        temporary.write_text(page)
    return path


def _titled(section: Section) -> str:
    """What a section's data set is called."""
    known = datasets.known(section.dataset)
    return known.title if known else section.dataset or "unknown data"


def _runtimes(section: Section) -> list[str]:
    return [runtime for runtime in RUNTIMES if any(runtime in row.runtimes for row in section.rows)]


def _facts(record: Record) -> dict[str, Any]:
    environment = record["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    return {"system": environment["os"], "revision": environment["revision"] or "unknown", "versions": versions}
