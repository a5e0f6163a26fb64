"""Interleaved rounds over endpoints whose latency is known, and what they add up to."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.measure import rounds
from benchmarks.measure.rounds import Journal, Rounds, Session, Subject
from benchmarks.measure.workload import OFFLINE, SERVER, SINGLE, Load, WorkloadError
from benchmarks.records import RecordError
from benchmarks.statistics import between_runs

LOAD = Load(queries=22, seconds=0.03, warm_up=1)
SHAPE = (2, 2, 1)


def image(seeds: list[int]) -> np.ndarray:
    return np.stack([np.full(SHAPE, seed % 251, np.uint8) for seed in seeds])


def subject(
    name: str, seconds: Callable[[], float], log: list[str], given: Callable[[list[int]], np.ndarray] = image
) -> Subject:
    def ask(seeds: list[int]) -> np.ndarray:
        if not log or log[-1] != name:
            log.append(name)
        time.sleep(seconds())
        return given(seeds)

    return Subject(name, f"{name} on a sleeper", LOAD, ask, image)


def session(tmp_path: Path, log: list[str], count: int = 3, **changes: Callable[[], float]) -> Session:
    names = {"a": lambda: 0.001, "b": lambda: 0.002, "c": lambda: 0.003} | changes
    subjects = [subject(name, seconds, log) for name, seconds in names.items() if name != "reference"]
    beside = subject("reference", changes.get("reference", lambda: 0.002), log)
    journal = Journal.beside(tmp_path / "records.jsonl")
    return Session(subjects, beside, Rounds(count, reference_every=2), journal, lambda _: None)


def measured(made: Session) -> Session:
    made.probe()
    made.measure()
    return made


def test_every_round_has_an_order_of_its_own_that_can_be_had_again(tmp_path: Path) -> None:
    log: list[str] = []
    made = session(tmp_path, log, 4)
    made.probe()
    log.clear()
    made.measure()
    runs = [name for name in log if name != "reference"]
    orders = [tuple(runs[start : start + 3]) for start in range(0, 12, 3)]
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    assert len(set(orders)) > 1
    expected = [np.random.default_rng([0, turn]).permutation(3) for turn in range(4)]
    assert orders == [tuple("abc"[index] for index in order) for order in expected]
    assert log.count("reference") == 4 * 2 + 1, "before, between and after; at the seam of two rounds they are one"


def test_a_ratio_is_of_the_reference_runs_around_it(tmp_path: Path) -> None:
    """A machine that becomes three times slower half-way moves latencies, and ratios hardly."""
    speed = [1.0]

    def slowed(seconds: float) -> Callable[[], float]:
        return lambda: seconds * speed[0]

    times = {"a": slowed(0.002), "b": slowed(0.004), "c": slowed(0.006), "reference": slowed(0.004)}
    made = session(tmp_path, [], 4, **times)
    made.tell = lambda text: speed.__setitem__(0, 3.0) if "round 2" in text else None
    runs = measured(made).journal.runs("c")
    p50 = sorted(np.median(run["latencies_ms"]) for run in runs)
    assert p50[2] / p50[1] > 2.0
    ratio = np.median([rounds.relative(SINGLE, run) for run in runs])
    assert 1.2 < ratio < 2.0, "of the four, as a busy machine may stretch one"


def test_what_was_cut_off_goes_on_with_the_rounds_that_are_missing(tmp_path: Path) -> None:
    class CutError(Exception):
        """As by Ctrl-C."""

    def tell(text: str) -> None:
        if "round 2" in text:
            raise CutError

    first = session(tmp_path, [])
    first.tell = tell
    with pytest.raises(CutError):
        measured(first)
    log: list[str] = []
    again = session(tmp_path, log)
    assert [(turn, each.id) for turn, each in again.missing()] == [(2, "a"), (2, "b"), (2, "c")]
    measured(again)
    assert [run["round"] for run in again.journal.runs("b")] == [0, 1, 2]
    assert not again.missing()
    again.journal.drop(["a", "b"])
    assert [len(Journal(again.journal.path).runs(name)) for name in "abc"] == [0, 0, 3]
    again.journal.drop(["c"])
    assert not again.journal.path.exists()


def test_a_journal_that_was_altered_is_refused(tmp_path: Path) -> None:
    made = measured(session(tmp_path, []))
    made.journal.path.write_text(made.journal.path.read_text().replace('"images":', '"pictures":', 1))
    with pytest.raises(RecordError, match=r"records\.runs\.jsonl:1"):
        Journal(made.journal.path)


def test_the_time_that_is_said_before_is_the_time_that_it_takes(tmp_path: Path) -> None:
    made = session(tmp_path, [])
    made.probe()
    expected, began = made.expected_seconds(), time.monotonic()
    made.measure()
    assert 0.5 * expected < time.monotonic() - began < 4.0 * expected + 0.5, "LoadGen itself takes tens of milliseconds"


def test_runs_of_different_rounds_and_cells_share_no_seed() -> None:
    starts = sorted(rounds.first_seed(f"cell {cell}", turn) for cell in range(200) for turn in range(5))
    assert np.diff(starts).min() >= 1 << 20
    assert starts[-1] < 1 << 63


def run(latencies: list[float], *, probe: float = 2.0, others: float = 0.0, valid: bool = True) -> rounds.Run:
    """Of an endpoint that makes one image a call, beside a reference that takes 2 ms."""
    return {
        "latencies_ms": latencies,
        "images": len(latencies),
        "seconds": sum(latencies) / 1000.0,
        "valid": valid,
        "probe_ms": probe,
        "others": others,
        "reference": {"p50_ms": 2.0, "images_per_second": 500.0},
    }


def test_an_interval_is_between_runs_and_not_between_calls() -> None:
    """A thousand calls in each of three runs that differ by a tenth know the median no better than three numbers do."""
    rng = np.random.default_rng(0)
    runs = [run((scale * rng.lognormal(0.0, 0.02, 1000)).tolist()) for scale in (3.6, 4.0, 4.4)]
    p50 = rounds.summary(SINGLE, runs)["p50"]
    logs = np.log([3.6, 4.0, 4.4])
    half = 4.302653 * logs.std(ddof=1) / math.sqrt(3)  # Student's t with two degrees of freedom
    assert p50["value"] == pytest.approx(math.exp(logs.mean()), rel=2e-3)
    assert p50["high"] / p50["value"] == pytest.approx(math.exp(half), rel=1e-2)


def test_the_interval_between_runs_covers_what_it_says() -> None:
    """2,000 times five runs: 95 % with a standard error of 0.5 %."""
    draws = np.random.default_rng(1).lognormal(math.log(3.0), 0.1, (2000, 5))
    hits = [found.low <= 3.0 <= found.high for found in map(between_runs, draws)]
    assert 0.935 < np.mean(hits) < 0.965


def test_a_99th_percentile_needs_as_many_queries_as_loadgen_asks_for() -> None:
    rng = np.random.default_rng(0)
    few, enough = ([run(rng.lognormal(0.0, 0.2, size).tolist()) for _ in range(3)] for size in (220, 221))
    assert rounds.summary(SINGLE, few)["p99"] is None
    found = rounds.summary(SINGLE, enough)["p99"]
    assert found["value"] == pytest.approx(np.percentile(np.concatenate([r["latencies_ms"] for r in enough]), 99))
    assert found["low"] < found["value"] < found["high"]
    assert rounds.summary(OFFLINE, enough)["p99"] is None, "of batches nobody waits for"


def test_a_ratio_is_of_the_time_of_an_image() -> None:
    runs = [run([4.0] * 30)] * 3
    assert rounds.summary(SINGLE, runs)["relative"]["value"] == pytest.approx(2.0)
    assert rounds.summary(OFFLINE, runs)["relative"]["value"] == pytest.approx(2.0)
    twice = [{**each, "images": 60} for each in runs]
    assert rounds.summary(OFFLINE, twice)["relative"]["value"] == pytest.approx(1.0)


def test_a_run_is_noisy_where_the_clock_or_the_neighbours_moved() -> None:
    quiet, slow, crowded = rounds.judged_noise([run([1.0]), run([1.0], probe=2.5), run([1.0], others=0.3)])
    assert [each["noisy"] for each in (quiet, slow, crowded)] == [False, True, True]


def test_an_expected_time_follows_the_scenario() -> None:
    assert rounds.expected_seconds(Load(queries=20, seconds=1.0, warm_up=0), 100.0) == pytest.approx(2.0)
    assert rounds.expected_seconds(Load(queries=20, seconds=1.0, warm_up=0), 1.0) == pytest.approx(1.0)
    assert rounds.expected_seconds(Load(queries=20, most_seconds=5.0, warm_up=0), 1e4) == pytest.approx(5.0)
    busy = Load(SERVER, queries=100, seconds=1.0, rate=20.0, warm_up=0)
    assert rounds.expected_seconds(busy, 1.0) == pytest.approx(5.0 + rounds.RATE_SECONDS)


def test_generators_that_do_not_fit_are_measured_in_groups() -> None:
    sizes = {"a": 3, "b": 3, "c": 9, "d": 1, "e": 2}
    assert list(rounds.grouped(sizes, 6)) == [["a", "b"], ["c"], ["d", "e"]]
    assert list(rounds.grouped(sizes, 100)) == [list(sizes)]


def test_fewer_rounds_than_have_a_spread_are_refused() -> None:
    with pytest.raises(WorkloadError, match="give 3 or more"):
        replace(Rounds(), count=2)
