"""Many endpoints measured side by side: short runs in rounds, each round in an order of its own.

One long run of each, one after the other, tells how the machine was at that time as much as how fast the endpoint is.
Here every endpoint has one short run a round; before each round a fixed calculation is timed; between the runs a
reference endpoint is measured again and again. What a run found is also said as a ratio to the reference runs before
and after it, which shared its clock and its neighbours. Runs are kept as they are made: what is cut off goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import environment, records
from benchmarks.measure import latency, served
from benchmarks.measure.latency import RATE_SECONDS, Ask, Timing
from benchmarks.measure.workload import OFFLINE, SERVER, Load, WorkloadError
from benchmarks.statistics import Estimate, between_runs
from zoo import files
from zoo.files import identify

P99_FROM = 662  # queries: what LoadGen asks for before it estimates the 99th percentile
P90_FROM = 64
P50_FROM = 11
DIFFERS = "served-differs"
NOISY_SHARE = 0.25  # of the runs: fewer move neither the mean nor what is said of its spread
LEAST_ROUNDS = 3

Run = dict[str, Any]
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Rounds:
    """How often, in which order, and how many runs lie between two of the reference."""

    count: int = 7
    order_seed: int = 0
    reference_every: int = 6

    def __post_init__(self) -> None:
        if self.count < LEAST_ROUNDS:
            raise WorkloadError(
                f"{self.count} rounds: give {LEAST_ROUNDS} or more, the spread between them is the result"
            )


FULL = Rounds()
QUICK = Rounds(5, reference_every=12)


@dataclass(frozen=True)
class Subject:
    """One endpoint under one load; `own` makes the images that it should give for some seeds."""

    id: str
    title: str
    load: Load
    ask: Ask
    own: served.Own


class Journal:
    """The runs of cells that are not complete, a line each, beside the file of records."""

    def __init__(self, path: Path) -> None:
        self.path = path
        found = records.read(path) if path.exists() else []
        self._runs = {(each["identity"]["cell"], each["identity"]["round"]): each["run"] for each in found}

    @classmethod
    def beside(cls, path: Path) -> Journal:
        """Raises RecordError where its file was altered."""
        return cls(path.with_suffix(".runs.jsonl"))

    def runs(self, cell: str) -> list[Run]:
        """Of one cell, by their rounds."""
        return [run for (owner, _), run in sorted(self._runs.items()) if owner == cell]

    def has(self, cell: str, turn: int) -> bool:
        return (cell, turn) in self._runs

    def add(self, cell: str, run: Run) -> None:
        self._runs[cell, run["round"]] = run
        records.append(self.path, self._sealed(cell, run))

    def drop(self, cells: Iterable[str]) -> None:
        """What is complete stands in a record; the file goes with the last of it."""
        gone = set(cells)
        self._runs = {key: run for key, run in self._runs.items() if key[0] not in gone}
        if not self._runs:
            self.path.unlink(missing_ok=True)
            return
        left = [records.canonical(self._sealed(cell, run)) + b"\n" for (cell, _), run in self._runs.items()]
        with files.atomic(self.path) as temporary:
            temporary.write_bytes(b"".join(left))

    @staticmethod
    def _sealed(cell: str, run: Run) -> records.Record:
        return records.make("run", {"cell": cell, "round": run["round"]}, run=run)


@dataclass
class Session:
    """Endpoints that are open at once, and the reference among them."""

    subjects: Sequence[Subject]
    reference: Subject
    rounds: Rounds
    journal: Journal
    tell: Tell = print
    call_ms: dict[str, float] = field(default_factory=dict)  # by subject, as far as it is known

    def missing(self) -> list[tuple[int, Subject]]:
        return [
            (turn, subject)
            for turn in range(self.rounds.count)
            for subject in self.subjects
            if not self.journal.has(subject.id, turn)
        ]

    def probe(self) -> None:
        """One timed call of each endpoint that nothing is known of."""
        for subject in (self.reference, *self.subjects):
            if subject.id not in self.call_ms:
                seeds = latency.Seeds(first_seed(subject.id, self.rounds.count))
                self.call_ms[subject.id] = latency.warm_up(subject.ask, replace(subject.load, warm_up=2), seeds).call_ms

    def expected_seconds(self) -> float:
        """Of all that is missing, the reference's runs too."""
        missing = self.missing()
        between = len(missing) / self.rounds.reference_every + 2 * len({turn for turn, _ in missing})
        reference = expected_seconds(self.reference.load, self.call_ms[self.reference.id])
        return self._planned() + between * reference

    def measure(self) -> None:
        """Every missing run, into the journal."""
        began, planned = time.monotonic(), self._planned()
        for turn in range(self.rounds.count):
            todo = [subject for subject in self.subjects if not self.journal.has(subject.id, turn)]
            if not todo:
                continue
            order = np.random.default_rng([self.rounds.order_seed, turn]).permutation(len(todo))
            self._round(turn, [todo[index] for index in order])
            passed, left = time.monotonic() - began, self._planned()
            after = f", about {clock(passed * left / (planned - left))} left" if left else ""
            self.tell(f"[{clock(passed)}] round {turn + 1} of {self.rounds.count}: {len(todo)} runs{after}")

    def _planned(self) -> float:
        """Seconds of the missing runs, without the reference's."""
        return sum(expected_seconds(each.load, self.call_ms[each.id]) for _, each in self.missing())

    def _round(self, turn: int, order: Sequence[Subject]) -> None:
        probe = environment.probe_ms()
        before = self._reference(turn, 0)
        every = self.rounds.reference_every
        for start in range(0, len(order), every):
            part = order[start : start + every]
            made = [self._run(subject, turn, start + place, probe) for place, subject in enumerate(part)]
            after = self._reference(turn, start + len(part))
            for subject, (run, kept) in zip(part, made, strict=True):
                run["reference"] = _between(before, after)
                # Looked at here, where nothing is timed.
                run["served"] = asdict(served.compare(kept, subject.own))
                self.journal.add(subject.id, run)
            before = after

    def _run(self, subject: Subject, turn: int, position: int, probe: float) -> tuple[Run, served.Kept]:
        watch, when = environment.Watch.begin(), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        timing = latency.measure(subject.ask, subject.load, first_seed(subject.id, turn))
        run = {"round": turn, "position": position, "time": when, **timing_json(timing)}
        return run | {"probe_ms": round(probe, 3), "others": round(watch.others(), 3)}, timing.kept

    def _reference(self, turn: int, position: int) -> Timing:
        seed = first_seed(identify([self.reference.id, "reference", position]), turn)
        return latency.measure(self.reference.ask, self.reference.load, seed)


def first_seed(name: str, turn: int) -> int:
    """The first of a run's own 2**20 seeds: no other run of any cell asks for them."""
    return (int(identify(name)[:9], 16) << 27) | (turn << 20)


def expected_seconds(load: Load, call_ms: float) -> float:
    """What a run takes, warm-up and all."""
    call = call_ms / 1000.0
    if load.scenario == SERVER:
        asked = load.rate or (load.share or 1.0) * load.batch_size / call
        return load.warm_up * call + RATE_SECONDS + min(load.most_seconds, max(load.seconds, load.queries / asked))
    # Twice the images that the last call promises are asked for offline.
    seconds = max(load.seconds * (2.0 if load.scenario == OFFLINE else 1.0), load.queries * call)
    return load.warm_up * call + min(load.most_seconds, seconds)


def timing_json(timing: Timing) -> Run:
    asked = {} if timing.rate is None else {"rate": round(timing.rate, 3), "bound_ms": round(timing.bound_ms or 0.0, 3)}
    return {
        "latencies_ms": [round(float(value), 4) for value in timing.latencies_ms],
        "images": timing.images,
        "seconds": round(timing.seconds, 4),
        "valid": timing.valid,
        "invalid_because": list(timing.invalid_because),
        **asked,
    }


def _between(before: Timing, after: Timing) -> dict[str, float]:
    """The reference as it was at a run between two of its own."""
    p50 = [float(np.median(each.latencies_ms)) for each in (before, after)]
    rate = [each.images_per_second for each in (before, after)]
    return {"p50_ms": round(float(np.sqrt(p50[0] * p50[1])), 4), "images_per_second": round(sum(rate) / 2.0, 3)}


def judged_noise(runs: Sequence[Run]) -> list[Run]:
    """The same runs, each with whether it was disturbed; the fixed calculation's usual time is its fastest."""
    usual = min(run["probe_ms"] for run in runs)
    return [{**run, "noisy": environment.noisy(run["probe_ms"], usual, run["others"])} for run in runs]


def summary(scenario: str, runs: Sequence[Run]) -> dict[str, Any]:
    """A record's `latency`: estimates with the interval between runs, {value, low, high} each.

    p50 and p90 are the runs' in the mean, p99 is of all queries together and needs `P99_FROM` of them. `relative` is
    how many times as long as the reference's a call takes: offline an image, by images a second, else by medians.
    """
    times = [np.array(run["latencies_ms"]) for run in runs]
    pooled = np.concatenate(times)
    found: dict[str, Any] = {f"p{q}": _percentile(times, q) for q in (50, 90)}
    found["p99"] = None
    if len(pooled) >= P99_FROM and scenario != OFFLINE:
        spread = _percentile(times, 99)
        shift = float(np.percentile(pooled, 99)) / spread.value
        found["p99"] = Estimate(*(shift * side for side in (spread.value, spread.low, spread.high)))
    found["images_per_second"] = between_runs(np.array([run["images"] / run["seconds"] for run in runs]))
    found["relative"] = between_runs(np.array([relative(scenario, run) for run in runs]))
    return {name: asdict(each) if each else None for name, each in found.items()}


def _percentile(times: Sequence[np.ndarray], q: float) -> Estimate:
    return between_runs(np.array([np.percentile(each, q) for each in times]))


def relative(scenario: str, run: Mapping[str, Any]) -> float:
    """What `summary` says of one run."""
    if scenario == OFFLINE:
        return float(run["reference"]["images_per_second"] * run["seconds"] / run["images"])
    return float(np.median(run["latencies_ms"]) / run["reference"]["p50_ms"])


def flags(scenario: str, runs: Sequence[Run], found: Mapping[str, Any]) -> list[str]:
    """What a reader must know of a cell before its numbers; `found` is of `served.Served.to_json`."""
    few = scenario != OFFLINE and sum(len(run["latencies_ms"]) for run in runs) < P90_FROM
    raised = {
        "invalid": not all(run["valid"] for run in runs),
        "noisy": sum(run["noisy"] for run in runs) > NOISY_SHARE * len(runs),
        "few-queries": few,
        DIFFERS: not found["within"],
        "cached": bool(found["cache"] and found["cache"]["cached"]),
    }
    return [name for name, is_so in raised.items() if is_so]


def clock(seconds: float) -> str:
    """`0:42`, `12:05`, `3:07:00`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def grouped(sizes: Mapping[str, int], most: int) -> Iterator[list[str]]:
    """Names in groups of at most `most` in all, in their order; one that is larger is a group of its own."""
    group: list[str] = []
    for name, size in sizes.items():
        if group and sum(sizes[each] for each in group) + size > most:
            yield group
            group = []
        group.append(name)
    if group:
        yield group
