"""The race: how long each system takes for the same many images, by the fastest executor that it was admitted to.

In every round each system makes a part of its images, in an order of its own; between their legs the reference, the
system that calls its network most often, makes a few of its own, so that a speed-up is a ratio of neighbours in time.
What would take longer than there is time for is counted on fewer images, and its time extrapolated and said to be. The
images of the race are those that quality is judged on. Legs are kept as they are made: what is cut off goes on.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import environment, records
from benchmarks.measure import samples, sweep
from benchmarks.measure.rounds import Journal, clock
from benchmarks.measure.sweep import Row
from benchmarks.measure.workload import COMPILED
from benchmarks.quality import metrics
from benchmarks.records import Record
from benchmarks.statistics import GROUPS, Estimate, between_runs
from export.limits import LIMITS, image_error
from export.runtimes import Runtime
from export.variant import Precision
from zoo import files
from zoo.contract.generator import Generator
from zoo.contract.request import SampleRequest, nfe
from zoo.contract.spec import GeneratorSpec
from zoo.errors import GenzooError

IMAGES = 50_000
KINDS = ("fd", "fd_inf")  # which are quick to calculate, and what a race is judged by
BATCHES = (16, 64, samples.SHARD)  # images of an execution
TRIAL_STEPS = 4  # at most, of a generator that takes any number
TRIALS = 2  # calls, of which the faster counts
GAIN = 0.02  # that a larger batch or another runtime must bring
FAR = 3.0  # times as slow as the best: larger batches of that runtime are not tried
COMPILED_FROM_S = 120.0  # a race that is shorter pays for no compiler
REFERENCE_EVERY = 6  # legs
LEAST_ROUNDS = 3
Tell = Callable[[str], None]
Run = dict[str, Any]


class RaceError(GenzooError):
    """A race that cannot be run, or not in the time that it was given."""


@dataclass(frozen=True)
class Executor:
    """What makes the images: a runtime, and how many at a time."""

    runtime: str
    batch: int

    def open(self, row: Row) -> Generator:
        """Raises GenzooError where it cannot be used."""
        with sweep.endpoints(self.runtime, [row.bundle]) as connect:
            found = connect(row.bundle)
        if not isinstance(found, Generator):
            raise RaceError(f"{self.runtime} serves requests and does not race: choose a runtime of this process")
        return found

    def __str__(self) -> str:
        return f"{self.runtime}, {self.batch} at a time"


@dataclass(frozen=True)
class Course:
    """What is raced: systems, of which one is the reference, how many images, and how much time there is."""

    rows: tuple[Row, ...]
    reference: Row
    images: int = IMAGES
    rounds: int = 5
    minutes: float = 60.0
    runtimes: tuple[str, ...] = (Runtime.ONNXRUNTIME, Runtime.TORCH, COMPILED)

    @classmethod
    def of(
        cls, rows: Sequence[Row], images: int, rounds: int, minutes: float, runtimes: Sequence[str], beside: str = ""
    ) -> Course:
        """Of those that make images of the reference's shape; it is the one of that title, or the slowest by calls.

        Raises RaceError, WorkloadError.
        """
        if rounds < LEAST_ROUNDS:
            raise RaceError(f"{rounds} rounds: give {LEAST_ROUNDS} or more, the spread between them is the interval")
        if images < (fewest := max(GROUPS, rounds * BATCHES[0])):
            raise RaceError(f"{images} images in {rounds} rounds: give {fewest} or more, which can be timed and judged")
        if not rows:
            raise RaceError("nobody is in the race: name a checkpoint that is a system of the tree")
        if beside:
            reference = sweep.reference_row(rows, beside, required=True)
        else:
            reference = max(rows, key=lambda row: nfe(row.spec, row.setting))
        shape = reference.spec.default_image_shape
        alike = tuple(row for row in rows if row.spec.default_image_shape == shape)
        return cls(alike, reference, images, rounds, minutes, tuple(runtimes))

    @property
    def pulses(self) -> int:
        """How often in a round the reference makes a few images."""
        return math.ceil((len(self.rows) - 1) / REFERENCE_EVERY) + 1

    @cached_property
    def id(self) -> str:
        """Of all on which the choice of executors and counts rests."""
        rows = [{**row.words, **sweep.deciding(row.bundle, Runtime.ONNXRUNTIME)} for row in self.rows]
        asked = [self.images, self.rounds, self.minutes, self.runtimes, self.reference.title]
        return files.identify([rows, asked])


@dataclass(frozen=True)
class Entrant:
    """A row in a race: by which executor, and how many of its images are counted."""

    row: Row
    executor: Executor
    counted: int
    course: Course
    per_pulse: int = 0  # executions at a time, of the reference

    @property
    def title(self) -> str:
        return self.row.title

    @property
    def extrapolated(self) -> bool:
        return self.counted < self.course.images

    @property
    def made_by(self) -> dict[str, Any]:
        """What decides its images to the last bit."""
        made = {**asdict(self.executor), "threads": self._deciding["software"]["threads"]}
        return {**self._deciding["artifact"], **made, **sweep.asked_of(self.row)}

    @cached_property
    def _deciding(self) -> dict[str, Any]:
        return sweep.deciding(self.row.bundle, self.executor.runtime)

    @cached_property
    def identity(self) -> dict[str, Any]:
        return {
            "race": {**self.row.words, "runtime": self.executor.runtime},
            **sweep.of_dataset(self.row.judges.dataset),
            **self._deciding,
            "protocol": {
                **sweep.judging(self.judged, self.row.conditions),
                "images": self.course.images,
                "counted": self.counted,
                "batch": self.executor.batch,
                "rounds": self.course.rounds,
                "reference": self.course.reference.title,
            },
        }

    @cached_property
    def id(self) -> str:
        return records.id_of("race", self.identity)

    @property
    def judged(self) -> int:
        """Images that quality is judged on: as many in each group."""
        return self.counted // GROUPS * GROUPS

    def executions(self) -> list[range]:
        """The seeds of each execution: a shard's images in batches, shard by shard, so that shards are as ever."""
        first, size = samples.FIRST_SEED, self.executor.batch
        return [
            range(first + start, first + min(start + size, shard + samples.SHARD, self.counted))
            for shard in range(0, self.counted, samples.SHARD)
            for start in range(shard, min(shard + samples.SHARD, self.counted), size)
        ]

    def leg(self, turn: int) -> list[range]:
        """The executions of one round."""
        every = self.executions()
        bounds = np.linspace(0, len(every), self.course.rounds + 1).astype(int)
        return every[bounds[turn] : bounds[turn + 1]]

    def folder(self) -> Path:
        """Where the images of its legs are until all are made."""
        return files.home() / "race" / self.id


class Made:
    """Images that were made in a race, as a generator that is asked for them."""

    def __init__(self, spec: GeneratorSpec, images: np.ndarray, open: Callable[[], Generator]) -> None:
        self.spec, self.images, self._open = spec, images, open

    def sample(self, request: SampleRequest) -> np.ndarray:
        return np.asarray(self.images[np.array(request.seeds) - samples.FIRST_SEED])

    def between(self, request: SampleRequest, frames: int) -> np.ndarray:
        return self._open().between(request, frames)


@dataclass
class Race:
    """A race under way. Generators stay open from their first leg on."""

    course: Course
    journal: Journal
    told: Tell = print

    def __post_init__(self) -> None:
        self._open: dict[tuple[str, str], Generator] = {}
        self._frequencies: dict[str, Mapping[str, tuple[float, ...]]] = {}

    def run(self, path: Path, *, again: bool = False) -> Iterator[Record]:
        """A record of each row, those on record too, each as soon as its images are judged. Raises GenzooError."""
        entrants = self.entrants(again=again)
        known = {} if again else records.on_record(path)
        yield from (known[each.id] for each in entrants if each.id in known)
        missing = [each for each in entrants if each.id not in known]
        self.told(self._estimate(missing))
        try:
            for turn in range(self.course.rounds):
                self._round(turn, missing)
            for index, each in enumerate(missing, 1):
                record = self.sealed(each)
                records.append(path, record)
                self.journal.drop([each.id])
                shutil.rmtree(each.folder(), ignore_errors=True)
                self.told(f"[{index}/{len(missing)}] {each.title}: {said(record)}")
                yield record
        except KeyboardInterrupt:
            self.told("stopped: the legs that were run are kept, and the same command goes on")
            raise

    # Before the start: who runs by what, and how far.

    def entrants(self, *, again: bool = False) -> list[Entrant]:
        """The rows with their executors and counts, tried once and then known. Raises RaceError."""
        path = files.home() / "race" / f"{self.course.id}.json"
        if again or not path.is_file():
            files.write_json(path, self._planned())
        plan = json.loads(path.read_text())
        return [
            Entrant(row, Executor(each["runtime"], each["batch"]), each["counted"], self.course, each["per_pulse"])
            for row, each in zip(self.course.rows, plan, strict=True)
        ]

    def _planned(self) -> list[dict[str, Any]]:
        began, tried = time.monotonic(), []
        for index, row in enumerate(self.course.rows, 1):
            executor, seconds = self._choose(row)
            at = f"[{clock(time.monotonic() - began)}] tried {index}/{len(self.course.rows)}"
            self.told(f"{at} {row.title}: {executor}, {1000 * seconds:.3g} ms an image")
            tried.append((executor, seconds))
        self._open.clear()  # most of what was tried is not used
        found = counts(self.course, tried)
        return [{**asdict(executor), **count} for (executor, _), count in zip(tried, found, strict=True)]

    def _choose(self, row: Row) -> tuple[Executor, float]:
        """The fastest executor of a row, and its seconds an image. Raises RaceError where there is none."""
        best: tuple[Executor, float] | None = None
        faults = []
        for runtime in self.course.runtimes:
            if runtime == COMPILED and best and best[1] * self.course.images < COMPILED_FROM_S:
                continue
            for batch in BATCHES:
                if batch > row.bundle.max_batch and runtime not in (Runtime.TORCH, COMPILED):
                    continue
                if not self._affords(row, batch, best[1] if best else 0.0):
                    continue
                executor = Executor(runtime, batch)
                try:
                    seconds = self._trial(row, executor)
                except GenzooError as error:
                    faults.append(f"{runtime}: {error}")
                    break
                if best is None or seconds < (1.0 - GAIN) * best[1]:
                    best = executor, seconds
                elif seconds > FAR * best[1]:
                    break
        if best is None:
            raise RaceError(f"{row.title} runs on nothing that is here ({'; '.join(faults)}); leave it out")
        return best

    def _affords(self, row: Row, batch: int, seconds: float) -> bool:
        """Whether every leg of a row can have a whole execution of that size, at about so many seconds an image."""
        course = self.course
        legs, share = (course.rounds * course.pulses, 0.25) if row == course.reference else (course.rounds, 0.5)
        fair = 60.0 * course.minutes * (share if row == course.reference else share / len(course.rows))
        return batch * course.rounds <= course.images and (batch == BATCHES[0] or legs * batch * seconds <= fair)

    def _trial(self, row: Row, executor: Executor) -> float:
        """Seconds an image, of a few steps as of all. Raises RaceError where the images are not the bundle's."""
        steps, setting = row.setting.resolved(row.spec).num_steps, row.setting
        if steps is not None and _any_steps(row):
            setting = replace(setting, num_steps=min(steps, TRIAL_STEPS))
        seeds = range(samples.FIRST_SEED, samples.FIRST_SEED + executor.batch)
        generator = self._generator(row, executor.runtime)
        request = self._request(row, seeds, setting)
        images = generator.sample(request, executor.batch)
        if executor.runtime not in (Runtime.TORCH, Runtime.ONNXRUNTIME) and executor.batch == BATCHES[0]:
            expected = self._generator(row, Runtime.ONNXRUNTIME).sample(request, executor.batch)
            error, limits = image_error(expected, images), LIMITS[Precision(row.bundle.manifest["precision"])]
            if error.lsb > limits.lsb or error.differing > limits.differing:
                raise RaceError(f"its images differ by {error.lsb} grey levels from the bundle's, at most {limits.lsb}")
        times = []
        for _ in range(TRIALS):
            began = time.perf_counter()
            generator.sample(request, executor.batch)
            times.append(time.perf_counter() - began)
        return min(times) / executor.batch * nfe(row.spec, row.setting) / nfe(row.spec, setting)

    def _estimate(self, missing: Sequence[Entrant]) -> str:
        if not missing:
            return "every row is on record"
        cut = [f"{each.title} ({each.counted:,})" for each in missing if each.extrapolated]
        runs = sum(len(self.journal.runs(each.id)) for each in missing)
        kept = f"; {runs} of {len(missing) * self.course.rounds} legs are kept from before" if runs else ""
        text = (
            f"{len(missing)} systems, {self.course.images:,} images each, take up to {clock(60 * self.course.minutes)}"
        )
        return f"{text}{kept}" + (f"; counted on fewer: {', '.join(cut)}" if cut else "") + "; then images are judged"

    # Under way.

    def _round(self, turn: int, entrants: Sequence[Entrant]) -> None:
        todo = [each for each in entrants if not self.journal.has(each.id, turn)]
        if not todo:
            return
        began, probe = time.monotonic(), environment.probe_ms()
        reference = next(each for each in self.entrants() if each.row == self.course.reference)
        pulses = _Pulses(self, reference, turn)
        legs = [each for each in todo if each.row != self.course.reference]
        order = np.random.default_rng([self.course.rounds, turn]).permutation(len(legs))
        before = pulses.next()
        for start in range(0, len(legs), REFERENCE_EVERY):
            part = [legs[index] for index in order[start : start + REFERENCE_EVERY]]
            made = [(each, *self._leg(each, turn, probe)) for each in part]
            after = pulses.next()
            for each, run, images in made:
                self._keep(each, turn, {**run, "reference_ms": math.sqrt(before * after)}, images)
            before = after
        for each in todo:
            if each.row == self.course.reference:
                run, images = pulses.rest(probe)
                self._keep(each, turn, run, images)
        took = clock(time.monotonic() - began)
        self.told(f"round {turn + 1} of {self.course.rounds}: {len(todo)} legs in {took}")

    def _leg(self, each: Entrant, turn: int, probe: float) -> tuple[Run, np.ndarray]:
        watch, leg = environment.Watch.begin(), each.leg(turn)
        self.warm(each, leg)
        seconds, images = self.make(each, leg)
        return run_of(turn, seconds, len(images), probe, watch.others()), images

    def warm(self, each: Entrant, leg: Sequence[range]) -> None:
        """What is not timed: opening, and a call in as few steps as the generator takes."""
        if leg:
            few = replace(each.row.setting, num_steps=1) if _any_steps(each.row) else each.row.setting
            generator = self._generator(each.row, each.executor.runtime)
            generator.sample(self._request(each.row, leg[0], few), each.executor.batch)

    def make(self, each: Entrant, leg: Sequence[range]) -> tuple[float, np.ndarray]:
        """Seconds, and the images of some executions, uint8 (N, H, W, C)."""
        generator, found, seconds = self._generator(each.row, each.executor.runtime), [], 0.0
        for seeds in leg:
            began = time.perf_counter()
            found.append(generator.sample(self._request(each.row, seeds, each.row.setting), each.executor.batch))
            seconds += time.perf_counter() - began
        return seconds, np.concatenate(found)

    def _request(self, row: Row, seeds: range, setting: Any) -> SampleRequest:
        dataset = row.judges.dataset
        if dataset not in self._frequencies:
            self._frequencies[dataset] = metrics.frequencies(row.judges) if row.judges.everybody else {}
        asked = samples.conditions(row.spec, seeds, row.asked, self._frequencies[dataset])
        return SampleRequest(tuple(seeds), asked, setting.resolved(row.spec))

    def _generator(self, row: Row, runtime: str) -> Generator:
        key = (row.bundle.name + row.bundle.manifest["precision"], runtime)
        if key not in self._open:
            self._open[key] = Executor(runtime, 1).open(row)
        return self._open[key]

    def _keep(self, each: Entrant, turn: int, run: Run, images: np.ndarray) -> None:
        with files.atomic(each.folder() / f"{turn}.npy") as temporary, temporary.open("wb") as file:
            np.save(file, images)
        self.journal.add(each.id, run)

    # After the last round.

    def sealed(self, each: Entrant) -> Record:
        """A row's record; a time that was extrapolated has no verdict."""
        runs, row = self.journal.runs(each.id), each.row
        legs = [np.load(each.folder() / f"{run['round']}.npy", allow_pickle=False) for run in runs]
        images = np.concatenate(legs)
        made = Made(row.spec, images, lambda: self._generator(row, each.executor.runtime))
        judged: dict[str, Any] = {"metrics": {}, "left_out": {}}
        if not sweep.unjudged(row):
            judged = samples.judge(made, row.setting, each.judged, each.made_by, row.judges, row.asked, kinds=KINDS)
        return records.make(
            "race",
            each.identity,
            family=row.spec.family,
            nfe=nfe(row.spec, row.setting),
            runs=runs,
            seconds=asdict(seconds_of(runs, each.course.images, extrapolated=each.extrapolated)),
            extrapolated=each.extrapolated,
            speedup=asdict(between_runs(np.array([run["reference_ms"] / per_image_ms(run) for run in runs]))),
            **{**judged, "left_out": None if each.extrapolated else judged["left_out"]},
            environment=environment.describe(),
        )


@dataclass
class _Pulses:
    """The reference's leg of a round, a few executions at a time between the legs of others."""

    race: Race
    entrant: Entrant
    turn: int

    def __post_init__(self) -> None:
        self._left, self._watch = self.entrant.leg(self.turn), environment.Watch.begin()
        self._images: list[np.ndarray] = []
        self._seconds = 0.0
        self._last = 0.0
        self.race.warm(self.entrant, self._left)

    def next(self) -> float:
        """Milliseconds an image of the next few; of the last ones where none are left."""
        size = max(1, self.entrant.per_pulse)
        now, self._left = self._left[:size], self._left[size:]
        if now:
            seconds, images = self.race.make(self.entrant, now)
            self._images.append(images)
            self._seconds += seconds
            self._last = 1000.0 * seconds / len(images)
        return self._last

    def rest(self, probe: float) -> tuple[Run, np.ndarray]:
        """What is left, then the run of the whole leg."""
        while self._left:
            self.next()
        images = np.concatenate(self._images)
        run = run_of(self.turn, self._seconds, len(images), probe, self._watch.others())
        return {**run, "reference_ms": per_image_ms(run)}, images


def counts(course: Course, tried: Sequence[tuple[Executor, float]]) -> list[dict[str, int]]:
    """How many images of each row count, by its seconds an image, so that all fit into the time.

    Those that would take longest are cut, to the same time each.

    Raises RaceError where not even the least fits.
    """
    images, turns = course.images, course.rounds
    least = [min(images, max(turns * executor.batch, GROUPS)) for executor, _ in tried]
    reference = course.rows.index(course.reference)
    executor, seconds = tried[reference]
    least[reference] = min(images, max(turns * course.pulses * executor.batch, GROUPS))
    needed = sum(count * each for count, (_, each) in zip(least, tried, strict=True)) / 60.0
    if needed > course.minutes:
        raise RaceError(
            f"{turns} rounds take {needed:.3g} minutes where every row makes as few images as can be timed: give "
            f"--minutes {math.ceil(needed)} or more, or name fewer checkpoints"
        )
    cap = _cap(course, [each for _, each in tried], least)
    found = []
    for (_, seconds), smallest in zip(tried, least, strict=True):
        counted = images if images * seconds <= cap else max(smallest, int(cap / seconds / smallest) * smallest)
        found.append({"counted": min(images, counted), "per_pulse": 0})
    count = Entrant(course.reference, tried[reference][0], found[reference]["counted"], course)
    found[reference]["per_pulse"] = math.ceil(len(count.leg(0)) / course.pulses)
    return found


def _cap(course: Course, seconds: Sequence[float], least: Sequence[int]) -> float:
    """The seconds that one row may take, so that all together take what there is."""
    images, budget = course.images, 60.0 * course.minutes
    low, high = 0.0, max(images * each for each in seconds)
    for _ in range(60):
        cap = (low + high) / 2.0
        taken = sum(max(min(images * each, cap), few * each) for each, few in zip(seconds, least, strict=True))
        low, high = (cap, high) if taken <= budget else (low, cap)
    return high


def _any_steps(row: Row) -> bool:
    return row.spec.sampling is not None and not row.spec.sampling.steps


def run_of(turn: int, seconds: float, images: int, probe: float, others: float) -> Run:
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    timed = {"seconds": round(seconds, 5), "images": images}
    return {"round": turn, "time": when, **timed, "probe_ms": round(probe, 3), "others": round(others, 3)}


def per_image_ms(run: Run) -> float:
    return float(1000.0 * run["seconds"] / run["images"])


def seconds_of(runs: Sequence[Run], images: int, *, extrapolated: bool) -> Estimate:
    """Of all images: what was measured, or the legs' mean for as many; the interval is between legs."""
    spread = between_runs(np.array([per_image_ms(run) for run in runs]))
    value = images * spread.value / 1000.0 if extrapolated else sum(run["seconds"] for run in runs)
    return Estimate(value, value * spread.low / spread.value, value * spread.high / spread.value)


def said(record: Record) -> str:
    """`12.3 s (12.1 to 12.5), 120 x the reference by onnxruntime, 64 at a time`."""
    seconds, speedup = (Estimate(**record[name]) for name in ("seconds", "speedup"))
    protocol, runtime = record["identity"]["protocol"], record["identity"]["race"]["runtime"]
    counted = f", extrapolated from {protocol['counted']:,}" if record["extrapolated"] else ""
    return f"{seconds} s{counted}, {speedup} times the reference's speed, by {Executor(runtime, protocol['batch'])}"
