"""Which generators at which settings are measured on which runtimes, and their records."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import environment, records
from benchmarks.measure import rounds, samples, served, workload
from benchmarks.measure.latency import Ask
from benchmarks.measure.rounds import Journal, Rounds, Session, Subject, clock
from benchmarks.measure.workload import OFFLINE, SINGLE, TUNED, Load, WorkloadError, for_runtime, title
from benchmarks.quality import external, judges, metrics
from benchmarks.quality.judges import Judges
from benchmarks.records import Record
from benchmarks.statistics import GROUPS, Estimate
from export.bundle import Bundle
from export.cuda import gpu
from export.engine import for_gpu, graphs_to_build
from export.runtimes import Runtime
from export.runtimes import check as check_runtime
from export.runtimes import generator as on_runtime
from export.tuning import opening
from export.tuning.record import plain
from export.tuning.variants import beside
from serving.generators import BATCH_SIZE
from serving.generators import sample as sample_through
from zoo import registry
from zoo.contract.assets import Assets
from zoo.contract.errors import nearest
from zoo.contract.feeds import Runner
from zoo.contract.generator import Generator
from zoo.contract.request import SampleRequest, Setting, nfe
from zoo.contract.spec import GeneratorSpec
from zoo.errors import GenzooError
from zoo.exchange.importing.draft import UNKNOWN
from zoo.family import System

TEACHER_STEPS = (5, 20)  # beside its default, where a generator takes any number
QUICK_CALLS = 100  # network calls for an image, at most, in a quick run
CHECKED = 8  # of the images that are judged
PROGRESS_SECONDS = 30.0
OPEN_BYTES = 200 << 20  # of a generator that is open on a runtime, beside a few times its files
Connect = Callable[[Bundle], Runner]  # an endpoint: columns of a request -> image
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """A generator at a setting: what a line of a table is of."""

    bundle: Bundle
    setting: Setting
    nets: tuple[Path, ...] = ()  # of a user, in which it is judged too
    by_examples: bool = False  # as of a choice

    @property
    def spec(self) -> GeneratorSpec:
        return self.bundle.served_spec

    @property
    def title(self) -> str:
        return title(self.spec.name, self.setting.resolved(self.spec), self.bundle.manifest["precision"])

    @cached_property
    def artifact(self) -> dict[str, Any]:
        return artifact(self.bundle)

    @cached_property
    def dataset(self) -> str:
        """That it was trained on; empty for a bundle that only its folder knows."""
        return registry.entry(self.bundle.name).dataset if self.bundle.name in registry.names() else ""

    @property
    def asks_of(self) -> str:
        """The data set whose held-out pictures may say what it is asked for; empty where its own examples do."""
        return "" if self.by_examples else self.dataset

    @cached_property
    def judges(self) -> Judges:
        """Those of its data set: without nets where it is asked by its few examples, whose pictures are no sample."""
        found = judges_of(self.dataset, self.nets)
        few = samples.examples(self.spec) and not samples.asks(self.spec, self.asks_of)
        return dataclasses.replace(found, nets=()) if few else found

    @cached_property
    def asked(self) -> Assets:
        """What its images are asked for where they are judged. Raises DatasetError."""
        return samples.asked(self.spec, self.asks_of, self.bundle.assets)

    @property
    def conditions(self) -> str:
        """The same, in words."""
        return samples.OF_HELD_OUT if samples.asks(self.spec, self.asks_of) else samples.DRAWN

    @property
    def words(self) -> dict[str, Any]:
        """Its part of an identity."""
        manifest = self.bundle.manifest
        asked = {"generator": self.spec.name, **self.setting.resolved(self.spec).to_json()}
        return {**asked, "precision": manifest["precision"], "loop": manifest["loop"]}


@dataclass(frozen=True)
class Cell:
    """A row on a runtime under a load: what has a latency. `reference` is the title of the cell that it is beside."""

    row: Row
    runtime: str
    load: Load
    rounds: Rounds
    reference: str

    @property
    def title(self) -> str:
        return f"{self.row.title} on {self.runtime}, {self.load.scenario}"

    @cached_property
    def identity(self) -> dict[str, Any]:
        return {
            "cell": {**self.row.words, "runtime": self.runtime, "scenario": self.load.scenario},
            **of_dataset(self.row.judges.dataset),
            **deciding(self.row.bundle, self.runtime),
            "protocol": {
                **dataclasses.asdict(self.load),
                "rounds": self.rounds.count,
                "order_seed": self.rounds.order_seed,
                "reference_every": self.rounds.reference_every,
                "reference": self.reference,
            },
        }

    @cached_property
    def id(self) -> str:
        return records.id_of("cell", self.identity)


@dataclass(frozen=True)
class Judged:
    """A row whose images, as a runtime serves them, are judged; of `count` 0 where nobody judges such images."""

    row: Row
    runtime: str
    count: int

    @property
    def title(self) -> str:
        return f"{self.row.title}, {self.count:,} images" if self.count else unjudged(self.row)

    @cached_property
    def identity(self) -> dict[str, Any]:
        return {
            "quality": {**self.row.words, "runtime": self.runtime},
            **of_dataset(self.row.judges.dataset),
            "artifact": self.row.artifact | _runs_on(self.row.bundle, self.runtime),
            "protocol": judging(self.count, self.row.conditions),
            "nets": samples.digests(self.row.judges),
        }

    @cached_property
    def id(self) -> str:
        return records.id_of("quality", self.identity)


def judging(count: int, conditions: str = samples.DRAWN) -> dict[str, Any]:
    """How rows, floors and ceilings are judged."""
    return {"judged": count, "first_seed": samples.FIRST_SEED, "groups": GROUPS, "conditions": conditions}


def check(runtime: str) -> None:
    """Raises GenzooError, before anything is made for it, where a runtime cannot be used on this host."""
    if runtime not in TUNED:  # which is of each bundle
        check_runtime(Runtime(runtime))


def available() -> list[str]:
    """Every usual runtime that can be used here, the nearest to production first."""
    return [runtime for runtime in workload.USUAL if _usable(runtime)]


def _usable(runtime: str) -> bool:
    try:
        check(runtime)
    except GenzooError:
        return False
    return True


def of_dataset(name: str) -> dict[str, str]:
    """A data set's part of an identity."""
    return {} if name == judges.FIRST else {"dataset": name}


def artifact(bundle: Bundle) -> dict[str, Any]:
    """The digests of what runs."""
    manifest = bundle.manifest
    graphs = {name: graph["sha256"] for name, graph in manifest["graphs"].items()}
    weights = {"checkpoint": manifest["checkpoint"]["sha256"], "weights": manifest["weights"]["sha256"]}
    assets = {"assets": manifest["assets"]} if manifest.get("assets") else {}
    return {**weights, "graphs": graphs, **assets}


@cache
def judges_of(dataset: str, nets: tuple[Path, ...]) -> Judges:
    """A data set's judges, and a user's nets beside them where it has any. Raises ExternalNetError, DatasetError."""
    found = judges.of(dataset)
    return external.with_nets(found, nets) if found.nets and nets else found


def deciding(bundle: Bundle, runtime: str) -> dict[str, Any]:
    """What decides how fast a bundle is on a runtime: a part of an identity."""
    return {
        "artifact": artifact(bundle) | _runs_on(bundle, runtime),
        "machine": machine(runtime),
        "software": environment.software(runtime),
    }


def _runs_on(bundle: Bundle, runtime: str) -> dict[str, Any]:
    """The digests of plans, where some run; by batch size the executors that were tuned. Raises TuningError."""
    if runtime in TUNED:
        found = TUNED[runtime].executors(bundle)
        return {"executors": {str(batch): plain(executor) for batch, executor in found.items()}}
    if runtime != Runtime.TENSORRT:
        return {}
    here = gpu()
    return {"engines": {graph: for_gpu(bundle, graph, here).sha256 for graph in graphs_to_build(bundle)}}


def machine(runtime: str) -> dict[str, Any]:
    """With its GPU, for a runtime that needs one. Raises GpuError."""
    return environment.machine() | ({"gpu": dataclasses.asdict(gpu())} if workload.on_gpu(runtime) else {})


@dataclass(frozen=True)
class Choice:
    """Which settings of a generator are measured: the usual numbers of steps, and what makes it its systems."""

    steps: tuple[int, ...] = ()  # these and nothing else
    tree: bool = False  # its systems and nothing else
    calls: int | None = None  # network calls for an image, at most
    by_examples: bool = False  # asked by their own, without drawing data sets that could ask: that takes minutes

    def settings(self, spec: GeneratorSpec, systems: Iterable[System] = ()) -> tuple[Setting, ...]:
        """Without doubles, and without steps that the generator was not trained for."""
        swept = [] if self.tree else [Setting(num_steps) for num_steps in self._steps(spec)]
        declared = [] if self.steps else [system.setting for system in systems]
        chosen: dict[Setting, Setting] = {}
        for setting in (*swept, *declared):
            chosen.setdefault(setting.resolved(spec), setting)
        return tuple(setting for setting in chosen.values() if self._affords(spec, setting))

    def _steps(self, spec: GeneratorSpec) -> Sequence[int | None]:
        if spec.sampling is None:
            return (None,)
        allowed = spec.sampling.steps
        wanted = self.steps or allowed or (*TEACHER_STEPS, spec.sampling.num_steps)
        return [count for count in sorted(set(wanted)) if not allowed or count in allowed]

    def _affords(self, spec: GeneratorSpec, setting: Setting) -> bool:
        return self.calls is None or nfe(spec, setting) <= self.calls


USUAL = Choice()


def rows(bundles: Iterable[Bundle], choice: Choice = USUAL, nets: Sequence[Path] = ()) -> list[Row]:
    """Every generator at each of its settings; `nets` are a user's, in which images are judged too."""
    return [
        Row(each, setting, tuple(nets), choice.by_examples)
        for each in bundles
        for setting in choice.settings(each.served_spec, _systems(each))
    ]


def judged(wanted: Sequence[Row], runtime: str, count: int) -> list[Judged]:
    """Each row, as the runtime serves it."""
    return [Judged(row, runtime, 0 if unjudged(row) else count) for row in wanted]


def cells(
    wanted: Sequence[Row],
    runtimes: Sequence[str],
    loads: Sequence[Load],
    protocol: Rounds = rounds.FULL,
    reference: Row | None = None,
) -> list[Cell]:
    """Every combination, beside one reference cell: that row, or the first, on the first runtime, alone in a queue."""
    beside = reference_cell(reference or wanted[0], runtimes, protocol).title if wanted else ""
    return [
        Cell(row, runtime, for_runtime(load, runtime), protocol, beside)
        for row in wanted
        for runtime in runtimes
        for load in loads
    ]


def reference_cell(row: Row, runtimes: Sequence[str], protocol: Rounds) -> Cell:
    """Its runs are short, whatever the others' are: there are many of them."""
    load = dataclasses.replace(workload.load(SINGLE, quick=True), queries=rounds.P50_FROM)
    found = Cell(row, runtimes[0], load, protocol, "")
    return dataclasses.replace(found, reference=found.title)


def reference_row(wanted: Sequence[Row], name: str, *, required: bool = False) -> Row:
    """The first row of that title, or of that generator; where it need not be, the first of all.

    Raises WorkloadError.
    """
    for row in wanted:
        if name in (row.title, row.spec.name):
            return row
    if required:
        known = nearest(name, [row.title for row in wanted])
        raise WorkloadError(f"the reference {name!r} is not among what is measured: {known}")
    return wanted[0]


def _systems(bundle: Bundle) -> tuple[System, ...]:
    """None of a bundle that only its folder knows."""
    return registry.entry(bundle.name).systems if bundle.name in registry.names() else ()


def left_out(bundles: Iterable[Bundle], choice: Choice) -> list[str]:
    """What of these a choice does not measure because an image takes too many calls."""
    bundles = list(bundles)
    measured = {row.title for row in rows(bundles, choice)}
    every = rows(bundles, dataclasses.replace(choice, calls=None))
    return [row.title for row in every if row.title not in measured]


@dataclass(frozen=True)
class Part:
    """Cells and rows of a few generators, which fit into memory at once: one piece of work, alone on its machine."""

    cells: tuple[Cell, ...]
    judged: tuple[Judged, ...]

    @property
    def rows(self) -> Iterator[Row]:
        yield from (cell.row for cell in self.cells)
        yield from (each.row for each in self.judged)


def parts(wanted: Sequence[Cell], judged: Sequence[Judged], memory: int | None = None) -> list[Part]:
    """All of it, in as few parts as the memory allows (bytes; three quarters of what is free now)."""
    memory = 3 * environment.available_bytes() // 4 if memory is None else memory
    runtimes: dict[str, set[str]] = {}
    files: dict[str, int] = {}
    everything: list[Cell | Judged] = [*wanted, *judged]
    for each in everything:
        folder = str(each.row.bundle.path)
        runtimes.setdefault(folder, set()).add(each.runtime)
        files.setdefault(folder, sum(path.stat().st_size for path in each.row.bundle.path.iterdir()))
    sizes = {folder: (1 + len(runtimes[folder])) * (OPEN_BYTES + 3 * files[folder]) for folder in runtimes}
    return [
        Part(
            tuple(cell for cell in wanted if str(cell.row.bundle.path) in group),
            tuple(each for each in judged if str(each.row.bundle.path) in group),
        )
        for group in rounds.grouped(sizes, memory)
    ]


def run(
    wanted: Sequence[Cell],
    judged: Sequence[Judged],
    path: Path,
    *,
    reference: Cell | None = None,
    again: bool = False,
    told: Tell = print,
) -> list[Record]:
    """The records of all cells and of all rows judged; what is missing is measured, and appended to `path`.

    What is cut off goes on where it was: runs are kept in a journal until their cell is complete. Raises GenzooError.
    """
    known = records.on_record(path)
    usual = _call_ms(known.values())
    done = {} if again else dict(known)
    cells_left = [cell for cell in wanted if cell.id not in done]
    judged_left = [each for each in judged if each.id not in done]
    journal = Journal.beside(path)
    if kept := sum(len(journal.runs(cell.id)) for cell in cells_left):
        every = sum(cell.rounds.count for cell in cells_left)
        told(f"{kept} of {every} runs are kept from before, in {journal.path}")
    for part in parts(cells_left, judged_left):
        try:
            for record in measure(part, journal, usual, reference=reference, told=told):
                records.append(path, record)
                done[record["id"]] = record
                if record["identity"]["kind"] == "cell":
                    journal.drop([record["id"]])
        except KeyboardInterrupt:
            told("stopped: what is complete is on record, other runs are kept; the same command goes on")
            raise
    return [done[name] for name in (*(cell.id for cell in wanted), *(each.id for each in judged))]


def _call_ms(found: Iterable[Record]) -> dict[str, float]:
    """What a call takes by what is on record of this machine, by the digest of what is called and how."""
    here = environment.machine()
    cells = [each for each in found if each["identity"]["kind"] == "cell" and each["identity"]["machine"] == here]
    return {records.identify(each["identity"]["cell"]): each["latency"]["p50"]["value"] for each in cells}


def measure(
    part: Part, journal: Journal, usual: Mapping[str, float], *, reference: Cell | None = None, told: Tell = print
) -> Iterator[Record]:
    """The records of one part, as they are made: first all cells side by side, then the rows judged."""
    first = part.cells[0] if part.cells else None
    beside = reference or (first and reference_cell(first.row, [first.runtime], first.rounds))
    timed: list[Cell] = [*part.cells, *([beside] if beside else [])]
    runtimes = dict.fromkeys([*(cell.runtime for cell in part.cells), *(each.runtime for each in part.judged)])
    generators = {each.bundle.path for each in part.rows}
    told(f"opening {len(generators)} generators on {', '.join(runtimes)}")
    with _Open.of([*timed, *part.judged]) as opened:
        if part.cells:
            assert beside is not None
            subjects = {cell.id: _subject(cell, opened) for cell in part.cells}
            known = {each.id: usual[key] for each in timed if (key := _call(each)) in usual}
            session = Session(
                [*subjects.values()], _subject(beside, opened), part.cells[0].rounds, journal, told, known
            )
            session.probe()
            told(_estimate(session, part))
            session.measure()
            for index, cell in enumerate(part.cells, 1):
                record = sealed(cell, journal.runs(cell.id), subjects[cell.id])
                told(f"[{index}/{len(part.cells)}] {cell.title}: {said(record)}")
                yield record
        began = time.monotonic()
        for index, each in enumerate(part.judged, 1):
            record = quality(each, opened, told)
            told(f"[{clock(time.monotonic() - began)}] {index} of {len(part.judged)} judged: {each.title}")
            yield record


def _call(cell: Cell) -> str:
    return records.identify(cell.identity["cell"])


def _estimate(session: Session, part: Part) -> str:
    timing = session.expected_seconds()
    text = f"{len(part.cells)} cells in {session.rounds.count} rounds take about {clock(timing)}"
    if not part.judged:
        return text
    call_ms = {cell.row.title: session.call_ms[cell.id] / cell.load.batch_size for cell in part.cells}
    seconds = sum(each.count * call_ms.get(each.row.title, 0.0) / 1000.0 for each in part.judged)
    return f"{text}, then drawing {len(part.judged)} x {part.judged[0].count:,} images up to {clock(seconds)}"


def _subject(cell: Cell, opened: _Open) -> Subject:
    return Subject(cell.id, cell.title, cell.load, opened.ask(cell.row, cell.runtime), opened.own(cell.row))


def sealed(cell: Cell, runs: Sequence[rounds.Run], subject: Subject) -> Record:
    """A cell's record, of the runs of all of its rounds and of what its endpoint serves."""
    runs, scenario = rounds.judged_noise(runs), cell.load.scenario
    found = audited(cell, runs, subject)
    return records.make(
        "cell",
        cell.identity,
        family=cell.row.spec.family,
        nfe=nfe(cell.row.spec, cell.row.setting),
        runs=runs,
        latency=rounds.summary(scenario, runs),
        reference=cell.reference,
        served=found.to_json(),
        flags=rounds.flags(scenario, runs, found.to_json()),
        environment=environment.describe(),
    )


def audited(cell: Cell, runs: Sequence[rounds.Run], subject: Subject) -> served.Served:
    """What a cell served while it was timed, against the bundle's own images, and whether it was made anew."""
    compared = served.pooled(run["served"] for run in runs)
    seed, window, cache = rounds.first_seed(subject.id, cell.rounds.count + 1), None, None
    tolerance = tolerance_of(cell.row.bundle, cell.runtime)
    if not served.ROUNDING.explains(compared):
        window = served.window(subject.ask, subject.own, seed, tolerance, cell.load.batch_size)
    if cell.load.scenario == SINGLE:
        cache = served.audit(subject.ask, seed + served.WINDOW_IMAGES)
    return served.Served(compared, tolerance, window, cache)


def tolerance_of(bundle: Bundle, runtime: str = "") -> served.Tolerance:
    """By its precision, or by the tier that was tuned, the gate's."""
    from export.limits import LIMITS
    from export.tuning.judging import limits as of_tier
    from export.variant import Precision

    limits = of_tier(TUNED[runtime].tier) if runtime in TUNED else LIMITS[Precision(bundle.manifest["precision"])]
    return served.Tolerance(limits.lsb, limits.differing, limits.drift)


def said(record: Record) -> str:
    """What a cell's record says, in a line: `p50 4.56 ms (4.5 to 4.6), 1.02 x the reference; noisy`."""
    timing, scenario = record["latency"], record["identity"]["cell"]["scenario"]
    main = "images_per_second" if scenario == OFFLINE else "p50"
    unit = "ms" if main == "p50" else "images/s"
    value, relative = (Estimate(**timing[name]) for name in (main, "relative"))
    text = f"{value} {unit}, {relative} of the reference"
    return f"{text}; {', '.join(record['flags'])}" if record["flags"] else text


def quality(each: Judged, opened: _Open, told: Tell) -> Record:
    """The quality of the images that a runtime serves, and whether they are the bundle's own; pictures at least."""
    row = each.row
    generator, last = opened.served(row, each.runtime), time.monotonic()

    def progress(done: int) -> None:
        nonlocal last
        if time.monotonic() - last > PROGRESS_SECONDS:
            last = time.monotonic()
            told(f"{done:,} of {each.title}")

    found, checked = metrics.nothing(row.judges, 0), None
    if each.count:
        asked = (row.setting, each.count, made_by(each))
        found = samples.judge(generator, *asked, row.judges, row.asked, progress)
        frequencies = metrics.frequencies(row.judges)
        checked = drawn(each, samples.draw(generator, *asked, row.asked, frequencies), opened)
    return records.make(
        "quality",
        each.identity,
        family=row.spec.family,
        nfe=nfe(row.spec, row.setting),
        **found,
        **samples.pictures(generator, row.setting, row.artifact, row.bundle.assets),
        served=checked and checked.to_json(),
        flags=[rounds.DIFFERS] if checked and not checked.within else [],
        environment=environment.describe(),
    )


def drawn(each: Judged, images: np.ndarray, opened: _Open) -> served.Served:
    """Some of the images that are judged, drawn at random, against the bundle's own of the same seeds."""
    row, first = each.row, samples.FIRST_SEED
    frequencies = metrics.frequencies(row.judges)

    def own(seeds: list[int]) -> np.ndarray:
        asked = samples.conditions(row.spec, seeds, row.asked, frequencies)
        return opened.generator(row.bundle).sample(SampleRequest(tuple(seeds), asked, row.setting))

    def given(seeds: list[int]) -> np.ndarray:
        return np.asarray(images[[seed - first for seed in seeds]])

    places = np.random.default_rng(0).choice(len(images), min(CHECKED, len(images)), replace=False)
    compared = served.compare([(first + int(place), images[place]) for place in places], own)
    window, tolerance = None, tolerance_of(row.bundle, each.runtime)
    if not served.ROUNDING.explains(compared):
        window = served.window(given, own, first, tolerance, BATCH_SIZE, min(len(images), served.WINDOW_IMAGES))
    return served.Served(compared, tolerance, window)


def made_by(each: Judged) -> dict[str, Any]:
    """What decides its images to the last bit."""
    executor = {"runtime": each.runtime, "batch": BATCH_SIZE, **_runs_on(each.row.bundle, each.runtime)}
    return {**each.row.artifact, **executor, **asked_of(each.row)}


def asked_of(row: Row) -> dict[str, str]:
    """Whose held-out pictures decide what its images are asked for, where any do."""
    return {"asked_of": row.dataset} if row.conditions != samples.DRAWN else {}


def unjudged(row: Row) -> str:
    """Why nobody judges its images, a sentence; empty where somebody does."""
    shape = row.spec.default_image_shape
    if row.judges.know(shape):
        return ""
    if not row.judges.everybody:
        trained = row.judges.dataset
        if trained in ("", UNKNOWN):
            return f"{row.title}: quality not judged: nobody said what it was trained on, so nothing can be compared"
        if judges.of(trained).nets:
            return f"{row.title}: quality not judged: its few examples are no sample of {trained}"
        return f"{row.title}: quality not judged: there are no judges of {trained}"
    size = "x".join(map(str, shape))
    return f"{row.title}: quality not judged: the nets know {row.judges.shapes}, these are {size}"


@dataclass
class _Open:
    """The endpoints of some generators on some runtimes, open at once, and the bundles' own generators."""

    connects: Mapping[str, Connect]
    runners: dict[tuple[str, Path], Runner] = dataclasses.field(default_factory=dict)
    owns: dict[Path, Generator] = dataclasses.field(default_factory=dict)

    @classmethod
    @contextmanager
    def of(cls, wanted: Sequence[Cell | Judged]) -> Iterator[_Open]:
        bundles: dict[str, dict[Path, Bundle]] = {}
        for each in wanted:
            bundles.setdefault(each.runtime, {})[each.row.bundle.path] = each.row.bundle
        with ExitStack() as stack:
            opened = {name: stack.enter_context(endpoints(name, found.values())) for name, found in bundles.items()}
            yield cls(opened)

    def runner(self, bundle: Bundle, runtime: str) -> Runner:
        key = (runtime, bundle.path)
        if key not in self.runners:
            self.runners[key] = self.connects[runtime](bundle)
        return self.runners[key]

    def generator(self, bundle: Bundle) -> Generator:
        if bundle.path not in self.owns:
            self.owns[bundle.path] = in_process(bundle)
        return self.owns[bundle.path]

    def ask(self, row: Row, runtime: str) -> Ask:
        endpoint = self.runner(row.bundle, runtime)
        return lambda seeds: endpoint.run(**workload.tensors(row.spec, row.setting, seeds))["image"]

    def own(self, row: Row) -> served.Own:
        def make(seeds: list[int]) -> np.ndarray:
            return self.generator(row.bundle).sample(SampleRequest(tuple(seeds), setting=row.setting))

        return make

    def served(self, row: Row, runtime: str) -> samples.Sampled:
        return Endpoint(row.spec, lambda: self.runner(row.bundle, runtime), lambda: self.generator(row.bundle))


@dataclass
class Endpoint:
    """A generator whose images are those that an endpoint serves; where all are on disk already, it is not asked."""

    spec: GeneratorSpec
    runner: Callable[[], Runner]
    own: Callable[[], Generator]

    def sample(self, request: SampleRequest) -> np.ndarray:
        return sample_through(self.spec, self.runner(), request)

    def between(self, request: SampleRequest, frames: int) -> np.ndarray:
        """In this process: no endpoint takes noise between two seeds."""
        return self.own().between(request, frames)


def in_process(bundle: Bundle) -> Generator:
    return on_runtime(bundle, Runtime.ONNXRUNTIME)


@contextmanager
def endpoints(runtime: str, bundles: Iterable[Bundle]) -> Iterator[Connect]:
    """How to reach each bundle's generator on a runtime, as long as the block runs."""
    if runtime == Runtime.TRITON:
        with _triton({bundle.path: bundle for bundle in bundles}.values()) as connect:
            yield connect
    else:
        yield lambda bundle: _endpoint(bundle, runtime)


def _endpoint(bundle: Bundle, runtime: str) -> Runner:
    if runtime in TUNED:
        return opening.generator(bundle, TUNED[runtime].executors(bundle), beside(bundle))
    if runtime == Runtime.TENSORRT:
        from export.engine_gate import require_engines

        require_engines(bundle)
    return on_runtime(bundle, Runtime(runtime))


@contextmanager
def _triton(bundles: Iterable[Bundle]) -> Iterator[Connect]:
    from serving import model_repository
    from serving.client import TritonRunner
    from serving.install import add, install
    from serving.server import TritonServer

    with tempfile.TemporaryDirectory(prefix="genzoo-bench-") as folder:
        repository = model_repository.write(bundles, Path(folder) / "models")
        add(install(), repository.packages)
        with TritonServer(repository, Path(folder) / "triton.log", canary_seconds=0) as server:
            yield lambda bundle: TritonRunner(server.grpc_url, bundle.name)


def baselines(wanted: Iterable[Judged], path: Path) -> Iterator[Record]:
    """What real pictures (the floor) and noise (the ceiling) score before each row's judges, appended to `path` once.

    None for the rows that nobody judges.
    """
    known = records.on_record(path)
    asked = ((judges_of(each.row.dataset, each.row.nets), each.count) for each in wanted if each.count)
    for who, count in dict.fromkeys(asked):
        for name, measured in (("floor", metrics.floor), ("ceiling", metrics.ceiling)):
            identity = {
                "baseline": name,
                **of_dataset(who.dataset),
                "protocol": judging(count),
                "nets": samples.digests(who),
            }
            record = known.get(records.id_of("baseline", identity))
            if record is None:
                record = records.make("baseline", identity, **measured(who, count), environment=environment.describe())
                records.append(path, record)
            yield record
