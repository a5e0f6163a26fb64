"""A sweep by the nodes of a cluster: what measures time has a node for itself, images are made wherever there is room.

A piece that measures is some generators' cells with a reference of its own, so every ratio is to a neighbour in time on
the same machine; its records say which. A piece that draws is a shard of images, the same on every node that makes
any; they are judged here. What is on record of any node of the cluster is not measured again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks import environment, records
from benchmarks.measure import costs, samples, sweep, workload
from benchmarks.measure.costs import Cost
from benchmarks.measure.rounds import Journal
from benchmarks.measure.sweep import Cell, Judged, Part, Row, Tell
from benchmarks.quality import metrics
from benchmarks.records import Record
from export import pieces, runtimes
from export.bundle import Bundle
from export.runtimes import Runtime
from serving.generators import BATCH_SIZE
from zoo import fanout, files, registry
from zoo.contract.generator import Generator
from zoo.contract.request import SampleRequest
from zoo.contract.spec import GeneratorSpec

PARTS_A_NODE = 2  # so that a node that is lost, or slow, does not decide how long all takes
THREADS = 1  # of a shard, whatever the node has

Each = TypeVar("Each", Cell, Judged)


@dataclass(frozen=True)
class Carried:
    """A bundle and the checkpoint that it is of, as a piece of work names them."""

    bundle: fanout.Folder
    checkpoint: fanout.Folder | None  # None of a bundle that only its folder knows

    @classmethod
    def of(cls, bundle: Bundle) -> Carried:
        known = bundle.name in registry.names()
        checkpoint = pieces.checkpoint_folder(bundle.name) if known else None
        return cls(fanout.Folder.of(bundle.path, bundle.path.name), checkpoint)

    @property
    def cargo(self) -> fanout.Cargo:
        return {**self.bundle.cargo, **(self.checkpoint.cargo if self.checkpoint else {})}

    def open(self) -> Bundle:
        return Bundle.open(self.bundle.here())


def _checkpoints(carried: Sequence[Carried]) -> list[fanout.Folder]:
    return [each.checkpoint for each in carried if each.checkpoint]


def _cargo(carried: Sequence[Carried]) -> fanout.Cargo:
    return {digest: path for each in carried for digest, path in each.cargo.items()}


@dataclass(frozen=True)
class Measured:
    """Cells beside a reference, all of them on one machine; rows judged as a server there serves them."""

    cells: tuple[Cell, ...]
    judged: tuple[Judged, ...]
    reference: Cell
    carried: Mapping[str, Carried]  # by the bundle's path where the piece comes from

    @property
    def cargo(self) -> fanout.Cargo:
        return _cargo(list(self.carried.values()))

    def __call__(self) -> list[Record]:
        with pieces.checkpoints(_checkpoints(list(self.carried.values()))):
            opened = {path: each.open() for path, each in self.carried.items()}
            cells = [_moved(each, opened) for each in self.cells]
            judged = [_moved(each, opened) for each in self.judged]
            reference = _moved(self.reference, opened)
            journal = Journal(files.home() / "sweep" / f"{files.identify([cell.id for cell in cells])}.jsonl")
            found = [
                record
                for part in sweep.parts(cells, judged)
                for record in sweep.measure(part, journal, {}, reference=reference, told=lambda _: None)
            ]
            journal.drop([cell.id for cell in cells])
        return found


def _moved(each: Each, opened: Mapping[str, Bundle]) -> Each:
    """The same with the bundle of this machine; what was known of it elsewhere is found anew."""
    bundle = opened[str(each.row.bundle.path)]
    return dataclasses.replace(each, row=Row(bundle, each.row.setting, by_examples=each.row.by_examples))


@dataclass(frozen=True)
class Drawn:
    """One shard of images of a bundle: uint8 (N, H, W, C)."""

    carried: Carried
    runtime: str
    shard: samples.Shard
    asks_of: str  # the data set whose held-out pictures may say what is asked for

    @property
    def cargo(self) -> fanout.Cargo:
        return self.carried.cargo

    def __call__(self) -> np.ndarray:
        with pieces.checkpoints(_checkpoints([self.carried])):
            made = _opened(self.carried, self.runtime)
            return samples.make(made, self.shard, samples.asked(made.spec, self.asks_of, made.assets))


class _InBatches:
    """A generator that makes its images in executions of the size in which a server's client asks for them."""

    def __init__(self, generator: Generator, bundle: Bundle) -> None:
        self.spec: GeneratorSpec = generator.spec
        self.assets, self._generator = bundle.assets, generator

    def sample(self, request: SampleRequest) -> np.ndarray:
        return self._generator.sample(request, BATCH_SIZE)

    def between(self, request: SampleRequest, frames: int) -> np.ndarray:
        return self._generator.between(request, frames)


@lru_cache(maxsize=1)
def _opened(carried: Carried, runtime: str) -> _InBatches:
    bundle = carried.open()
    return _InBatches(runtimes.generator(bundle, Runtime(runtime), THREADS), bundle)


@dataclass(frozen=True)
class Costed:
    """What a generator costs on a runtime, measured on a node that does nothing else."""

    carried: Carried
    runtime: str

    @property
    def cargo(self) -> fanout.Cargo:
        return self.carried.cargo

    def __call__(self) -> Record:
        with pieces.checkpoints(_checkpoints([self.carried])):
            bundle = self.carried.open()
            return costs.measure(Cost(bundle, self.runtime), costs.export_seconds(bundle))


def where(runtimes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What decides a latency on this node beside the artifact, by runtime."""
    return {each: {"machine": sweep.machine(each), "software": environment.software(each)} for each in runtimes}


def run(
    wanted: Sequence[Cell],
    judged: Sequence[Judged],
    path: Path,
    workers: fanout.Workers,
    *,
    reference: Cell,
    costed: Sequence[Cost] = (),
    again: bool = False,
    told: Tell = print,
) -> list[Record]:
    """As `sweep.run`, and the costs, by workers; every record is appended to `path` as soon as it is here.

    Raises GenzooError.
    """
    known = {} if again else records.on_record(path)
    names = list(dict.fromkeys([*(each.runtime for each in wanted), *(each.runtime for each in costed)]))
    nodes = list(workers.everywhere(partial(where, names)).values()) if names else []
    found: list[Record] = []

    def keep(record: Record) -> None:
        records.append(path, record)
        found.append(record)
        told(f"[{len(found)}/{every}] {_said(record)}")

    def on_record(kind: str, each: Cell | Cost) -> Record | None:
        ids = (records.id_of(kind, {**each.identity, **node[each.runtime]}) for node in nodes)
        return next((known[id] for id in ids if id in known), None)

    old_cells, old_costs = [on_record("cell", each) for each in wanted], [on_record("cost", each) for each in costed]
    cells = [each for each, record in zip(wanted, old_cells, strict=True) if record is None]
    left = [each for each, record in zip(costed, old_costs, strict=True) if record is None]
    rows = [each for each in judged if each.id not in known]
    every = len(cells) + len(left) + len(rows)
    old = [*old_cells, *old_costs, *(known.get(each.id) for each in judged)]
    bundles = [*_bundles([*cells, *rows]), *(each.bundle for each in left), reference.row.bundle]
    carried = {str(each.path): Carried.of(each) for each in bundles} if every else {}

    served = [each for each in rows if each.runtime == Runtime.TRITON]
    for record in _measured(cells, served, reference, carried, len(nodes), workers):
        keep(record)
    for _, record in fanout.run(
        [Costed(carried[str(each.bundle.path)], each.runtime) for each in left],
        workers,
        exclusive=True,
        title="costs",
    ):
        keep(record)
    drawn = [each for each in rows if each.runtime != Runtime.TRITON]
    _draw(drawn, carried, workers, told)
    for part in sweep.parts([], drawn) if drawn else ():
        for record in sweep.measure(part, Journal.beside(path), {}, told=lambda _: None):
            keep(record)
    return [*filter(None, old), *found]


def _bundles(cells: Sequence[Cell | Judged]) -> list[Bundle]:
    return list({each.row.bundle.path: each.row.bundle for each in cells}.values())


def _measured(
    cells: Sequence[Cell],
    served: Sequence[Judged],
    reference: Cell,
    carried: Mapping[str, Carried],
    nodes: int,
    workers: fanout.Workers,
) -> Iterator[Record]:
    paths = [str(bundle.path) for bundle in _bundles([*cells, *served])]
    count = max(1, min(len(paths), PARTS_A_NODE * nodes))
    parts = []
    for group in (set(paths[start::count]) for start in range(count)):
        part = Part(
            tuple(each for each in cells if str(each.row.bundle.path) in group),
            tuple(each for each in served if str(each.row.bundle.path) in group),
        )
        needed = {path: carried[path] for path in (*group, str(reference.row.bundle.path))}
        if part.cells or part.judged:
            parts.append(Measured(part.cells, part.judged, reference, needed))
    for _, found in fanout.run(parts, workers, exclusive=True, title="measuring"):
        yield from found


def _draw(judged: Sequence[Judged], carried: Mapping[str, Carried], workers: fanout.Workers, told: Tell) -> None:
    """Every shard that is not here yet, kept where `samples.draw` finds it."""
    wanted = [
        Drawn(carried[str(each.row.bundle.path)], each.runtime, shard, each.row.asks_of)
        for each in judged
        for shard in samples.shards(
            each.row.spec, each.row.setting, each.count, sweep.made_by(each), metrics.frequencies(each.row.judges)
        )
        if not shard.path.is_file()
    ]
    if not wanted:
        return
    told(f"{len(wanted)} shards of at most {samples.SHARD} images are drawn")
    on_gpu = any(workload.on_gpu(each.runtime) for each in wanted)
    for index, images in fanout.run(wanted, workers, exclusive=on_gpu, title="drawing"):
        wanted[index].shard.keep(images)


def _said(record: Record) -> str:
    kind = record["identity"]["kind"]
    words = record["identity"][kind]
    what = f"{kind} of {words['generator']} on {words['runtime']}"
    return f"{what}, {words['scenario']}: {sweep.said(record)}" if kind == "cell" else what
