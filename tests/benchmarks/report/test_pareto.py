from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.report import pareto

VALUES = st.floats(0.01, 100.0).map(lambda value: round(value, 1))
POINTS = st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=30)


def test_front_of_known_points() -> None:
    points = [(1.0, 9.0), (2.0, 5.0), (2.0, 6.0), (3.0, 7.0), (4.0, 1.0), (9.0, 1.0)]
    assert pareto.front(points) == [0, 1, 4]
    assert [pareto.dominates(point, points[3]) for point in points] == [False, True, True, False, False, False]


@given(POINTS)
def test_every_point_is_on_the_front_or_beaten_by_one_on_it(points: list[tuple[float, float]]) -> None:
    best = pareto.front(points)
    for index, point in enumerate(points):
        beaten = any(pareto.dominates(points[other], point) for other in best)
        assert beaten != (index in best)
