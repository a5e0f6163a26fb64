"""The race: how long each system takes for so many images, and what those images are worth.

A row whose time was extrapolated says so, states how many images it made, and gets no verdict.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import records
from benchmarks.measure.workload import title
from benchmarks.quality import judges
from benchmarks.quality.metric import net_of
from benchmarks.quality.metrics import LOWER_IS_BETTER
from benchmarks.records import Record
from benchmarks.report import plot, summary
from benchmarks.report.palette import Look, look
from benchmarks.report.plot import Frame, Plot, Point
from benchmarks.statistics import Estimate, Jackknifed, short

SHOWN = "fd_inf"  # the distance that may be compared where systems made different numbers of images
UNITS = (("s", 1.0, 120.0), ("min", 60.0, 7200.0), ("h", 3600.0, math.inf))  # each with its length, and up to where


@dataclass(frozen=True)
class Runner:
    """One system's part in the race."""

    title: str
    generator: str
    runtime: str
    look: Look
    counted: int  # images that were made and judged
    seconds: Estimate
    extrapolated: bool
    speedup: Estimate | None
    distances: dict[str, Estimate]  # in infinitely many images, by net
    verdict: str  # of all opinions, against the one that all are compared with

    @property
    def took(self) -> str:
        """Its time in words, marked where most of it did not pass."""
        return ("≈ " if self.extrapolated else "") + duration(self.seconds)


@dataclass(frozen=True)
class Race:
    """All that ran for the same number of images on the same machine, the fastest first."""

    images: int
    machine: dict[str, Any]
    nets: tuple[str, ...]
    runners: list[Runner]
    slowest: str  # whose time a speed-up is over
    reference: str  # whose images the others' are compared with: the slowest that made all of them


def of(found: Iterable[Record]) -> Race | None:
    """The race with the most systems on record; None where none was run."""
    groups: dict[bytes, list[Record]] = {}
    for record in records.latest(found):
        identity = record["identity"]
        if identity["kind"] == "race":
            key = records.canonical([identity["machine"], identity["protocol"]["images"]])
            groups.setdefault(key, []).append(record)
    if not groups:
        return None
    most = max(groups.values(), key=len)
    ran = sorted(most, key=lambda record: float(record["seconds"]["value"]))
    names = {net_of(name) for record in ran for name in record["metrics"] if name.startswith("fd_")}
    ours = [net for net in judges.of(judges.FIRST).names if net in names]
    nets = (*ours, *sorted(names - set(ours)))
    whole = [record for record in ran if not record["extrapolated"] and record["left_out"]]
    reference = whole[-1] if whole else None
    runners = [_runner(record, reference, nets) for record in ran]
    identity = ran[0]["identity"]
    protocol, images = identity["protocol"], _title(reference) if reference else ""
    return Race(protocol["images"], identity["machine"], nets, runners, protocol["reference"], images)


def _title(record: Record) -> str:
    of = record["identity"]["race"]
    return title(of["generator"], summary.setting(of), of["precision"])


def _runner(record: Record, reference: Record | None, nets: Sequence[str]) -> Runner:
    identity, counted = record["identity"], int(record["identity"]["protocol"]["counted"])
    distances = {}
    for net in nets:
        if name := summary.named(record["metrics"], SHOWN, net):
            distances[net] = Estimate(**record["metrics"][name])
    words = {net: _verdict(record, reference, net) for net in nets}
    return Runner(
        _title(record),
        identity["race"]["generator"],
        identity["race"]["runtime"],
        look(record["family"]),
        counted,
        Estimate(**record["seconds"]),
        bool(record["extrapolated"]),
        Estimate(**record["speedup"]) if record["speedup"] else None,
        distances,
        summary.opinion(words),
    )


def _verdict(record: Record, reference: Record | None, net: str) -> str:
    if reference is None or record is reference or record["extrapolated"] or not record["left_out"]:
        return ""
    one, two = _jackknifed(record, net), _jackknifed(reference, net)
    return one.against(two, lower_is_better=LOWER_IS_BETTER["fd"]).word if one and two else ""


def _jackknifed(record: Record, net: str) -> Jackknifed | None:
    name = summary.named(record["left_out"], "fd", net)
    if not name:
        return None
    return Jackknifed(record["metrics"][name]["value"], np.array(record["left_out"][name]))


def drawn(race: Race | None, frame: Frame = plot.FRAME) -> Plot | None:
    """Seconds for all images against `SHOWN` in the first net's features; hollow is extrapolated."""
    if race is None or not race.nets:
        return None
    points = [
        Point(each.title, number, each.look, each.seconds, distance, hollow=each.extrapolated)
        for number, each in enumerate(race.runners, 1)
        if (distance := each.distances.get(race.nets[0]))
    ]
    return plot.draw(points, frame)


def duration(seconds: Estimate) -> str:
    """`2.41 min (2.36 to 2.46)`, in the unit that reads best."""
    unit, length = next((u, n) for u, n, most in UNITS if seconds.value < most)
    value, low, high = (short(part / length) for part in (seconds.value, seconds.low, seconds.high))
    return f"{value} {unit} ({low} to {high})"
