from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.report import pareto
from benchmarks.report.pareto import Dispute, Point
from benchmarks.statistics import ALIKE, BETTER, WORSE

NETS = ("a", "b", "c")
VALUES = st.floats(0.01, 100.0).map(lambda value: round(value, 1))
POINTS = st.lists(
    st.builds(lambda t, *each: Point(t, dict(zip(NETS, each, strict=True))), VALUES, VALUES, VALUES, VALUES),
    min_size=1,
    max_size=15,
)


def one(*pairs: tuple[float, float]) -> list[Point]:
    return [Point(latency, {"a": distance}) for latency, distance in pairs]


def test_front_of_one_opinion() -> None:
    points = one((1.0, 9.0), (2.0, 5.0), (2.0, 6.0), (3.0, 7.0), (4.0, 1.0), (9.0, 1.0))
    assert pareto.front(points) == [0, 1, 4]
    assert [pareto.dominates(points, i, 3) for i in range(6)] == [False, True, True, False, False, False]


def test_a_point_is_beaten_only_under_every_opinion() -> None:
    fast, slow = Point(1.0, {"a": 1.0, "b": 5.0}), Point(2.0, {"a": 2.0, "b": 4.0})
    assert pareto.front([fast, slow]) == [0, 1]
    assert pareto.front([fast, Point(2.0, {"a": 2.0, "b": 6.0})]) == [0]
    assert pareto.front([fast, Point(2.0, {})]) == [0, 1], "nobody judged both"
    assert pareto.front([fast, Point(2.0, {"a": 2.0})]) == [0], "the one who judged both says so"


def test_what_may_be_chance_beats_nothing() -> None:
    points = [Point(1.0, {"a": 1.0, "b": 1.0}), Point(2.0, {"a": 2.0, "b": 1.1})]

    def judge(opinion: str, i: int, j: int) -> str:
        return ALIKE if opinion == "b" else pareto.by_value(points)(opinion, i, j)

    assert pareto.front(points) == [0]
    assert pareto.front(points, judge) == [0, 1]
    assert list(pareto.disputes(points, judge)) == []


def test_a_dispute_names_both_opinions() -> None:
    points = [Point(9.0, {"a": 1.0, "b": 5.0, "c": 3.0}), Point(1.0, {"a": 2.0, "b": 4.0, "c": 3.0})]
    assert list(pareto.disputes(points)) == [Dispute(0, 1, "a", "b")]
    assert list(pareto.disputes(points[::-1])) == [Dispute(0, 1, "b", "a")]


@given(POINTS)
def test_every_point_is_on_the_front_or_beaten_by_one_on_it(points: list[Point]) -> None:
    best = pareto.front(points)
    for j in range(len(points)):
        beaten = any(pareto.dominates(points, i, j) for i in best)
        assert beaten != (j in best)


@given(POINTS)
def test_whom_one_beats_the_others_do_not_dispute_and_more_opinions_beat_fewer(points: list[Point]) -> None:
    disputed = {(each.first, each.second) for each in pareto.disputes(points)}
    for i, j in product(range(len(points)), repeat=2):
        if i != j and pareto.dominates(points, i, j):
            assert (min(i, j), max(i, j)) not in disputed
            assert not pareto.dominates(points, j, i)
            one = [Point(p.latency, {"a": p.opinions["a"]}) for p in points]
            assert pareto.dominates(one, i, j) or one[i] == one[j]
    verdicts = pareto.by_value(points)
    for each in pareto.disputes(points):
        said = [verdicts(net, each.first, each.second) for net in (each.for_first, each.for_second)]
        assert said == [BETTER, WORSE]
