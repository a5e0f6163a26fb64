"""`model: auto` in simulation: what is chosen, who is turned away, and what comes of it beyond capacity."""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from serving import front
from serving.doors.turns import Ticket, Times, Turns
from serving.front import Point, unbeaten
from serving.scheduling import BusyError
from zoo.contract.request import Setting
from zoo.errors import StoreError

NET = "critic"
SERVED = ("ddpm", "ddpm-pd4", "ddpm-pd2", "ddpm-pd1")
SLOTS, DEADLINE_S, REQUESTS = 2, 0.25, 2000


def points(*wanted: tuple[str, float, int, Sequence[str]]) -> list[Point]:
    return [
        Point(title, title.split()[0], "", Setting(calls), calls, ms, {NET: 1.0}, tuple(beats))
        for title, ms, calls, beats in wanted
    ]


THREE = points(
    ("slow 50", 50.0, 50, ["quick 1", "middle 4"]), ("middle 4", 5.0, 4, ["quick 1"]), ("quick 1", 1.0, 1, [])
)


def ticket(deadline: float, options: Sequence[Point] = THREE, arrived: float = 0.0, images: int = 1) -> Ticket:
    return Ticket(deadline, arrived, {point.title: (point, float(images * point.calls)) for point in options})


@pytest.mark.parametrize(("deadline", "title"), [(1.0, "slow 50"), (0.05, "middle 4"), (0.004, "quick 1")])
def test_the_best_that_is_in_time_is_chosen(deadline: float, title: str) -> None:
    turns = Turns(Times(THREE), 1)
    turns.admit(ticket(deadline), 0.0)
    found = turns.next(0.0)
    assert found is not None
    assert found[1].point.title == title
    assert turns.next(0.0) is None, "its only slot is taken"


def test_of_two_that_are_not_told_apart_the_quicker_is_chosen() -> None:
    alike = points(("slow 50", 50.0, 50, ["quick 1"]), ("middle 4", 5.0, 4, ["quick 1"]), ("quick 1", 1.0, 1, []))
    turns = Turns(Times(alike), 1)
    turns.admit(ticket(10.0, alike), 0.0)
    found = turns.next(0.0)
    assert found is not None
    assert found[1].point.title == "middle 4"
    assert "nothing that is served beats it" in found[1].why


def test_quality_goes_down_before_anybody_is_turned_away() -> None:
    """Ten with 60 ms each: the first may have no 50 ms, as the last would be too late."""
    turns, now, got = Turns(Times(THREE), 1), 0.0, []
    for _ in range(10):
        turns.admit(ticket(0.06), now)
    while (found := turns.next(now)) is not None:
        one, chosen = found
        got.append(chosen.point.title)
        now += chosen.seconds
        assert now <= 0.06
        turns.done(one, chosen, chosen.seconds)
    assert len(got) == 10
    assert got[0] == "middle 4"
    assert "slow 50 is better and takes too long" in chosen.why


def test_who_cannot_be_in_time_is_turned_away_at_once() -> None:
    turns = Turns(Times(THREE), 1)
    with pytest.raises(BusyError, match="nothing that is served answers within 1 ms beside 0 others, the quickest in"):
        turns.admit(ticket(0.001), 0.0)
    for _ in range(8):
        turns.admit(ticket(0.01), 0.0)
    with pytest.raises(BusyError, match="beside 8 others"):
        turns.admit(ticket(0.01), 0.0)
    with pytest.raises(BusyError):
        turns.admit(ticket(0.003), 0.0)  # it could, and who waits could not any more
    assert len(turns.waiting) == 8
    turns.leave(turns.waiting[0])
    turns.admit(ticket(0.01), 0.0)


def test_a_crowd_is_turned_away_before_it_is_known_what_it_asks_for() -> None:
    turns = Turns(Times(THREE), 1)
    turns.admit(ticket(0.01), 0.0)
    turns.next(0.0)
    turns.refuse(ticket(1.0, THREE[2:]), 0.0)
    assert not turns.waiting, "it is looked at, not let in"
    with pytest.raises(BusyError) as early:
        turns.refuse(ticket(0.001, THREE[2:]), 0.0)
    assert len(turns.came) == 2, "who is turned away has come too"
    with pytest.raises(BusyError) as late:
        turns.admit(ticket(0.001), 0.0)
    assert str(early.value) == str(late.value)


def test_times_are_learnt_where_they_are_taken() -> None:
    times = Times(THREE)
    assert times.seconds("middle", 8.0) == pytest.approx(0.01)
    for _ in range(50):
        times.saw("quick", 1.0, 0.003)
    assert times.seconds("quick", 1.0) == pytest.approx(0.003)
    assert times.seconds("middle", 4.0) == pytest.approx(0.015), "as slow as what is known of others"
    times.saw("nobody", 1.0, 9.0)


def test_what_others_kept_waiting_is_no_time_of_a_generator() -> None:
    times = Times(THREE)
    times.heard("quick", 1.0, 5.0)  # of sixteen that were asked for by name at once
    assert times.seconds("quick", 1.0) == 0.001
    times.heard("quick", 1.0, 0.0005)
    assert times.seconds("quick", 1.0) == pytest.approx(0.0005)


def test_a_host_that_was_slow_for_a_while_is_not_held_for_slow_for_ever() -> None:
    """Who is turned away teaches nothing, so that nobody would be let in again."""
    turns = Turns(Times(THREE), 1)
    turns.times.saw("quick", 1.0, 0.001)
    for _ in range(20):
        turns.times.saw("quick", 1.0, 1.0)
    refused = 0
    while True:
        try:
            turns.admit(ticket(0.25), 0.0)
            break
        except BusyError:
            refused += 1
    assert 1 < refused < 20
    turns.next(0.0)
    before = turns.times.seconds("quick", 1.0)
    with pytest.raises(BusyError):
        turns.admit(ticket(0.0001), 0.0)
    assert turns.times.seconds("quick", 1.0) == before, "somebody is served, and will tell"


def test_a_line_has_what_does_not_depend_on_calls() -> None:
    times = Times(points(("ddpm 10", 12.0, 10, []), ("ddpm 50", 52.0, 50, [])))
    assert times.seconds("ddpm", 0.0) == pytest.approx(0.002)
    assert times.seconds("ddpm", 20.0) == pytest.approx(0.022)


def test_the_front_of_the_release_is_read_and_is_of_these_weights() -> None:
    from zoo import index

    weights = {name: record["weights"]["sha256"] for name, record in index.records().items()}
    for each in front.read().values():
        assert each.points
        assert each.of(weights) == each, "`genzoo tree` writes it anew"
        assert each.of({}).points == ()
        titles = {point.title for point in each.points}
        assert all(set(point.beats) < titles - {point.title} for point in each.points)
        assert unbeaten(each.points)


def test_a_front_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    for text in ("", "{}", '{"format": "genzoo-front/9"}', '{"format": "genzoo-front/1", "fronts": [{}]}'):
        (tmp_path / "front.json").write_text(text)
        with pytest.raises(StoreError, match=r"could not be read .*`genzoo tree` writes it"):
            front.read(tmp_path / "front.json")


@dataclass
class Outcome:
    in_time: int
    distance: float  # mean of what was in time, of each the geometric mean over all nets
    seconds: float

    @property
    def rate(self) -> float:
        return self.in_time / self.seconds


def simulated(options: Sequence[Point], rate: float) -> Outcome:
    """Requests at random, `rate` a second; a point takes what was measured, half to twice as long by chance."""
    draw = random.Random(7)
    turns = Turns(Times(options), SLOTS)
    arrivals, now = [], 0.0
    for _ in range(REQUESTS):
        now += draw.expovariate(rate)
        arrivals.append(now)
    ends: list[tuple[float, int]] = []
    made = {}
    distances = []
    at = 0
    while at < len(arrivals) or ends:
        if ends and (at == len(arrivals) or ends[0][0] <= arrivals[at]):
            now, key = heapq.heappop(ends)
            one, chosen, began = made.pop(key)
            turns.done(one, chosen, now - began)
            if now <= one.deadline:
                distances.append(distance(chosen.point))
        else:
            now = arrivals[at]
            at += 1
            with suppress(BusyError):
                turns.admit(ticket(now + DEADLINE_S, options, now), now)
        while (found := turns.next(now)) is not None:
            seconds = found[1].point.ms / 1e3 * float(np.clip(draw.lognormvariate(0.0, 0.2), 0.5, 2.0))
            made[id(found[0])] = (*found, now)
            heapq.heappush(ends, (now + seconds, id(found[0])))
    return Outcome(len(distances), float(np.mean(distances or [np.inf])), arrivals[-1])


def distance(point: Point) -> float:
    return float(np.exp(np.mean(np.log(list(point.distances.values())))))


@pytest.mark.parametrize("overload", ["ddpm 50", "ddpm-pd4 4", "ddpm-pd1 1"])
def test_beyond_capacity_all_that_can_be_is_in_time_and_better_than_by_any_one_choice(overload: str) -> None:
    """At twice the capacity of a point, against each that is as many images in time; a hundredth is the beginning's."""
    known = [point for point in front.read()["fashion_mnist"].points if point.generator in SERVED]
    capacity = {point.title: SLOTS / (point.ms / 1e3) for point in known}
    rate, most = 2.0 * capacity[overload], max(capacity.values())
    chosen = simulated(known, rate)
    assert chosen.rate >= 0.9 * min(rate, most)
    for point in known:
        fixed = simulated([point], rate)
        if fixed.rate >= 0.99 * chosen.rate:
            assert chosen.distance <= 1.01 * fixed.distance, point.title


def test_in_calm_each_gets_the_best_that_is_not_told_from_a_better_one() -> None:
    known = [point for point in front.read()["fashion_mnist"].points if point.generator in SERVED]
    best = min(unbeaten(known), key=lambda point: point.ms)
    calm = simulated(known, 10.0)
    assert calm.rate >= 9.9
    assert calm.distance == pytest.approx(distance(best))
