"""Step-wise batching: images do not depend on their company, short requests overtake, who has left costs nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from export.bundle import Bundle
from export.exporter import export
from export.runners import OnnxRuntimeRunner, bundle_generator
from serving.gauges import COUNTERS, GAUGES, Gauges
from serving.scheduling import BrokenError, BusyError, Limits, Order, Pace, StepScheduler
from zoo.contract.errors import RequestError
from zoo.contract.feeds import Runner, Tensors
from zoo.contract.generator import Generator
from zoo.contract.request import SampleRequest, Setting, columns
from zoo.family import Checkpoint


class Seconds:
    """A clock that goes on by itself as calls are made."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Watched:
    """A runner that takes 2 ms and a half for each row, and tells of its calls; `spoil` may change what it gives."""

    def __init__(self, runner: Runner, clock: Seconds, spoil: Callable[[Tensors, Tensors], None] | None = None) -> None:
        self.runner, self.clock, self.spoil = runner, clock, spoil
        self.calls: list[int] = []

    def run(self, **tensors: np.ndarray) -> Tensors:
        rows = len(tensors["x"])
        self.calls.append(rows)
        self.clock.now += 0.002 + 0.0005 * rows
        found = self.runner.run(**tensors)
        if self.spoil:
            self.spoil(tensors, found)
        return found


class Told:
    """What became of an order."""

    def __init__(self) -> None:
        self.images: np.ndarray | None = None
        self.error: Exception | None = None
        self.at = 0.0


class Bench:
    """A scheduler that goes on when it is told to."""

    def __init__(self, bundle: Bundle, spoil: Any = None, **options: Any) -> None:
        self.generator = bundle_generator(bundle)
        self.clock = Seconds()
        self.step = Watched(OnnxRuntimeRunner(bundle.graph_path("step"), threads=1), self.clock, spoil)
        decoder = OnnxRuntimeRunner(bundle.graph_path("decoder"), threads=1)
        spec, feeds = bundle.served_spec, self.generator.feeds
        self.scheduler = StepScheduler(spec, feeds, self.step, decoder, clock=self.clock, **options)

    def ask(
        self,
        request: SampleRequest,
        cancelled: Callable[[], bool] = lambda: False,
        within: float = 0,
        *,
        urgent: bool = False,
    ) -> Told:
        told = Told()

        def done(images: np.ndarray) -> None:
            told.images, told.at = images, self.clock()

        def failed(error: Exception) -> None:
            told.error, told.at = error, self.clock()

        deadline = self.clock() + within if within else None
        given = columns(self.scheduler.spec, request)
        self.scheduler.submit(Order(given, done, failed, cancelled, deadline, urgent))
        return told

    def turn(self, count: int = 1) -> None:
        for _ in range(count):
            self.scheduler._turn(list(self.scheduler._orders))

    def finish(self) -> None:
        while self.scheduler._orders:
            self.turn()


@pytest.fixture(scope="module")
def bundle(toy_diffusion: Checkpoint) -> Bundle:
    return export(toy_diffusion)


def asked(seeds: range, steps: int, sampler: str | None = None, scale: float = 1.0) -> SampleRequest:
    return SampleRequest(tuple(seeds), setting=Setting(steps, sampler, scale))


def test_an_image_does_not_depend_on_its_company(bundle: Bundle) -> None:
    samplers = bundle.spec.sampling.samplers if bundle.spec.sampling else ()
    requests = [asked(range(10 * index, 10 * index + 3), 2 + index, each) for index, each in enumerate(samplers)]
    requests += [asked(range(90, 92), 4, None, 2.0), asked(range(95, 96), 1)]
    bench, alone = Bench(bundle), Bench(bundle)
    together = [bench.ask(request) for request in requests]
    bench.finish()
    assert max(bench.step.calls) > 3, "requests shared calls"
    for request, told in zip(requests, together, strict=True):
        by_itself = alone.ask(request)
        alone.finish()
        assert told.images is not None, told.error
        np.testing.assert_array_equal(told.images, by_itself.images)
        fused = bench.generator.sample(request)
        assert np.abs(told.images.astype(int) - fused).max() <= 1


def test_a_short_request_overtakes_a_long_one(bundle: Bundle) -> None:
    bench = Bench(bundle)
    long = bench.ask(asked(range(64), 100))
    bench.turn(5)
    short, began = bench.ask(asked(range(1), 1)), bench.clock()
    bench.turn()
    assert short.images is not None
    assert short.at - began < 0.05
    assert long.images is None
    bench.finish()
    assert long.images is not None
    np.testing.assert_array_equal(long.images[:2], Bench(bundle).generator.sample(asked(range(2), 100)))


def test_an_urgent_request_goes_before_shorter_ones(bundle: Bundle) -> None:
    bench, within = Bench(bundle), 0.5
    bench.ask(asked(range(16), 1))
    bench.finish()  # so that it knows what a call takes
    for index in range(100):
        bench.ask(asked(range(index, index + 16), 1))
    with pytest.raises(BusyError, match="for this request beside the others"):
        bench.ask(asked(range(1), 20), within=within)
    urgent, began = bench.ask(asked(range(1), 20), within=within, urgent=True), bench.clock()
    bench.turn(20)
    assert urgent.images is not None, urgent.error
    assert urgent.at - began < within
    bench.finish()
    np.testing.assert_array_equal(urgent.images, bench.generator.sample(asked(range(1), 20)))


def test_a_long_request_is_not_starved(bundle: Bundle) -> None:
    bench = Bench(bundle)
    long = bench.ask(asked(range(1), 100))
    for index in range(1000):
        bench.ask(asked(range(index, index + 1), 2))
        bench.turn()
        if long.images is not None:
            break
    assert long.images is not None
    assert index < 900, "though shorter ones never end"


def test_who_has_left_costs_one_row_at_most(bundle: Bundle) -> None:
    bench, left = Bench(bundle), False
    told = bench.ask(asked(range(16), 100), lambda: left)
    bench.turn(30)
    left, calls = True, len(bench.step.calls)
    bench.finish()
    assert isinstance(told.error, BusyError)
    assert len(bench.step.calls) - calls <= 20, "asked every 20 ms of a clock on which a call takes some milliseconds"


def test_a_deadline_is_kept_or_refused_at_once(bundle: Bundle) -> None:
    bench = Bench(bundle)
    for _ in range(3):
        bench.ask(asked(range(4), 3))
        bench.ask(asked(range(1), 3))
        bench.finish()
    with pytest.raises(BusyError, match=r"needs about \d+\.\d s for this request beside the others, and has 0\.1 s"):
        bench.ask(asked(range(64), 100), within=0.1)
    late = bench.ask(asked(range(2), 10), within=60.0)
    bench.clock.now += 61.0
    bench.finish()
    assert re.search("did not make the images in the time", str(late.error))
    assert bench.ask(asked(range(2), 10), within=60.0).error is None
    bench.finish()


def test_what_costs_too_much_is_refused_before_it_runs(bundle: Bundle) -> None:
    bench = Bench(bundle, limits=Limits(request_calls=100, waiting_calls=150))
    with pytest.raises(
        RequestError, match="64 images in 4 steps are 256 calls of toy-diffusion's network, at most 100"
    ):
        bench.ask(asked(range(64), 4))
    first = bench.ask(asked(range(25), 4))
    with pytest.raises(BusyError, match=r"is busy: 100 calls of its network wait, .* at most 150 may: ask again later"):
        bench.ask(asked(range(25), 4))
    bench.finish()
    assert first.images is not None
    crowded = Bench(bundle, limits=Limits(waiting_bytes=1))
    crowded.ask(asked(range(1), 4))
    with pytest.raises(BusyError, match="what waits fills its memory"):
        crowded.ask(asked(range(1), 4))


def test_one_broken_image_fails_alone(bundle: Bundle) -> None:
    good, bad = asked(range(2), 3), asked(range(7, 8), 3)
    marked = Bench(bundle).generator.feeds.of(bad)["noise"][0, 0]

    def spoil(given: Tensors, found: Tensors) -> None:
        for place, x in enumerate(given["x"]):
            if np.array_equal(x, marked):
                found["x_next"][place] = np.nan

    bench = Bench(bundle, spoil)
    told, broken = bench.ask(good), bench.ask(bad)
    bench.finish()
    assert isinstance(broken.error, BrokenError)
    assert "for seed 7: its weights or graphs are damaged" in str(broken.error)
    np.testing.assert_array_equal(told.images, Bench(bundle).generator.sample(good))


def test_a_call_that_fails_is_told_to_whose_it_was(bundle: Bundle) -> None:
    def refuse(given: Tensors, _: Tensors) -> None:
        if len(given["x"]) > 2:
            raise RuntimeError("no memory for 3")

    bench = Bench(bundle, refuse)
    few, many = bench.ask(asked(range(2), 2)), bench.ask(asked(range(3), 2))
    bench.finish()
    assert few.images is not None
    assert str(many.error) == "no memory for 3"


def test_the_pace_is_a_line_through_the_calls() -> None:
    pace = Pace()
    assert pace.worth(64) == 64
    assert pace.rate(4) == float("inf")
    pace.saw(1, 0.003)
    assert pace.line == (0.0, 0.003)
    for _ in range(20):
        for rows in (1, 4, 16):
            pace.saw(rows, 0.002 + 0.001 * rows)
    assert pace.line == pytest.approx((0.002, 0.001))
    assert pace.worth(64) in (17, 18), "20 ms of which two are fixed"
    assert pace.rate(8) == pytest.approx(800.0)


def test_a_running_scheduler_answers_and_ends(bundle: Bundle) -> None:
    generator: Generator = bundle_generator(bundle)
    step, decoder = (OnnxRuntimeRunner(bundle.graph_path(graph), threads=1) for graph in ("step", "decoder"))
    scheduler = StepScheduler(bundle.served_spec, generator.feeds, step, decoder)
    scheduler.start()
    request = asked(range(3), 4)
    images = scheduler.wait_for(columns(bundle.spec, request))
    assert np.abs(images.astype(int) - generator.sample(request)).max() <= 1
    with pytest.raises(RequestError, match="steps"):
        scheduler.wait_for(columns(bundle.spec, asked(range(1), 100_000)))
    scheduler.close()
    scheduler.join(5)
    assert not scheduler.is_alive()
    with pytest.raises(BusyError, match="is being unloaded"):
        scheduler.wait_for(columns(bundle.spec, request))


class Kept(Gauges):
    """What a scheduler tells, in whole."""

    def __init__(self) -> None:
        self.added: dict[str, float] = {}
        self.told: list[Mapping[str, float]] = []

    def add(self, name: str, amount: float) -> None:
        self.added[name] = self.added.get(name, 0.0) + amount

    def tell(self, values: Mapping[str, float], now: float) -> None:
        self.told.append(dict(values))


def test_who_waits_what_is_left_and_what_was_made_is_told(bundle: Bundle) -> None:
    gauges = Kept()
    bench = Bench(bundle, gauges=gauges, most=2)
    for request in (asked(range(2), 4), asked(range(10, 12), 50)):
        bench.ask(request)
    bench.turn()
    bench.scheduler._tell()
    assert gauges.told[-1] == {
        "genzoo_waiting_requests": 1,
        "genzoo_running_requests": 1,
        "genzoo_waiting_calls": 2 * 3 + 2 * 50,
    }
    before = bench.clock()
    while gauges.added.get("genzoo_begun_total") != 2.0:
        bench.turn()
    assert gauges.added["genzoo_queue_seconds_total"] >= before
    bench.finish()
    bench.scheduler._tell()
    assert set(gauges.told[-1].values()) == {0}
    assert gauges.added["genzoo_network_calls_total"] == len(bench.step.calls)
    assert gauges.added["genzoo_network_rows_total"] == sum(bench.step.calls) == 2 * 4 + 2 * 50
    assert set(gauges.added) == set(COUNTERS)
    assert set(gauges.told[-1]) == set(GAUGES)
