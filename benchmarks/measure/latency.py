"""Latency and throughput of an endpoint, driven by MLPerf LoadGen (Reddi et al. 2020): SingleStream and Offline.

An endpoint is a generator in this process or a Triton client. LoadGen decides what is asked and when; each answer is
timed here, so that raw values can be kept.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure.workload import Load, WorkloadError
from benchmarks.statistics import Estimate, percentile

POOL = 256  # seeds that LoadGen draws from
Ask = Callable[[list[int]], np.ndarray]  # seeds -> images, uint8 (B, H, W, C)


@dataclass(frozen=True)
class Timing:
    """One run: the time of each query (single-stream: one image) or each batch (offline), as it was measured."""

    latencies_ms: np.ndarray
    images: int
    seconds: float
    valid: bool  # LoadGen's verdict on its own run

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds

    def percentiles(self) -> dict[str, Estimate]:
        return {f"p{q}": percentile(self.latencies_ms, q) for q in (50, 90, 99)}


def measure(ask: Ask, load: Load) -> Timing:
    """Drive `ask` after a warm-up. Raises what `ask` raises."""
    width = load.batch_size if load.scenario == "offline" else 1
    rate = _warm_up(ask, load.warm_up, width)
    run = _Run(ask, load)
    with tempfile.TemporaryDirectory() as folder:
        run.start(rate, folder)
        summary = (Path(folder) / "mlperf_log_summary.txt").read_text()
    return Timing(np.array(run.latencies_ms), run.images, run.seconds, "Result is : VALID" in summary)


def _warm_up(ask: Ask, count: int, width: int) -> float:
    """Images a second of the last of a few calls."""
    for _ in range(max(1, count)):
        began = time.perf_counter()
        ask(list(range(width)))
    return width / (time.perf_counter() - began)


@dataclass
class _Run:
    ask: Ask
    load: Load
    latencies_ms: list[float] = field(default_factory=list)
    images: int = 0
    seconds: float = 0.0
    error: Exception | None = None

    def start(self, rate: float, folder: str) -> None:
        try:
            import mlperf_loadgen as loadgen
        except ImportError as error:
            raise WorkloadError("MLPerf LoadGen is not installed: `pip install genzoo[benchmarks]`") from error
        library = loadgen.ConstructQSL(POOL, POOL, lambda _: None, lambda _: None)
        system = loadgen.ConstructSUT(lambda samples: self.issue(samples, loadgen), lambda: None)
        try:
            loadgen.StartTestWithLogSettings(
                system, library, self._settings(loadgen, rate), _log_settings(loadgen, folder), ""
            )
        finally:
            loadgen.DestroySUT(system)
            loadgen.DestroyQSL(library)
        if self.error is not None:
            raise self.error

    def _settings(self, loadgen: Any, rate: float) -> Any:
        settings = loadgen.TestSettings()
        settings.mode = loadgen.TestMode.PerformanceOnly
        settings.min_duration_ms = int(1000 * self.load.seconds)
        if self.load.scenario == "offline":
            settings.scenario = loadgen.TestScenario.Offline
            settings.offline_expected_qps = 2.0 * rate  # a run is invalid where the real rate exceeds it
            settings.min_query_count = 1
        else:
            settings.scenario = loadgen.TestScenario.SingleStream
            settings.single_stream_expected_latency_ns = int(1e9 / rate)
            settings.min_query_count = self.load.queries
        return settings

    def issue(self, samples: Sequence[Any], loadgen: Any) -> None:
        """Answer a query; one that failed is answered too, because LoadGen waits for ever otherwise."""
        began = time.perf_counter()
        width = self.load.batch_size if self.load.scenario == "offline" else 1
        batches = [samples[i : i + width] for i in range(0, len(samples), width)]
        if self.load.in_flight == 1 or len(batches) == 1:
            for batch in batches:
                self._answer(batch, loadgen)
        else:
            with ThreadPoolExecutor(self.load.in_flight) as pool:
                list(pool.map(lambda batch: self._answer(batch, loadgen), batches))
        self.seconds += time.perf_counter() - began
        self.images += len(samples)

    def _answer(self, batch: Sequence[Any], loadgen: Any) -> None:
        began = time.perf_counter()
        try:
            if self.error is None:
                self.ask([sample.index for sample in batch])
        except Exception as error:  # reported once the run is over
            self.error = error
        self.latencies_ms.append(1000.0 * (time.perf_counter() - began))
        loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(sample.id, 0, 0) for sample in batch])


def _log_settings(loadgen: Any, folder: str) -> Any:
    output = loadgen.LogOutputSettings()
    output.outdir, output.copy_summary_to_stdout = folder, False
    settings = loadgen.LogSettings()
    settings.log_output, settings.enable_trace = output, False
    return settings
