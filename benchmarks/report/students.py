"""Students beside their teachers: the same seeds, what the opinions say, and how much faster."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.report.comparison import Comparison
from benchmarks.report.summary import Row, Section
from benchmarks.statistics import Estimate
from zoo import registry
from zoo.contract.request import Setting
from zoo.errors import GenzooError


@dataclass(frozen=True)
class Pair:
    """A student at one setting, its teacher, the verdict of each opinion on the student, and its speed-up."""

    student: Row
    teacher: Row
    verdicts: dict[str, str]
    speedup: Estimate | None


def teacher(name: str) -> str | None:
    """The checkpoint that another was made from; None where nobody says."""
    try:
        return registry.entry(name).teacher
    except GenzooError:
        return None


def pairs(sections: Iterable[Section]) -> dict[str, list[Pair]]:
    """By the student's name: each of its settings beside the nearest teacher that was judged in the same section."""
    found: dict[str, list[Pair]] = {}
    for section in sections:
        of = {name: _default(name, section.rows) for name in {row.generator for row in section.rows}}
        comparison = Comparison(section.rows, section.opinions)
        places = {id(row): index for index, row in enumerate(section.rows)}
        for row in section.rows:
            above = _measured_teacher(row.generator, of)
            if (
                above is None
                or not row.grid
                or not above.grid
                or any(pair.student is row for pair in found.get(row.generator, ()))
            ):
                continue
            words = {net: comparison.verdict(places[id(row)], places[id(above)], net) for net in section.opinions}
            speedup = speed(row, above, section.runtime) if section.runtime else None
            found.setdefault(row.generator, []).append(Pair(row, above, words, speedup))
    return found


def _measured_teacher(name: str, of: dict[str, Row]) -> Row | None:
    """The next in a line of teachers that has a row."""
    above, seen = teacher(name), {name}
    while above and above not in seen:
        if above in of:
            return of[above]
        seen.add(above)
        above = teacher(above)
    return None


def _default(name: str, rows: Iterable[Row]) -> Row:
    """What a generator does where nothing is asked of it, or its most calls."""
    mine = [row for row in rows if row.generator == name]
    try:
        asked = Setting().resolved(registry.entry(name).spec)
    except GenzooError:
        asked = None
    return next((row for row in mine if row.setting == asked), max(mine, key=lambda row: row.nfe))


def speed(row: Row, other: Row, runtime: str) -> Estimate | None:
    """How many times as fast as another row it answers one request: of ratios to the reference cell where there are."""
    mine, theirs = row.relative(runtime), other.relative(runtime)
    if mine is None or theirs is None:
        mine, theirs = row.percentile(runtime), other.percentile(runtime)
    if mine is None or theirs is None:
        return None
    value = theirs.value / mine.value
    spread = math.exp(math.hypot(_half_width(mine), _half_width(theirs)))
    return Estimate(value, value / spread, value * spread)


def _half_width(found: Estimate) -> float:
    """Of an interval, in logarithms."""
    return 0.5 * math.log(found.high / found.low)
