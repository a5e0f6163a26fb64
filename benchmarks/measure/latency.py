"""One run of an endpoint, driven by MLPerf LoadGen (Reddi et al. 2020): SingleStream, MultiStream, Server, Offline.

An endpoint is a generator in this process or a Triton client. LoadGen decides when is asked, and whether its run is
valid; each answer is timed here, so that raw values can be kept. No seed is asked for twice: an endpoint that remembers
its answers gains nothing.
"""

from __future__ import annotations

import random
import re
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure.workload import BATCHES, BOUND, MULTI, OFFLINE, SERVER, SINGLE, Load, WorkloadError

LIBRARY = 1 << 10  # samples that LoadGen believes it draws from
KEPT = 4  # answers of a run that are looked at later
PLANNED = 20_000  # queries of a run, at least: a first call says little of how fast the others are
RATE_SECONDS = 0.5  # of the run that finds what a server can do
# LoadGen decides by the percentile that a short run can tell: 11 queries are enough for the median, 64 for p90.
TARGET, SERVER_TARGET = 0.5, 0.9
Ask = Callable[[list[int]], np.ndarray]  # seeds -> images, uint8 (B, H, W, C)


@dataclass(frozen=True)
class Timing:
    """One run: the time of each query as it was measured, from its arrival to its answer; offline, of each batch."""

    latencies_ms: np.ndarray
    images: int
    seconds: float
    valid: bool  # LoadGen's verdict on its own run
    invalid_because: tuple[str, ...] = ()  # in LoadGen's words
    kept: tuple[tuple[int, np.ndarray], ...] = ()  # a few seeds, drawn at random, and their images
    rate: float | None = None  # images a second that were asked for
    bound_ms: float | None = None

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds


def measure(ask: Ask, load: Load, first_seed: int = 0) -> Timing:
    """Drive `ask` after a warm-up, by seeds from `first_seed` on. Raises what `ask` raises."""
    seeds = Seeds(first_seed)
    speed = warm_up(ask, load, seeds)
    load = _decided(ask, load, seeds, speed) if load.scenario == SERVER else load
    run = _Run(ask, load, seeds)
    with tempfile.TemporaryDirectory() as folder:
        run.start(speed, folder)
        summary = (Path(folder) / "mlperf_log_summary.txt").read_text()
    valid = "Result is : VALID" in summary
    because = () if valid else tuple(reasons(summary))
    bound = load.bound_ms if load.scenario == SERVER else None
    latencies = np.array(run.latencies_ms)
    return Timing(latencies, run.images, run.seconds, valid, because, tuple(run.kept), load.rate, bound)


def reasons(summary: str) -> list[str]:
    """Why LoadGen calls a run invalid, in its words: the criteria that fail, and what it recommends."""
    verdict = summary.partition("Result is : INVALID")[2].partition("=====")[0]
    failed = [line.partition(":")[0].strip() for line in verdict.splitlines() if re.search(r":\s*NO\s*$", line)]
    advice, _, stopping = verdict.partition("Early Stopping Result:")
    told = advice + (stopping if "Early stopping satisfied" in failed else "")
    bullets = re.findall(r"^ \* (.+(?:\n +[^ *\n].*)*)", told, re.MULTILINE)
    return [*(f"not: {each}" for each in failed), *(" ".join(each.split()) for each in bullets)]


class Seeds:
    """Seeds one after the other, for several threads."""

    def __init__(self, first: int) -> None:
        self._next, self._lock = first, threading.Lock()

    def take(self, count: int) -> list[int]:
        with self._lock:
            first, self._next = self._next, self._next + count
        return list(range(first, first + count))


@dataclass(frozen=True)
class Speed:
    """What a warm-up saw: milliseconds of a call, images a second."""

    call_ms: float
    images_per_second: float


def warm_up(ask: Ask, load: Load, seeds: Seeds) -> Speed:
    """The fastest of a few calls: what was slow about the others will pass."""
    times = []
    for _ in range(max(1, load.warm_up)):
        began = time.perf_counter()
        ask(seeds.take(load.batch_size))
        times.append(time.perf_counter() - began)
    seconds = min(times)
    return Speed(1000.0 * seconds, load.batch_size / seconds)


def _decided(ask: Ask, load: Load, seeds: Seeds, alone: Speed) -> Load:
    """With a rate and a bound: those that were given, else from what the endpoint does now."""
    if load.rate is None:
        assert load.share is not None, "the server scenario needs a rate, or a share of what is possible"
        busy = replace(load, scenario=OFFLINE, batch_size=BATCHES[OFFLINE], queries=1, seconds=RATE_SECONDS, rate=None)
        speed = warm_up(ask, replace(busy, warm_up=1), seeds)
        run = _Run(ask, busy, seeds)
        with tempfile.TemporaryDirectory() as folder:
            run.start(speed, folder)
        load = replace(load, rate=load.share * run.images / run.seconds)
    bound = BOUND * alone.call_ms if load.bound_ms is None else load.bound_ms
    return replace(load, bound_ms=bound)


@dataclass
class _Run:
    ask: Ask
    load: Load
    seeds: Seeds
    latencies_ms: list[float] = field(default_factory=list)
    images: int = 0
    kept: list[tuple[int, np.ndarray]] = field(default_factory=list)
    error: BaseException | None = None
    began: float | None = None
    ended: float = 0.0

    def __post_init__(self) -> None:
        self._lock, self._random = threading.Lock(), random.Random(self.seeds._next)
        self._workers: Executor | None = None

    @property
    def seconds(self) -> float:
        """From the first query to the last answer."""
        assert self.began is not None, "the run was not started"
        return self.ended - self.began

    def start(self, speed: Speed, folder: str) -> None:
        try:
            import mlperf_loadgen as loadgen
        except ImportError as error:
            raise WorkloadError("MLPerf LoadGen is not installed: `pip install genzoo[benchmarks]`") from error
        library = loadgen.ConstructQSL(LIBRARY, LIBRARY, lambda _: None, lambda _: None)
        system = loadgen.ConstructSUT(lambda samples: self.issue(samples, loadgen), lambda: None)
        with self._uninterrupted(), ThreadPoolExecutor(self.load.in_flight) as self._workers:
            try:
                loadgen.StartTestWithLogSettings(
                    system, library, self._settings(loadgen, speed), _log_settings(loadgen, folder), ""
                )
            finally:
                loadgen.DestroySUT(system)
                loadgen.DestroyQSL(library)
        if self.error is not None:
            raise self.error

    @contextmanager
    def _uninterrupted(self) -> Iterator[None]:
        """Ctrl-C is an error of the run like any other: raised within LoadGen's calls it would end the process."""

        def stop(*_: object) -> None:
            self.error = KeyboardInterrupt()

        before = signal.getsignal(signal.SIGINT)
        here = threading.current_thread() is threading.main_thread()  # which alone may say what a signal does
        if not here or before in (signal.SIG_IGN, None):  # a job in the background is not meant
            yield
            return
        signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _settings(self, loadgen: Any, speed: Speed) -> Any:
        settings, load = loadgen.TestSettings(), self.load
        # LoadGen plans its queries by what it is told to expect, and is out of them early where calls are faster.
        expected_ns = 1 + int(1e9 * min(speed.call_ms / 1000.0, load.seconds / PLANNED))
        settings.mode = loadgen.TestMode.PerformanceOnly
        settings.min_duration_ms = int(1000 * load.seconds)
        settings.max_duration_ms = int(1000 * load.most_seconds)
        settings.min_query_count = load.queries
        if load.scenario == SINGLE:
            settings.scenario = loadgen.TestScenario.SingleStream
            settings.single_stream_expected_latency_ns = expected_ns
            settings.single_stream_target_latency_percentile = TARGET
        elif load.scenario == MULTI:
            settings.scenario = loadgen.TestScenario.MultiStream
            settings.multi_stream_expected_latency_ns = expected_ns
            settings.multi_stream_samples_per_query = load.batch_size
            settings.multi_stream_target_latency_percentile = TARGET
        elif load.scenario == SERVER:
            assert load.rate is not None
            assert load.bound_ms is not None
            settings.scenario = loadgen.TestScenario.Server
            settings.server_target_qps = load.rate
            settings.server_target_latency_ns = int(1e6 * load.bound_ms)
            settings.server_target_latency_percentile = SERVER_TARGET
            # Poisson arrivals differ from run to run, as those of users do.
            settings.schedule_rng_seed = self._random.getrandbits(63)
        else:
            settings.scenario = loadgen.TestScenario.Offline
            settings.offline_expected_qps = 2.0 * speed.images_per_second  # invalid where the real rate exceeds it
        return settings

    def issue(self, samples: Sequence[Any], loadgen: Any) -> None:
        """Answer a query, in the server scenario later: LoadGen's thread must be free for the next arrival."""
        arrived = time.perf_counter()
        self.began = arrived if self.began is None else self.began
        workers, load = self._workers, self.load
        assert workers is not None
        if load.scenario == SERVER:
            workers.submit(self._answer, samples, loadgen, arrived)
            return
        batches = [samples[i : i + load.batch_size] for i in range(0, len(samples), load.batch_size)]
        if load.in_flight == 1 or len(batches) == 1:
            for batch in batches:
                self._answer(batch, loadgen)
        else:
            list(workers.map(lambda batch: self._answer(batch, loadgen), batches))

    def _answer(self, batch: Sequence[Any], loadgen: Any, arrived: float | None = None) -> None:
        """One that failed is answered too, because LoadGen waits for ever otherwise.

        The last batch is filled up: what was compiled for one size would be compiled again for another.
        """
        began = time.perf_counter() if arrived is None else arrived
        seeds, images = self.seeds.take(self.load.batch_size), None
        try:
            if self.error is None:
                images = self.ask(seeds)
        except Exception as error:  # reported once the run is over
            self.error = error
        ended = time.perf_counter()
        loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(sample.id, 0, 0) for sample in batch])
        with self._lock:
            self.latencies_ms.append(1000.0 * (ended - began))
            self.ended = max(self.ended, ended)
            if images is not None:
                self._keep(seeds[: len(batch)], images[: len(batch)])

    def _keep(self, seeds: list[int], images: np.ndarray) -> None:
        """A few of all answers, each as likely as any other (Vitter 1985, algorithm R)."""
        for seed, image in zip(seeds, images, strict=True):
            place = len(self.kept) if len(self.kept) < KEPT else self._random.randrange(self.images + 1)
            if place < KEPT:
                self.kept[place : place + 1] = [(seed, np.array(image))]
            self.images += 1


def _log_settings(loadgen: Any, folder: str) -> Any:
    output = loadgen.LogOutputSettings()
    output.outdir, output.copy_summary_to_stdout = folder, False
    settings = loadgen.LogSettings()
    settings.log_output, settings.enable_trace = output, False
    return settings
