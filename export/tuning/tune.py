"""Tuning: every candidate before the gate, then those that it admits side by side, and a record of the fastest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from export import exporter
from export.bundle import Bundle
from export.runners import TorchRunner
from export.runtimes import Executor, Runtime, opened
from export.tiers import TIERS, Tier
from export.tuning.candidates import UNTUNED, as_judged, candidates, is_peer, keeps, usable
from export.tuning.judging import Kept, judge
from export.tuning.record import FORMAT, Tuned, decisive, executor_of, path_of, plain
from export.tuning.turns import turns
from export.tuning.variants import beside, searched
from export.tuning.work import Work, name_of, spread
from export.variant import Precision, Variant
from zoo import files, registry
from zoo.contract.feeds import Tensors
from zoo.contract.generator import Generator
from zoo.contract.request import SampleRequest, Setting
from zoo.errors import GenzooError

STEPS = 4  # at most, of a generator that takes any number: an executor that is faster in four rows is so in fifty
SEED = 5000  # the first of those that are timed

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """`batches`: sizes to tune for; `tier`: the loosest that is tried; `max_drift` in place of the tiers' windows."""

    batches: tuple[int, ...] = (1, 16)
    tier: Tier = TIERS[-1]
    max_drift: float | None = None
    rounds: int = 11


def setting_of(bundle: Bundle) -> Setting:
    """What is timed: the generator's own number of steps, or a few where it takes any."""
    sampling = bundle.spec.sampling
    if sampling is None:
        return Setting()
    return Setting(sampling.num_steps if sampling.steps else min(sampling.num_steps, STEPS))


@dataclass
class Tuning:
    """One run, for an admitted float32 bundle."""

    bundle: Bundle
    plan: Plan
    runtimes: Sequence[Runtime]
    absent: dict[str, str]
    work: Work
    tell: Tell
    generators: dict[Executor, Generator] = field(default_factory=dict)
    reference: Kept | None = None

    def run(self) -> Tuned:
        """Every batch size in turn; the record is written once all are measured. Raises GenzooError."""
        with _threads_of_torch():
            batches = {str(batch): {"lines": list(self._batch(batch))} for batch in self.plan.batches}
        record = {
            "format": FORMAT,
            "name": self.bundle.name,
            **decisive(self.bundle),
            "setting": setting_of(self.bundle).resolved(self.bundle.spec).to_json(),
            "max_drift": self.plan.max_drift,
            "rounds": self.plan.rounds,
            "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "absent": self.absent,
            "bundles": self._bundles(batches),
            "batches": batches,
        }
        files.write_json(path_of(self.bundle.name), record)
        self.work.path.unlink(missing_ok=True)
        return Tuned(record)

    def _batch(self, batch: int) -> Iterator[dict[str, Any]]:
        """The lines of a batch size: the fastest first, those that were refused at the end."""
        exact = self.plan.tier is TIERS[0]
        wanted = candidates(self.bundle, batch, self.runtimes, tuple(searched(self.bundle)), exact=exact)
        for index, executor in enumerate(wanted, 1):
            self._judge(executor, f"batch {batch}, {index} of {len(wanted)}")
        admitted = [each for each in wanted if self._tier(each)]
        times = self._times(batch, admitted) if admitted else {}
        self.generators.clear()
        yield from _lines(wanted, {each: self.work.judged[name_of(as_judged(each))] for each in wanted}, times)

    def _tier(self, executor: Executor) -> str | None:
        """The tier of an executor, if it is one that is tried."""
        found = self.work.judged[name_of(as_judged(executor))]["tier"]
        return found if found in [each.name for each in TIERS[: TIERS.index(self.plan.tier) + 1]] else None

    def _judge(self, executor: Executor, where: str) -> None:
        asked, executor = executor, as_judged(executor)
        name = name_of(executor)
        if name not in self.work.judged:
            began = time.perf_counter()
            try:
                generator = self._generator(executor)
                opening = time.perf_counter() - began
                found = judge(self.bundle, self._reference(), generator, self.plan.max_drift)
                found["open_s"] = round(opening, 3)
            except GenzooError as error:
                found = {"tier": None, "faults": {TIERS[0].name: str(error)}}
            found["seconds"] = round(time.perf_counter() - began, 1)
            self.work.judged[name] = found
            self.work.keep()
        self.tell(f"{where}: {asked.title}: {_standing(self.work.judged[name])}")

    def _reference(self) -> Kept:
        """The float32 reference's images, made once."""
        if self.reference is None:
            self.reference = Kept(TorchRunner(registry.checkpoint(self.bundle.name)).generator)
        return self.reference

    def _generator(self, executor: Executor) -> Generator:
        if executor not in self.generators:
            self.generators[executor] = opened(self._bundle(executor), executor)
        return self.generators[executor]

    def _bundle(self, executor: Executor) -> Bundle:
        if executor.precision is Precision.INT8 and executor.bundle is None:
            exporter.export(registry.checkpoint(self.bundle.name), Variant(precision=Precision.INT8))
        return beside(self.bundle)(executor)

    def _bundles(self, batches: dict[str, dict[str, Any]]) -> dict[str, str]:
        """The digests of what runs beside the bundle itself, by variant."""
        lines = [line for found in batches.values() for line in found["lines"] if line["ms"]]
        executors = {each.bundle_name: each for each in map(executor_of, lines)}
        return {name: beside(self.bundle)(each).digest for name, each in executors.items()}

    def _times(self, batch: int, executors: Sequence[Executor]) -> dict[Executor, np.ndarray]:
        """Milliseconds a call of each, (rounds,); what was measured before is not measured again."""
        by_name = {name_of(each): each for each in executors}
        kept = self.work.of_batch(batch, by_name)
        lacking = self.plan.rounds - len(kept)
        if lacking > 0:
            tensors = self._tensors(batch)
            runs = {name: _call(self._generator(each), tensors) for name, each in by_name.items()}
            began = time.monotonic()
            for index, times in enumerate(turns(runs, lacking), 1):
                kept.append({name: round(value, 4) for name, value in times.items()})
                self.work.keep()
                left = (time.monotonic() - began) / index * (lacking - index)
                self.tell(f"batch {batch}: round {len(kept)} of {self.plan.rounds}, about {left:.0f} s left")
        kept = kept[: self.plan.rounds]
        return {each: np.array([times[name] for times in kept]) for name, each in by_name.items()}

    def _tensors(self, batch: int) -> Tensors:
        request = SampleRequest(tuple(range(SEED, SEED + batch)), setting=setting_of(self.bundle))
        return TorchRunner(registry.checkpoint(self.bundle.name)).feeds(request)


@contextmanager
def _threads_of_torch() -> Iterator[None]:
    """A block after which torch has as many threads in this process as before."""
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _call(generator: Generator, tensors: Tensors) -> Callable[[], Tensors]:
    return lambda: generator.runner.run(**tensors)


def _standing(judged: dict[str, Any]) -> str:
    if judged["tier"] is None:
        return f"refused, {list(judged['faults'].values())[-1]}"
    decibels = (
        f", {judged['mean_db']:.1f} dB, the worst image {judged['worst_db']:.1f} dB" if "mean_db" in judged else ""
    )
    return f"{judged['tier']}{decibels}"


def _lines(
    wanted: Sequence[Executor], judged: dict[Executor, dict[str, Any]], times: dict[Executor, np.ndarray]
) -> Iterator[dict[str, Any]]:
    """A line each with its time, and its share of the untuned executor's in the same rounds, and what became of it."""
    base = times.get(UNTUNED)
    shares = {each: values / (values if base is None else base) for each, values in times.items()}
    order = sorted(times, key=lambda each: float(np.median(shares[each])))
    best = {tier.name: _best(order, judged, tier) for tier in TIERS}
    for each in (*order, *(executor for executor in wanted if executor not in times)):
        found = judged[each]
        measured = each in times
        yield {
            "executor": plain(each),
            "title": each.title,
            "peer": is_peer(each),
            "tier": found["tier"],
            "ms": spread(times[each]) if measured else None,
            "relative": spread(shares[each]) if measured else None,
            "kept_for": [name for name, one in best.items() if one == each],
            "why": _why(each, found, best, times),
            **{key: value for key, value in found.items() if key != "tier"},
        }


def _best(order: Sequence[Executor], judged: dict[Executor, dict[str, Any]], tier: Tier) -> Executor | None:
    within = [each.name for each in TIERS[: TIERS.index(tier) + 1]]
    return next((each for each in order if keeps(each) and judged[each]["tier"] in within), None)


def _why(
    executor: Executor,
    judged: dict[str, Any],
    best: dict[str, Executor | None],
    times: dict[Executor, np.ndarray],
) -> str:
    """Why an executor was kept, lost or was refused."""
    if kept := [name for name, one in best.items() if one == executor]:
        return f"the fastest of the tier {' and '.join(kept)}"
    if executor not in times:
        refused = f"refused: {list(judged['faults'].values())[-1]}"
        return refused if judged["tier"] is None else "looser than was asked for"
    if not keeps(executor):
        return "compiles in every process anew: what is kept of it is the package of aotinductor"
    rival = best[judged["tier"]]
    assert rival is not None
    ratios = times[executor] / times[rival]
    slower = f"takes {float(np.median(ratios)):.2f} times as long as {rival.title}"
    return slower if float(np.quantile(ratios, 0.25)) > 1.0 else f"{slower}, within the spread of the rounds"


def tuning(
    bundle: Bundle, plan: Plan, runtimes: Sequence[Runtime] = (), *, again: bool = False, tell: Tell = print
) -> Tuning:
    """A run that goes on where one like it was stopped, unless `again`. Raises GenzooError."""
    found, absent = usable(runtimes)
    identity = {
        **decisive(bundle),
        "setting": setting_of(bundle).resolved(bundle.spec).to_json(),
        "tuned": {"max_drift": plan.max_drift},
        "others": {each.bundle_name: beside(bundle)(each).digest for each in searched(bundle)},
    }
    return Tuning(bundle, plan, found, absent, Work.of(bundle.name, identity, again=again), tell)
