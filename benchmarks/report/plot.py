"""The latency/quality plot as SVG: numbers to coordinates; the page's style sheet gives the colours, light and dark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.report import pareto
from benchmarks.report.summary import Row, Section

Label = tuple[float, float, str]  # x, y, text anchor


@dataclass(frozen=True)
class Frame:
    """The size of a plot, and what its axes' words take of it, in pixels."""

    width: int = 480
    height: int = 420
    left: int = 48
    right: int = 12
    top: int = 34
    bottom: int = 50
    letter: float = 8.2  # a label's, and the height of its line
    line: float = 17.0


FRAME = Frame()


@dataclass(frozen=True)
class Axis:
    """A logarithmic axis from `low` to `high`, drawn from pixel `start` to pixel `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        span = math.log(self.high / self.low)
        share = math.log(min(max(value, self.low), self.high) / self.low) / span
        return round(self.start + share * (self.end - self.start), 1)

    @property
    def ticks(self) -> list[float]:
        exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        steps = (1, 2, 5) if self.high / self.low < 2000 else (1,)
        return [v for e in exponents for s in steps if self.low <= (v := s * 10.0**e) <= self.high]


@dataclass(frozen=True)
class Mark:
    row: Row
    text: str
    x: float
    y: float
    y_low: float
    y_high: float
    on_front: bool
    label: Label | None  # None where there is no room


@dataclass(frozen=True)
class Plot:
    net: str
    x: Axis
    y: Axis
    marks: list[Mark]
    front: str  # an SVG path
    floor: float | None  # y
    runtime: str


def plots(section: Section, frame: Frame = FRAME, names: Mapping[str, str] = {}) -> list[Plot]:
    """One plot a feature net: p50 of one image against the Fréchet distance. None where nothing was timed or judged.

    `names` are labels by the titles of rows, where those are not to be the titles themselves.
    """
    runtime = section.runtime
    judged = any(row.metrics for row in section.rows)
    return [plot(section, runtime, net, frame, names) for net in section.judges.names] if runtime and judged else []


def plot(section: Section, runtime: str, net: str, frame: Frame, names: Mapping[str, str]) -> Plot:
    measured = [
        (row, p50.value, distance)
        for row in section.rows
        if (p50 := row.percentile(runtime)) and (distance := row.metric("fd", net))
    ]
    rows, distances = [row for row, _, _ in measured], [distance for _, _, distance in measured]
    baseline = section.baselines.get("floor")
    floor = max(baseline[f"fd_{_count(section)}_{net}"].value, 1e-3) if baseline else None
    points = [(latency, distance.value) for _, latency, distance in measured]
    lowest = min([distance for _, distance in points] + ([floor] if floor else []))
    x = _axis([latency for latency, _ in points], frame.left, frame.width - frame.right)
    y = _axis([lowest, *(distance for _, distance in points)], frame.height - frame.bottom, frame.top)
    best = pareto.front([pareto.Point(latency, {net: distance}) for latency, distance in points])
    places = [(x(latency), y(distance)) for latency, distance in points]
    texts = [names.get(row.title, row.title) for row in rows]
    labels = _labels(places, texts, frame, best)
    marks = [
        Mark(row, texts[i], *places[i], y(max(e.low, y.low)), y(e.high), i in best, labels[i])
        for i, (row, e) in enumerate(zip(rows, distances, strict=True))
    ]
    stairs = _stairs([places[i] for i in best], frame.width - frame.right)
    return Plot(net, x, y, marks, stairs, y(floor) if floor else None, runtime)


def _count(section: Section) -> str:
    return f"{section.count // 1000}k" if section.count % 1000 == 0 else str(section.count)


def _axis(values: list[float], start: float, end: float) -> Axis:
    low, high = min(values), max(values)
    room = max((high / low) ** 0.08, 1.25)
    return Axis(low / room, high * room, start, end)


def _stairs(corners: list[tuple[float, float]], end: float) -> str:
    """What can be had at each latency: level until the next point of the front."""
    path = "".join(f"H{x}V{y}" for x, y in corners[1:])
    return f"M{corners[0][0]},{corners[0][1]}{path}H{end}" if corners else ""


def _labels(
    places: list[tuple[float, float]], texts: list[str], frame: Frame, first: Sequence[int]
) -> list[Label | None]:
    """A place beside each point where its text meets neither a point nor another text; the points of `first` choose."""
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in places]
    labels: list[Label | None] = [None] * len(places)
    for index in dict.fromkeys((*first, *range(len(places)))):
        x, y = places[index]
        width = frame.letter * len(texts[index])
        options = [(x + dx, y + dy, "start") for dx, dy in ((8, 5), (6, -8), (6, 18), (8, -20), (8, 30))]
        options += [(x + dx, y + dy, "end") for dx, dy in ((-8, 5), (-6, -8), (-6, 18), (-8, -20), (-8, 30))]
        for left, bottom, anchor in options:
            begin = left if anchor == "start" else left - width
            box = (begin, bottom - frame.line + 4, begin + width, bottom + 2)
            inside = box[0] > frame.left and box[2] < frame.width - 4 and box[1] > 0
            if inside and box[3] < frame.height - frame.bottom and not any(_overlap(box, other) for other in taken):
                labels[index] = (round(left, 1), round(bottom, 1), anchor)
                taken.append(box)
                break
    return labels


Box = tuple[float, float, float, float]


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
