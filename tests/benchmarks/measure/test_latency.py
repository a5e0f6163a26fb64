"""LoadGen drives an endpoint whose latency is known."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from benchmarks.measure import latency
from benchmarks.measure.workload import Load, WorkloadError


def sleeper(seconds: float) -> latency.Ask:
    def ask(seeds: list[int]) -> np.ndarray:
        time.sleep(seconds)
        return np.zeros((len(seeds), 1, 1, 1), np.uint8)

    return ask


def test_single_stream_measures_each_query() -> None:
    timing = latency.measure(sleeper(0.004), Load(queries=64, seconds=0.1, warm_up=2))
    assert timing.valid
    assert len(timing.latencies_ms) == timing.images >= 64
    p50 = timing.percentiles()["p50"]
    assert 4.0 <= timing.latencies_ms.min() <= p50.low <= p50.value <= p50.high


def test_offline_measures_throughput_in_batches() -> None:
    load = Load("offline", seconds=0.3, warm_up=2, batch_size=8)
    timing = latency.measure(sleeper(0.004), load)
    assert timing.valid
    assert len(timing.latencies_ms) == -(-timing.images // 8)
    assert 0 < timing.images_per_second < 8 / 0.004


def test_batches_in_flight_overlap() -> None:
    """Two at a time, never more."""
    busy, most, lock = 0, 0, threading.Lock()

    def ask(seeds: list[int]) -> np.ndarray:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        time.sleep(0.01)
        with lock:
            busy -= 1
        return np.zeros((len(seeds), 1, 1, 1), np.uint8)

    latency.measure(ask, Load("offline", seconds=0.3, warm_up=2, batch_size=8, in_flight=2))
    assert most == 2


def test_an_error_ends_the_run_and_reaches_the_caller() -> None:
    calls = 0

    def ask(seeds: list[int]) -> np.ndarray:
        nonlocal calls
        calls += 1
        if calls > 5:
            raise ConnectionError("the server went away")
        return np.zeros((1, 1, 1, 1), np.uint8)

    with pytest.raises(ConnectionError, match="went away"):
        latency.measure(ask, Load(queries=50, seconds=0.05, warm_up=2))
    assert calls == 6


def test_an_unknown_scenario_is_refused() -> None:
    with pytest.raises(WorkloadError, match="single-stream or offline"):
        Load("server")
