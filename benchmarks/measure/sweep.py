"""Measure cells of generator x setting x runtime x scenario, and write their records."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import environment, records
from benchmarks.measure import latency, samples, workload
from benchmarks.measure.latency import Timing
from benchmarks.measure.workload import Load, title
from benchmarks.quality import judges, metrics
from benchmarks.quality.judges import Judges
from benchmarks.records import Record
from export.bundle import Bundle
from export.cuda import gpu
from export.engine import for_gpu, graphs_to_build
from export.runtimes import Runtime
from export.runtimes import generator as on_runtime
from zoo import registry
from zoo.contract.feeds import Runner
from zoo.contract.generator import Generator
from zoo.contract.request import SampleRequest, Setting, nfe
from zoo.contract.spec import GeneratorSpec
from zoo.family import System

TEACHER_STEPS = (5, 20)  # beside its default, where a generator takes any number
QUICK_CALLS = 100  # network calls for an image, at most, in a quick run
Connect = Callable[[Bundle], Runner]  # an endpoint: columns of a request -> image


@dataclass(frozen=True)
class Cell:
    bundle: Bundle
    runtime: str
    setting: Setting
    load: Load
    count: int  # images judged

    @property
    def spec(self) -> GeneratorSpec:
        return self.bundle.served_spec

    @property
    def title(self) -> str:
        name = title(self.spec.name, self.setting.resolved(self.spec), self.bundle.manifest["precision"])
        return f"{name} on {self.runtime}, {self.load.scenario}"

    @cached_property
    def artifact(self) -> dict[str, Any]:
        return artifact(self.bundle)

    @cached_property
    def judges(self) -> Judges:
        """Those of its data set; none for a bundle that only its folder knows."""
        return judges.of(registry.entry(self.bundle.name).dataset if self.bundle.name in registry.names() else "")

    @cached_property
    def identity(self) -> dict[str, Any]:
        manifest = self.bundle.manifest
        return {
            "cell": {
                "generator": self.spec.name,
                **self.setting.resolved(self.spec).to_json(),
                "runtime": self.runtime,
                "precision": manifest["precision"],
                "loop": manifest["loop"],
                "scenario": self.load.scenario,
            },
            **of_dataset(self.judges.dataset),
            "artifact": self.artifact | _engines(self.bundle, self.runtime),
            "protocol": {**dataclasses.asdict(self.load), "judged": self.count, "first_seed": samples.FIRST_SEED},
            "machine": environment.machine() | _gpu(self.runtime),
        }

    @property
    def id(self) -> str:
        return records.identify({"format": records.FORMAT, "kind": "cell", **self.identity})


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


def _engines(bundle: Bundle, runtime: str) -> dict[str, Any]:
    """The digests of the plans that run, where some do."""
    if runtime != Runtime.TENSORRT:
        return {}
    here = gpu()
    return {"engines": {graph: for_gpu(bundle, graph, here).sha256 for graph in graphs_to_build(bundle)}}


def _gpu(runtime: str) -> dict[str, Any]:
    return {"gpu": dataclasses.asdict(gpu())} if Runtime(runtime).on_gpu else {}


@dataclass(frozen=True)
class Choice:
    """Which settings of a generator are measured: the usual numbers of steps, and what makes it its systems."""

    steps: tuple[int, ...] = ()  # these and nothing else
    tree: bool = False  # its systems and nothing else
    calls: int | None = None  # network calls for an image, at most

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


def cells(
    bundles: Iterable[Bundle], runtimes: Sequence[str], loads: Sequence[Load], count: int, choice: Choice = USUAL
) -> list[Cell]:
    """Every combination; through Triton two batches are under way at a time, so that it always has one to run."""
    return [
        Cell(bundle, runtime, setting, _for_runtime(load, runtime), count)
        for bundle in bundles
        for setting in choice.settings(bundle.served_spec, _systems(bundle))
        for runtime in runtimes
        for load in loads
    ]


def _systems(bundle: Bundle) -> tuple[System, ...]:
    """None of a bundle that only its folder knows."""
    return registry.entry(bundle.name).systems if bundle.name in registry.names() else ()


def left_out(bundles: Iterable[Bundle], choice: Choice) -> list[str]:
    """What of these a choice does not measure because an image takes too many calls."""
    every = dataclasses.replace(choice, calls=None)
    return [
        title(bundle.name, setting.resolved(bundle.served_spec), bundle.manifest["precision"])
        for bundle in bundles
        for setting in every.settings(bundle.served_spec, _systems(bundle))
        if setting not in choice.settings(bundle.served_spec, _systems(bundle))
    ]


def _for_runtime(load: Load, runtime: str) -> Load:
    return dataclasses.replace(load, in_flight=2) if (runtime, load.scenario) == ("triton", "offline") else load


def run(
    wanted: Sequence[Cell], path: Path, *, again: bool = False, told: Callable[[str], None] = print
) -> list[Record]:
    """The records of all cells; those that are missing are measured and appended to `path`. Raises GenzooError."""
    known = {} if again else records.on_record(path)
    missing = [cell for cell in wanted if cell.id not in known]
    done, began = 0, time.monotonic()
    for runtime in dict.fromkeys(cell.runtime for cell in missing):
        group = [cell for cell in missing if cell.runtime == runtime]
        with endpoints(runtime, [cell.bundle for cell in group]) as connect:
            for cell in group:
                record = measure(cell, connect(cell.bundle))
                records.append(path, record)
                known[cell.id], done = record, done + 1
                minutes, seconds = divmod(int(time.monotonic() - began), 60)
                result = f"p50 {record['latency']['p50']['value']:.2f} ms"
                told(f"[{done}/{len(missing)} {minutes}:{seconds:02}] {cell.title}: {result}{unjudged(cell)}")
    return [known[cell.id] for cell in wanted]


def measure(cell: Cell, endpoint: Runner) -> Record:
    """One record: latency of the endpoint, and quality of the bundle's images, which are the same on every runtime."""

    def ask(seeds: list[int]) -> np.ndarray:
        return endpoint.run(**workload.tensors(cell.spec, cell.setting, seeds))["image"]

    with environment.guard() as noise:
        timing = latency.measure(ask, cell.load)
    generator = OnFirstUse(cell.spec, lambda: in_process(cell.bundle))
    return records.make(
        "cell",
        cell.identity,
        family=cell.spec.family,
        nfe=nfe(cell.spec, cell.setting),
        latency=timing_json(timing),
        quality=_quality(cell, generator) if cell.judges.know(cell.spec.default_image_shape) else None,
        **samples.pictures(generator, cell.setting, cell.artifact),
        environment=environment.describe(),
        noise=noise,
    )


def _quality(cell: Cell, generator: samples.Sampled) -> dict[str, Any]:
    return samples.judge(generator, cell.setting, cell.count, cell.artifact, cell.judges, assets=cell.bundle.assets)


def unjudged(cell: Cell) -> str:
    """A clause that says why there is no quality on a record; empty where there is."""
    if cell.judges.know(cell.spec.default_image_shape):
        return ""
    if not cell.judges.everybody:
        return f"; quality not judged: there are no judges of {cell.judges.dataset or 'what it was trained on'}"
    shape = "x".join(map(str, cell.spec.default_image_shape))
    return f"; quality not judged: the nets know {cell.judges.shapes}, these are {shape}"


def timing_json(timing: Timing) -> dict[str, Any]:
    return {
        "raw_ms": [round(float(value), 3) for value in timing.latencies_ms],
        **{name: dataclasses.asdict(value) for name, value in timing.percentiles().items()},
        "images_per_second": timing.images_per_second,
        "images": timing.images,
        "valid": timing.valid,
    }


class OnFirstUse:
    """A generator that is opened when it is asked for images; where all are on disk already, it never is."""

    def __init__(self, spec: GeneratorSpec, make: Callable[[], Generator]) -> None:
        self.spec, self._make = spec, make

    @cached_property
    def _generator(self) -> Generator:
        return self._make()

    def sample(self, request: SampleRequest) -> np.ndarray:
        return self._generator.sample(request)

    def between(self, request: SampleRequest, frames: int) -> np.ndarray:
        return self._generator.between(request, frames)


def in_process(bundle: Bundle) -> Generator:
    return on_runtime(bundle, Runtime.ONNXRUNTIME)


@contextmanager
def endpoints(runtime: str, bundles: Iterable[Bundle]) -> Iterator[Connect]:
    """How to reach each bundle's generator on a runtime, as long as the block runs."""
    if runtime == Runtime.TRITON:
        with _triton({bundle.path: bundle for bundle in bundles}.values()) as connect:
            yield connect
    else:
        yield lambda bundle: _endpoint(bundle, Runtime(runtime))


def _endpoint(bundle: Bundle, runtime: Runtime) -> Runner:
    if runtime is Runtime.TENSORRT:
        from export.engine_gate import require_engines

        require_engines(bundle)
    return on_runtime(bundle, runtime)


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


def baselines(wanted: Iterable[Cell], path: Path) -> Iterator[Record]:
    """What real pictures (the floor) and noise (the ceiling) score before each cell's judges, appended to `path` once.

    None for the cells that nobody judges.
    """
    known = records.on_record(path)
    for who, count in dict.fromkeys((cell.judges, cell.count) for cell in wanted if cell.judges.everybody):
        nets = samples.digests(who)
        for name, measure in (("floor", metrics.floor), ("ceiling", metrics.ceiling)):
            identity = {"baseline": name, "judged": count, **of_dataset(who.dataset), "nets": nets}
            record = known.get(records.identify({"format": records.FORMAT, "kind": "baseline", **identity}))
            if record is None:
                quality = measure(who, count)
                record = records.make("baseline", identity, quality=quality, environment=environment.describe())
                records.append(path, record)
            yield record
