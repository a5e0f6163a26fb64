"""Measure cells and write their records; a cell that is on record is not measured again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import environment, features, latency, quality, records, samples
from benchmarks.latency import Timing
from benchmarks.records import Record
from benchmarks.workload import Load, Setting
from export.bundle import Bundle
from zoo.generator import Generator, Runner
from zoo.request import GeneratorSpec, nfe

TEACHER_STEPS = (5, 20)  # beside its default, where a generator takes any number


@dataclass(frozen=True)
class Subject:
    """A generator on a runtime: how to make its images here, and how to ask for them as a client would."""

    bundle: Bundle
    runtime: str
    generator: Generator  # in this process; its images are judged
    endpoint: Runner  # timed; the same generator, or a Triton client

    @property
    def spec(self) -> GeneratorSpec:
        return self.bundle.spec

    @property
    def artifact(self) -> dict[str, Any]:
        """The digests of what runs."""
        manifest = self.bundle.manifest
        graphs = {name: graph["sha256"] for name, graph in manifest["graphs"].items()}
        return {
            "checkpoint": manifest["checkpoint"]["sha256"],
            "graphs": graphs,
            "weights": manifest["weights"]["sha256"],
        }


@dataclass(frozen=True)
class Cell:
    subject: Subject
    setting: Setting
    load: Load
    count: int  # images judged

    def identity(self) -> dict[str, Any]:
        manifest = self.subject.bundle.manifest
        resolved = self.setting.resolved(self.subject.spec)
        return {
            "cell": {
                "generator": self.subject.spec.name,
                **resolved.to_json(),
                "runtime": self.subject.runtime,
                "precision": manifest.get("precision", "fp32"),
                "loop": manifest.get("loop"),
                "scenario": self.load.scenario,
            },
            "artifact": self.subject.artifact,
            "protocol": {**dataclasses.asdict(self.load), "judged": self.count, "first_seed": samples.FIRST_SEED},
            "machine": environment.machine(),
        }

    def measure(self) -> Record:
        """Latency first, while the machine is as the guard saw it; then quality, from the cache where it is known."""
        request = self.setting.sample_request(range(1))
        spec, artifact = self.subject.spec, self.subject.artifact
        with environment.guard() as noise:
            timing = latency.measure(self.ask, self.load)
        return records.make(
            "cell",
            self.identity(),
            family=spec.family,
            nfe=nfe(spec, request),
            latency=timing_json(timing),
            quality=samples.judge(self.subject.generator, self.setting, self.count, artifact),
            grid=samples.grid(self.subject.generator, self.setting),
            environment=environment.describe(),
            noise=noise,
        )

    def ask(self, seeds: list[int]) -> np.ndarray:
        return self.subject.endpoint.run(**self.setting.tensors(self.subject.spec, seeds))["image"]


def timing_json(timing: Timing) -> dict[str, Any]:
    return {
        "raw_ms": [round(float(value), 3) for value in timing.latencies_ms],
        **{name: dataclasses.asdict(value) for name, value in timing.percentiles().items()},
        "images_per_second": timing.images_per_second,
        "images": timing.images,
        "valid": timing.valid,
    }


def settings(spec: GeneratorSpec, steps: Iterable[int] = ()) -> tuple[Setting, ...]:
    """The settings at which a generator is measured unless told otherwise."""
    if spec.sampling is None:
        return (Setting(),)
    chosen = tuple(steps) or spec.sampling.steps or (*TEACHER_STEPS, spec.sampling.num_steps)
    allowed = sorted({count for count in chosen if not spec.sampling.steps or count in spec.sampling.steps})
    return tuple(Setting(num_steps=count) for count in allowed)


def run(cells: Iterable[Cell], path: Path, *, again: bool = False, told: Callable[[str], None] = print) -> list[Record]:
    """The records of all cells, those that were missing measured and appended to `path`. Raises GenzooError."""
    known = {} if again else records.on_record(path)
    found = []
    for cell in cells:
        identity = records.identify({"format": records.FORMAT, "kind": "cell", **cell.identity()})
        record = known.get(identity)
        if record is None:
            told(f"measuring {title(cell)}")
            record = cell.measure()
            records.append(path, record)
        found.append(record)
    return found


def title(cell: Cell) -> str:
    steps = cell.setting.resolved(cell.subject.spec).num_steps
    asked = f", {steps} step{'s' if steps > 1 else ''}" if steps else ""
    return f"{cell.subject.spec.name}{asked} on {cell.subject.runtime}, {cell.load.scenario}"


def baselines(count: int, path: Path) -> Iterator[Record]:
    """The floor (real pictures) and the ceiling (noise) at `count` images, measured once and appended to `path`."""
    known = records.on_record(path)
    nets = {net: features.config(net)["files"] for net in features.NETS}
    for name, measure in (("floor", quality.floor), ("ceiling", quality.ceiling)):
        identity = {"baseline": name, "judged": count, "nets": nets}
        record = known.get(records.identify({"format": records.FORMAT, "kind": "baseline", **identity}))
        if record is None:
            record = records.make("baseline", identity, quality=measure(count), environment=environment.describe())
            records.append(path, record)
        yield record
