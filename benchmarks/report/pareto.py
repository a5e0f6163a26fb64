"""Which measured points are worth choosing, and what the opinions on them dispute: pure functions of numbers.

An opinion is a net in whose features a distance was taken. Distances of several nets have no common unit, so they are
never added: one point beats another if it does so under each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from benchmarks.statistics import ALIKE, BETTER, WORSE


@dataclass(frozen=True)
class Point:
    """A latency and, by the name of each opinion, a distance: less is better in all."""

    latency: float
    opinions: Mapping[str, float]


Judge = Callable[[str, int, int], str]
"""`judge(opinion, i, j)`: what an opinion says of point i against point j: better, worse or indistinguishable."""


def by_value(points: Sequence[Point]) -> Judge:
    """The verdict of the bare numbers, where nothing says how far chance alone moves them."""

    def judge(opinion: str, i: int, j: int) -> str:
        a, b = points[i].opinions[opinion], points[j].opinions[opinion]
        return ALIKE if a == b else BETTER if a < b else WORSE

    return judge


def dominates(points: Sequence[Point], i: int, j: int, judge: Judge | None = None) -> bool:
    """Whether point i is at least as fast as j and better under every opinion; beyond chance, if `judge` knows it.

    By bare numbers it may be as good under some opinions, or under all if it is faster: a tie is no reason to keep the
    slower one. A verdict "indistinguishable" says that nobody knows, so it never beats anything.
    """
    said = judge or by_value(points)
    if points[i].latency > points[j].latency or not _opinions(points, i, j):
        return False
    verdicts = {said(opinion, i, j) for opinion in _opinions(points, i, j)}
    if judge is not None:
        return verdicts == {BETTER}
    return WORSE not in verdicts and (BETTER in verdicts or points[i].latency < points[j].latency)


def front(points: Sequence[Point], judge: Judge | None = None) -> list[int]:
    """The indices of the points that no other dominates, by rising latency."""
    everyone = range(len(points))
    kept = [j for j in everyone if not any(dominates(points, i, j, judge) for i in everyone if i != j)]
    return sorted(kept, key=lambda index: (points[index].latency, tuple(points[index].opinions.values())))


@dataclass(frozen=True)
class Dispute:
    """Two points that two opinions put in opposite order, each beyond chance."""

    first: int
    second: int
    for_first: str  # the opinion that finds the first better
    for_second: str


def disputes(points: Sequence[Point], judge: Judge | None = None) -> Iterator[Dispute]:
    """Every such pair of points, once for each pair of opinions; `judge` says what is beyond chance."""
    said = judge or by_value(points)
    for i, j in combinations(range(len(points)), 2):
        opinions = _opinions(points, i, j)
        verdicts = {opinion: said(opinion, i, j) for opinion in opinions}
        for pro in (opinion for opinion in opinions if verdicts[opinion] == BETTER):
            for contra in (opinion for opinion in opinions if verdicts[opinion] == WORSE):
                yield Dispute(i, j, pro, contra)


def _opinions(points: Sequence[Point], i: int, j: int) -> list[str]:
    """Of both points: where one was not judged by a net, that net says nothing of the two."""
    return [opinion for opinion in points[i].opinions if opinion in points[j].opinions]
