"""Rows against each other: who is better beyond chance, who is on the front, and what the opinions dispute.

An opinion is a feature net. Two rows are compared by what their metrics are without each group of images; as the seeds
are the same, what chance does to both falls out of the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from benchmarks.quality.metrics import LOWER_IS_BETTER
from benchmarks.report import pareto, summary
from benchmarks.report.summary import Row
from benchmarks.statistics import ALIKE, BETTER, WORSE

LETTERS = {BETTER: "b", WORSE: "w", ALIKE: "i", "": "-"}
_TURNED = {BETTER: WORSE, WORSE: BETTER, ALIKE: ALIKE, "": ""}


@dataclass(frozen=True)
class Dispute:
    """Two rows that opinions put in opposite order, each beyond chance."""

    better: dict[str, Row]  # net -> the row that it prefers, of the nets that see a difference


@dataclass(frozen=True)
class Comparison:
    """Of each of some rows with each, in one metric, by each of some nets."""

    rows: Sequence[Row]
    nets: tuple[str, ...]
    kind: str = "fd"

    @cached_property
    def _words(self) -> dict[str, dict[tuple[int, int], str]]:
        return {net: self._of(net) for net in self.nets}

    def _of(self, net: str) -> dict[tuple[int, int], str]:
        lower, found = LOWER_IS_BETTER[self.kind], {}
        seen = [row.jackknifed(self.kind, net) for row in self.rows]
        for i, j in combinations(range(len(self.rows)), 2):
            one, two = seen[i], seen[j]
            comparable = one is not None and two is not None and self.rows[i].count == self.rows[j].count
            word = one.against(two, lower_is_better=lower).word if comparable and one and two else ""
            found[i, j], found[j, i] = word, _TURNED[word]
        return found

    def verdict(self, one: int, other: int, net: str) -> str:
        """ "better", "worse" or "indistinguishable" at 95 %; empty where there is no saying."""
        return self._words[net].get((one, other), "")

    def opinion(self, one: int, other: int) -> str:
        """What all nets together say of a row against another, as `summary.opinion` puts it."""
        return summary.opinion({net: self.verdict(one, other, net) for net in self.nets})

    def against(self, reference: Row | None) -> list[str]:
        """The opinion of each row against one of them; empty for that row, and for all where there is none."""
        place = next((index for index, row in enumerate(self.rows) if row is reference), None)
        return ["" if place is None else self.opinion(index, place) for index in range(len(self.rows))]

    def letters(self, net: str) -> list[str]:
        """A line a row with a letter for each other: b(etter), w(orse), i(ndistinguishable), - for nothing."""
        every = range(len(self.rows))
        return ["".join(LETTERS[self.verdict(one, other, net)] for other in every) for one in every]

    def beaten(self, latencies: Sequence[float | None]) -> set[int]:
        """The rows than which another is as fast, and better under every opinion: they are not on the front."""
        timed = [index for index, latency in enumerate(latencies) if latency is not None]
        points = [self._point(0.0 if latency is None else latency) for latency in latencies]
        return {
            one
            for one in timed
            if any(pareto.dominates(points, other, one, self._judge) for other in timed if other != one)
        }

    def _point(self, latency: float) -> pareto.Point:
        """A row as every opinion sees it; what they say of two is a verdict, not a number."""
        return pareto.Point(latency, dict.fromkeys(self.nets, 0.0))

    def _judge(self, net: str, one: int, other: int) -> str:
        return self.verdict(one, other, net)

    @property
    def disputes(self) -> list[Dispute]:
        """The pairs that one opinion puts in this order beyond chance, and another in that."""
        found: dict[tuple[int, int], dict[str, Row]] = {}
        for each in pareto.disputes([self._point(0.0)] * len(self.rows), self._judge):
            sides = {each.for_first: self.rows[each.first], each.for_second: self.rows[each.second]}
            found.setdefault((each.first, each.second), {}).update(sides)
        return [Dispute(better) for better in found.values()]
