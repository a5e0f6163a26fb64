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
from benchmarks.report.pareto import BETTER, SAME, WORSE, Point
from benchmarks.report.summary import Row

LETTERS = {BETTER: "b", WORSE: "w", SAME: "i", "": "-"}
_TURNED = {BETTER: WORSE, WORSE: BETTER, SAME: SAME, "": ""}


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
        points = self._points(timed, [latencies[index] or 0.0 for index in timed])
        front = pareto.front(points, lambda net, i, j: self.verdict(timed[i], timed[j], net))
        return {index for place, index in enumerate(timed) if place not in front}

    @property
    def disputes(self) -> list[dict[str, Row]]:
        """The pairs that one opinion puts in this order beyond chance and another in that: of each, by the name of the
        net, the row that it prefers, where it sees a difference."""
        every = range(len(self.rows))
        points = self._points(every, [0.0] * len(self.rows))
        disputed = pareto.disputes(points, lambda net, i, j: self.verdict(i, j, net))
        found = {}
        for first, second in dict.fromkeys((each.first, each.second) for each in disputed):
            words = {net: self.verdict(first, second, net) for net in self.nets}
            sure = {net: word for net, word in words.items() if word in (BETTER, WORSE)}
            found[first, second] = {net: self.rows[first if word == BETTER else second] for net, word in sure.items()}
        return list(found.values())

    def _points(self, places: Sequence[int], latencies: Sequence[float]) -> list[Point]:
        values = [{net: self.rows[place].metric(self.kind, net) for net in self.nets} for place in places]
        known = [{net: found.value for net, found in each.items() if found} for each in values]
        return [Point(latency, opinions) for latency, opinions in zip(latencies, known, strict=True)]
