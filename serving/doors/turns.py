"""`model: auto`: which measured point a request gets, and when, so that as many as can are answered in their time.

Requests wait here, not at the server, by their deadlines, and what one gets is settled as late as possible: when its
turn comes. It is the best point that leaves both it and all who wait behind it enough, should they get their cheapest,
and that is not more than a request's share of the time at the rate at which they come; so quality goes down before
anybody is turned away. Who cannot be in time even so is turned away at once. Nothing here
sleeps or asks anybody: times come from the caller, as in `serving.scheduling`'s tests.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from serving.front import Point, unbeaten
from serving.scheduling import BusyError

MARGIN = 1.15  # of what is foreseen: a time is the middle of many
NEW_SHARE = 0.2  # of the last time in what is known of a generator's
MAX_WAITING = 256
SPAN_S = 0.25  # at least, over which a rate is taken
SAVED_S = 0.05  # of a slot's time, at most, that requests leave to later ones
RATE_OF = 256  # requests that a rate is taken of


class Times:
    """What points take on this host: what was measured elsewhere, times how much slower each generator is here."""

    def __init__(self, points: Sequence[Point]) -> None:
        self.slowness: dict[str, float] = {}
        self._least: dict[str, float] = {}  # that was seen of each
        self.lines = {name: _line(points, name) for name in {point.generator for point in points}}

    def seconds(self, generator: str, calls: float) -> float:
        """Of a request of so many calls of the network, in the middle."""
        usual = sum(self.slowness.values()) / len(self.slowness) if self.slowness else 1.0
        return self._elsewhere(generator, calls) * self.slowness.get(generator, usual)

    def saw(self, generator: str, calls: float, seconds: float) -> None:
        if generator not in self.lines:
            return
        ratio = seconds / self._elsewhere(generator, calls)
        before = self.slowness.get(generator, ratio)
        self.slowness[generator] = before + NEW_SHARE * (ratio - before)
        self._least[generator] = min(ratio, self._least.get(generator, ratio))

    def heard(self, generator: str, calls: float, seconds: float) -> None:
        """Of one that others may have kept waiting, so that it tells only where it was quicker than is known."""
        if generator in self.lines and seconds < self.seconds(generator, calls):
            self.saw(generator, calls, seconds)

    def doubt(self) -> None:
        """Nobody was let in for what is known, so that nothing new is seen: back a part of the way to the quickest."""
        for generator, least in self._least.items():
            self.slowness[generator] += NEW_SHARE * (least - self.slowness[generator])

    def _elsewhere(self, generator: str, calls: float) -> float:
        fixed, each = self.lines[generator]
        return fixed + each * calls


def _line(points: Sequence[Point], name: str) -> tuple[float, float]:
    """(seconds, seconds of a call) by the points with the fewest and the most calls; all is the calls' where one is."""
    mine = sorted((point.calls, point.ms / 1e3) for point in points if point.generator == name)
    (least, quick), (most, slow) = mine[0], mine[-1]
    if most == least:
        return 0.0, quick / least
    each = max(0.0, (slow - quick) / (most - least))
    return max(0.0, quick - each * least), each


@dataclass(frozen=True)
class Chosen:
    """What a request gets, and what was foreseen: its own `seconds`, `left` of its deadline, and who else there was."""

    point: Point
    seconds: float
    left: float
    waiting: int
    better: Point | None  # the best that it could not have

    @property
    def why(self) -> str:
        """In a sentence."""
        took = f"{self.point.title} takes about {self.seconds * 1e3:.0f} ms of {self.left * 1e3:.0f} ms that are left"
        behind = f" with {self.waiting} waiting behind" if self.waiting else ""
        if self.better is None:
            return f"{took}{behind}, and nothing that is served beats it"
        return f"{took}{behind}; {self.better.title} is better and takes too long"


@dataclass(order=True)
class Ticket:
    """A request that waits. `options` are points with the calls of the network that they would be for it.

    `within` is what it was given, in seconds, where its deadline is not that.
    """

    deadline: float
    arrived: float
    options: Mapping[str, tuple[Point, float]] = field(compare=False)
    within: float | None = field(default=None, compare=False)

    @cached_property
    def cheapest(self) -> tuple[str, float]:
        """The generator and the calls of the option that was the quickest where it was measured."""
        point, calls = min(self.options.values(), key=lambda option: option[0].ms * option[1] / option[0].calls)
        return point.generator, calls


class Turns:
    """The requests of one data set: at most `slots` are made at once, the most urgent next."""

    def __init__(self, times: Times, slots: int) -> None:
        self.times, self.slots = times, slots
        self.waiting: list[Ticket] = []
        self.busy: dict[int, float] = {}  # when each that is made will be done, by its ticket's identity
        self.came: deque[float] = deque(maxlen=RATE_OF)  # those that were turned away too
        self.saved = 0.0  # seconds of a slot that requests left of their shares, at most a span's

    def admit(self, ticket: Ticket, now: float) -> None:
        """Raises BusyError where it cannot be in time beside those that wait, or one of them no more because of it."""
        self.came.append(now)
        self._check(ticket, now)
        insort(self.waiting, ticket)

    def refuse(self, ticket: Ticket, now: float) -> None:
        """Raises BusyError as `admit` would, of a ticket that is no more than the request; lets nobody in."""
        try:
            self._check(ticket, now)
        except BusyError:
            self.came.append(now)
            raise

    def _check(self, ticket: Ticket, now: float) -> None:
        if len(self.waiting) >= MAX_WAITING:
            raise BusyError(f"as many requests wait as may, {MAX_WAITING}: ask again later")
        late = self._lateness(sorted([*self.waiting, ticket]), self._ends(now))
        if late > 0.0:
            if not self.waiting and not self.busy:
                self.times.doubt()
            left = ticket.deadline - now
            needed = left + late
            raise BusyError(
                f"nothing that is served answers within {1e3 * (ticket.within or left):.0f} ms beside "
                f"{len(self.waiting) + len(self.busy)} others, the quickest in about {1e3 * needed:.0f} ms: ask again "
                "later"
            )

    def leave(self, ticket: Ticket) -> None:
        """Nobody waits for it any more, or it is done."""
        if self.busy.pop(id(ticket), None) is None:
            self.waiting = [each for each in self.waiting if each is not ticket]

    def done(self, ticket: Ticket, chosen: Chosen, seconds: float) -> None:
        """It was made in so many seconds."""
        self.times.saw(chosen.point.generator, ticket.options[chosen.point.title][1], seconds)
        self.leave(ticket)

    def next(self, now: float) -> tuple[Ticket, Chosen] | None:
        """Whose turn it is, with what it gets; None while all slots are taken, or nobody waits."""
        if len(self.busy) >= self.slots or not self.waiting:
            return None
        ticket, *behind = self.waiting
        seconds = {title: self._seconds(ticket, title) for title in ticket.options}
        most = self._most(ticket, behind, now, sorted(seconds.values()))
        within = [point for title, (point, _) in ticket.options.items() if seconds[title] <= most]
        points = [point for point, _ in ticket.options.values()]
        picked = _best(within, seconds) if within else min(points, key=lambda point: seconds[point.title])
        better = [point for point in points if picked.title in point.beats]
        chosen = Chosen(
            picked,
            seconds[picked.title],
            ticket.deadline - now,
            len(behind),
            _best(better, seconds) if better else None,
        )
        left = self.saved + self._share(now, chosen.seconds) - chosen.seconds
        self.saved = min(max(left, 0.0), SAVED_S * self.slots)
        self.waiting = behind
        self.busy[id(ticket)] = now + MARGIN * chosen.seconds
        return ticket, chosen

    def _most(self, ticket: Ticket, behind: Sequence[Ticket], now: float, times: Sequence[float]) -> float:
        """The longest of some times that leaves enough for all; the shortest where even that does not."""
        affordable = [index for index, each in enumerate(times) if each <= self._share(now, each) + self.saved]
        low, high, free = 0, max(affordable, default=0) + 1, sorted(self._ends(now))[1:]
        while high - low > 1:
            middle = (low + high) // 2
            end = now + MARGIN * times[middle]
            fits = end <= ticket.deadline and self._lateness(behind, [*free, end]) <= 0.0
            low, high = (middle, high) if fits else (low, middle)
        return times[low]

    def _share(self, now: float, seconds: float) -> float:
        """Of the slots' time, each request's, at the rate at which they came while one of so many seconds is made."""
        span = max(seconds, SPAN_S)
        if len(self.came) == RATE_OF:
            span = min(span, now - self.came[0])
        return self.slots * span / max(1, sum(came >= now - span for came in self.came))

    def _lateness(self, tickets: Sequence[Ticket], ends: Sequence[float]) -> float:
        """By how much the latest of some is too late, each at its cheapest, in this order; -inf for none."""
        free, worst = list(ends), -float("inf")
        heapq.heapify(free)
        for ticket in tickets:
            end = free[0] + MARGIN * self.times.seconds(*ticket.cheapest)
            heapq.heapreplace(free, end)
            worst = max(worst, end - ticket.deadline)
        return worst

    def _ends(self, now: float) -> list[float]:
        """When each slot will be free."""
        ends = [max(now, end) for end in self.busy.values()]
        return [*ends, *[now] * (self.slots - len(ends))]

    def _seconds(self, ticket: Ticket, title: str) -> float:
        point, calls = ticket.options[title]
        return self.times.seconds(point.generator, calls)


def _best(points: Sequence[Point], seconds: Mapping[str, float]) -> Point:
    """Of those that nothing here beats, which are not told apart, the quickest."""
    return min(unbeaten(points), key=lambda point: (seconds[point.title], point.title))
