"""Records -> the front that a server chooses by (`serving.front`)."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.report.comparison import Comparison
from benchmarks.report.summary import Row, Section
from benchmarks.statistics import BETTER, WORSE
from serving.front import Front, Point

DIGITS = 4


def of(section: Section, rows: Sequence[Row]) -> Front:
    """The rows of a section that were judged and timed alone, where most were; each against each."""
    runtime = section.runtime or ""
    kept = [
        row
        for row in rows
        if row.precision == "fp32"
        and row.percentile(runtime)
        and all(row.metric("fd", net) for net in section.opinions)
    ]
    compared = Comparison(kept, section.opinions)
    points = [_point(index, kept, compared, runtime) for index in range(len(kept))]
    points.sort(key=lambda point: (point.ms, point.title))
    return Front(section.dataset, section.count, section.opinions, runtime, tuple(points))


def _point(index: int, rows: Sequence[Row], compared: Comparison, runtime: str) -> Point:
    row = rows[index]
    found = row.percentile(runtime)
    distances = {net: metric.value for net in compared.nets if (metric := row.metric("fd", net))}
    assert found
    return Point(
        row.title,
        row.generator,
        row.weights,
        row.setting,
        row.nfe,
        round(found.value, DIGITS),
        {net: round(value, DIGITS) for net, value in distances.items()},
        tuple(sorted(rows[other].title for other in range(len(rows)) if _beats(compared, index, other))),
    )


def _beats(compared: Comparison, one: int, other: int) -> bool:
    """Some opinion says so beyond chance, and none the contrary."""
    said = {compared.verdict(one, other, net) for net in compared.nets} if one != other else set()
    return BETTER in said and WORSE not in said
