"""What a generator costs before its first image and beside its images, and after how many a build has paid off."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from benchmarks.measure import costs
from benchmarks.records import Record
from benchmarks.report.summary import Row, Section
from benchmarks.statistics import short


@dataclass(frozen=True)
class Spending:
    """One generator on one runtime; seconds are None where the runtime has no such step, or nobody knows."""

    generator: str
    runtime: str
    cold_start_s: float
    load_s: float | None
    build_s: float | None
    export_s: float | None
    memory_mb: float
    components: dict[str, float]  # milliseconds of a graph, by its name
    energy: str
    pays_off: str  # after how many images a build does, beside the runtime that builds nothing


def of(section: Section) -> list[Spending]:
    """A line for each generator and runtime whose costs are on record, once whatever its settings."""
    found: dict[tuple[str, str], Spending] = {}
    for row in section.rows:
        for runtime, record in row.costs.items():
            found.setdefault((row.generator, runtime), _spending(row, runtime, record))
    return [found[key] for key in sorted(found)]


def _spending(row: Row, runtime: str, record: Record) -> Spending:
    energy: dict[str, Any] = record["energy"]
    joules = energy["joules_per_image"]
    return Spending(
        row.generator,
        runtime,
        record["cold_start_s"],
        record["load_s"],
        record["build_s"],
        record["export_s"],
        record["memory_mb"],
        record["components"] or {},
        f"{short(joules)} J an image" if joules is not None else str(energy["why"]),
        _pays_off(row, runtime, record["build_s"]),
    )


def _pays_off(row: Row, runtime: str, build_s: float | None) -> str:
    """Against the fastest runtime that builds nothing; empty where nothing is built or nothing compares."""
    plain = _fastest(row, (name for name, record in row.costs.items() if not record["build_s"]))
    mine = row.percentile(runtime)
    if not build_s or plain is None or mine is None:
        return ""
    images = costs.break_even(build_s, mine.value / 1000.0, plain / 1000.0)
    return "never" if images is None else f"{short(images)} images of {row.title}"


def _fastest(row: Row, runtimes: Iterable[str]) -> float | None:
    times = [found.value for runtime in runtimes if (found := row.percentile(runtime))]
    return min(times, default=None)
