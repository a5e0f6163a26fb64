"""A plot of two logarithmic axes as SVG: estimates to coordinates, and a label for every point that meets no other.

The style sheet around it gives the colours, light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from benchmarks.report import pareto
from benchmarks.report.palette import Look
from benchmarks.statistics import Estimate, short


@dataclass(frozen=True)
class Frame:
    """The size of a plot, and what its axes' words take of it, in pixels."""

    width: int = 1000
    height: int = 470
    left: int = 52
    right: int = 14
    top: int = 34
    bottom: int = 46
    letter: float = 6.3  # a label's, and the height of its line
    line: float = 14.0
    size: float = 9.0  # of a mark


FRAME = Frame()


@dataclass(frozen=True)
class Point:
    """What is drawn of a system: two estimates, and how it is called; the number stands for it where room is short."""

    text: str
    number: int
    look: Look
    x: Estimate
    y: Estimate
    grey: bool = False  # others are better in all
    hollow: bool = False  # not a measurement of the whole
    divided: bool = False  # the opinions are, over whether others are better


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
class Label:
    x: float
    y: float
    anchor: str
    text: str
    leader: tuple[float, float] | None = None  # where a line from the point ends, for one that stands apart


@dataclass(frozen=True)
class Mark:
    point: Point
    x: float
    y: float
    x_low: float
    x_high: float
    y_low: float
    y_high: float
    label: Label

    @property
    def words(self) -> str:
        """For who cannot see where it is."""
        return f"{self.point.text}: {short(self.point.x.value)}, {self.point.y}"


@dataclass(frozen=True)
class Plot:
    x: Axis
    y: Axis
    marks: list[Mark]
    front: str  # an SVG path
    floor: float | None  # y
    frame: Frame

    @property
    def looks(self) -> list[Look]:
        """Of the families that are drawn, for the key."""
        return list({mark.point.look.family: mark.point.look for mark in self.marks}.values())

    def key(self) -> list[tuple[float, float, Look]]:
        """Where each family's mark and words stand, in lines below the plot: (x, y, look)."""
        x, y, places = float(self.frame.left), 0.0, []
        for look in self.looks:
            width = 34 + 1.05 * self.frame.letter * len(look.words)
            if x + width > self.frame.width - self.frame.right:
                x, y = float(self.frame.left), y + 18.0
            places.append((round(x, 1), y, look))
            x += width
        return places


def draw(points: Sequence[Point], frame: Frame = FRAME, floor: float | None = None) -> Plot | None:
    """None where there is nothing to draw. The points that others leave on the front choose their labels first."""
    points = [point for point in points if point.x.value > 0.0 and point.y.value > 0.0]
    if not points:
        return None
    floor = max(floor, 1e-3) if floor else None
    x = _axis([point.x.value for point in points], frame.left, frame.width - frame.right)
    heights = [point.y.value for point in points] + ([floor] if floor else [])
    y = _axis(heights, frame.height - frame.bottom, frame.top)
    places = [(x(point.x.value), y(point.y.value)) for point in points]
    best = pareto.front([pareto.Point(point.x.value, {"": point.y.value}) for point in points])
    order = sorted(range(len(points)), key=lambda index: (index not in best, points[index].grey))
    labels = _labels(places, points, order, frame)
    marks = [
        Mark(
            point,
            *places[index],
            x(point.x.low),
            x(point.x.high),
            y(max(point.y.low, y.low)),
            y(point.y.high),
            labels[index],
        )
        for index, point in enumerate(points)
    ]
    stairs = _stairs([places[index] for index in best], frame.width - frame.right)
    return Plot(x, y, marks, stairs, y(floor) if floor else None, frame)


def _axis(values: list[float], start: float, end: float) -> Axis:
    low, high = min(values), max(values)
    room = max((high / low) ** 0.06, 1.2)
    return Axis(low / room, high * room, start, end)


def _stairs(corners: list[tuple[float, float]], end: float) -> str:
    """What can be had at each latency: level until the next point of the front."""
    path = "".join(f"H{x}V{y}" for x, y in corners[1:])
    return f"M{corners[0][0]},{corners[0][1]}{path}H{end}" if corners else ""


Place = tuple[float, float]
Box = tuple[float, float, float, float]
BESIDE = ((11, 4), (9, -7), (9, 15), (11, -18), (11, 26))


def _labels(places: list[Place], points: Sequence[Point], order: Sequence[int], frame: Frame) -> dict[int, Label]:
    """By a point's index: its words beside it where there is room, else its number, in the last resort on a line."""
    half = 0.6 * frame.size
    taken: list[Box] = [(x - half, y - half, x + half, y + half) for x, y in places]
    labels: dict[int, Label] = {}
    for words in (True, False):  # numbers only once no more words fit: they are for what is left
        for index in order:
            if index in labels:
                continue
            text = points[index].text if words else str(points[index].number)
            label, box = _place(text, places[index], taken, frame, far=not words)
            if label:
                labels[index] = label
                taken += [box] if box else []
    return labels


def _place(
    text: str, place: Place, taken: Collection[Box], frame: Frame, *, far: bool
) -> tuple[Label | None, Box | None]:
    """A label that meets nothing; with `far` one on a line rather than none, on top of others if it must."""
    x, y = place
    width = frame.letter * len(text)
    near = [(x + dx, y + dy, "start") for dx, dy in BESIDE] + [(x - dx, y + dy, "end") for dx, dy in BESIDE]
    apart = [
        (x + radius * math.cos(turn * math.pi / 8), y + radius * math.sin(turn * math.pi / 8) + 4, "middle")
        for radius in range(20, 120, 8)
        for turn in range(16)
    ]
    for index, (left, bottom, anchor) in enumerate([*near, *(apart if far else [])]):
        begin = left - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
        box = (begin, bottom - frame.line + 4, begin + width, bottom + 2)
        inside = box[0] > frame.left and box[2] < frame.width - 4 and box[1] > frame.top - 8
        if inside and box[3] < frame.height - frame.bottom and not any(_overlap(box, other) for other in taken):
            leader = (round(left, 1), round(bottom - 4, 1)) if index >= len(near) else None
            return Label(round(left, 1), round(bottom, 1), anchor, text, leader), box
    return (Label(round(x + 8, 1), round(y + 4, 1), "start", text), None) if far else (None, None)


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
