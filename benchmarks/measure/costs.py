"""What a generator takes on a runtime before its first image and beside its images: start, build, memory, energy.

Each is found in a fresh process, which this file is the program of: `python -m benchmarks.measure.costs BUNDLE RUNTIME`
prints one line of JSON for each thing that it has found. A server is a process of its own, and is watched from here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import environment, records
from benchmarks.measure import energy, sweep, workload
from benchmarks.measure.floor import milliseconds
from benchmarks.measure.rounds import clock
from benchmarks.measure.workload import COMPILED
from benchmarks.records import Record
from export.bundle import Bundle
from export.runtimes import Runtime, adapter
from zoo.contract.feeds import Runner, Tensors
from zoo.contract.graph import MAX_BATCH
from zoo.contract.request import Setting
from zoo.errors import GenzooError
from zoo.files import HOME_VARIABLE
from zoo.host import peak_bytes

REPEATS = 3  # fresh processes, of which the median is said
EXPORT_SECONDS = 600.0
BATCH = 16  # of the images whose energy is counted
Tell = Callable[[str], None]


class CostError(GenzooError):
    """A fresh process could not make an image."""


@dataclass(frozen=True)
class Cost:
    """A generator on a runtime: what has a cost, whatever its setting."""

    bundle: Bundle
    runtime: str

    @property
    def title(self) -> str:
        return f"{self.bundle.name} on {self.runtime}"

    @cached_property
    def identity(self) -> dict[str, Any]:
        row, manifest = sweep.Row(self.bundle, Setting()), self.bundle.manifest
        words = {"generator": self.bundle.name, "runtime": self.runtime, "precision": manifest["precision"]}
        return {
            "cost": {**words, "loop": manifest["loop"]},
            **sweep.of_dataset(row.judges.dataset),
            **sweep.deciding(self.bundle, self.runtime),
            "protocol": {"repeats": REPEATS},
        }

    @cached_property
    def id(self) -> str:
        return records.id_of("cost", self.identity)


def wanted(bundles: Iterable[Bundle], runtimes: Sequence[str]) -> list[Cost]:
    return [Cost(bundle, runtime) for bundle in bundles for runtime in runtimes]


def run(costs: Sequence[Cost], path: Path, *, again: bool = False, told: Tell = print) -> list[Record]:
    """Their records; what is missing is measured, and appended to `path`. Raises GenzooError."""
    known = {} if again else records.on_record(path)
    missing = [cost for cost in costs if cost.id not in known]
    exports: dict[str, float | None] = {}
    began = time.monotonic()
    for index, cost in enumerate(missing, 1):
        name = cost.bundle.name
        if name not in exports:
            exports[name] = export_seconds(cost.bundle)
        record = measure(cost, exports[name])
        records.append(path, record)
        known[cost.id] = record
        left = (time.monotonic() - began) / index * (len(missing) - index)
        found = f"first image after {record['cold_start_s']:.2f} s, {record['memory_mb']:.0f} MB"
        told(f"[{index}/{len(missing)}] costs of {cost.title}: {found}{f', about {clock(left)} left' if left else ''}")
    return [known[cost.id] for cost in costs]


def measure(cost: Cost, export_s: float | None) -> Record:
    """Raises CostError."""
    found = on_server(cost.bundle) if cost.runtime == Runtime.TRITON else in_processes(cost)
    return records.make("cost", cost.identity, **found, export_s=export_s, environment=environment.describe())


def in_processes(cost: Cost) -> dict[str, Any]:
    """The median of several fresh processes; what one of them finds out beside is of the last."""
    runs = [fresh(cost.bundle, cost.runtime, whole=turn == REPEATS - 1) for turn in range(REPEATS)]
    medians = {
        name: _median([run[name] for run in runs]) for name in ("cold_start_s", "load_s", "build_s", "memory_mb")
    }
    if cost.runtime == Runtime.TENSORRT:
        medians["build_s"] = _built(cost.bundle)
    return {**medians, "components": runs[-1]["components"], "energy": runs[-1]["energy"]}


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.median(known)), 4) if known else None


def _built(bundle: Bundle) -> float | None:
    """What building its engines took, by their own records."""
    from export.cuda import gpu
    from export.engine import for_gpu, graphs_to_build

    built = [for_gpu(bundle, graph, gpu()).record for graph in graphs_to_build(bundle)]
    return float(sum(each["seconds"] for each in built)) if all("seconds" in each for each in built) else None


def fresh(bundle: Bundle, runtime: str, *, whole: bool) -> dict[str, Any]:
    """What one fresh process finds; `whole` with parts and energy. Raises CostError."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.measure.costs",
        str(bundle.path),
        runtime,
        *(["whole"] if whole else []),
    ]
    found: dict[str, Any] = {}
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        for line in process.stdout:
            found |= json.loads(line)
            found.setdefault("cold_start_s", time.perf_counter() - began)
        said = process.stderr.read().strip().splitlines()
    if process.returncode:
        why = said[-1] if said else "it said nothing"
        raise CostError(f"a fresh process made no image of {bundle.name} on {runtime}: {why}")
    return {"components": {}, "energy": None, **found}


def on_server(bundle: Bundle) -> dict[str, Any]:
    """The same of a Triton server that serves this generator alone."""
    runs = []
    for turn in range(REPEATS):
        began = time.perf_counter()
        with sweep.endpoints(Runtime.TRITON, [bundle]) as connect:
            loaded = time.perf_counter() - began
            endpoint = connect(bundle)
            _image(endpoint, bundle, 1)
            runs.append({"cold_start_s": time.perf_counter() - began, "load_s": loaded})
            runs[-1]["memory_mb"] = environment.descendants_peak_bytes() / 1e6
            if turn == REPEATS - 1:
                counted = energy.per_image(lambda: _image(endpoint, bundle, BATCH), BATCH, on_gpu=False)  # noqa: B023
    medians = {name: _median([run[name] for run in runs]) for name in ("cold_start_s", "load_s", "memory_mb")}
    return {**medians, "build_s": None, "components": {}, "energy": counted}


def export_seconds(bundle: Bundle) -> float | None:
    """Of a fresh export, in a home of its own; None where its checkpoint is not here."""
    program = "import sys; from export.cli import app; app(['export', *sys.argv[1:]])"
    manifest = bundle.manifest
    loop = ["--loop", manifest["loop"]] if manifest["loop"] else []
    options = [
        "--precision",
        manifest["precision"],
        *loop,
        *(["--steps", str(manifest["steps"])] if manifest.get("steps") else []),
    ]
    with tempfile.TemporaryDirectory(prefix="genzoo-export-") as home:
        began = time.perf_counter()
        try:
            done = subprocess.run(
                [sys.executable, "-c", program, bundle.name, *options],
                env=os.environ | {HOME_VARIABLE: home},
                capture_output=True,
                timeout=EXPORT_SECONDS,
            )
        except subprocess.TimeoutExpired:
            return None
        return None if done.returncode else round(time.perf_counter() - began, 2)


def price_per_thousand(price_per_hour: float, images_per_second: float) -> float:
    """Of 1,000 images on a machine that is kept busy, in the currency of the price."""
    return price_per_hour / 3600.0 * 1000.0 / images_per_second


def break_even(extra_s: float, seconds_with: float, seconds_without: float) -> float | None:
    """After how many images a build of `extra_s` has paid off, by the seconds of an image; None where it never does."""
    saved = seconds_without - seconds_with
    return extra_s / saved if saved > 0.0 else None


# What is built, and what runs the same without.
WITHOUT = {COMPILED: Runtime.TORCH, Runtime.TENSORRT: Runtime.ONNXRUNTIME_CUDA}


def paid_off(cost: Record, cells: Iterable[Record]) -> dict[str, float | None]:
    """After how many images, one at a time, what was built has paid off, by the title of a row; None for never.

    Empty where nothing was built, and where there are no cells with and without.
    """
    words = cost["identity"]["cost"]
    if cost["build_s"] is None or words["runtime"] not in WITHOUT:
        return {}
    seconds: dict[str, dict[str, float]] = {}
    for record in cells:
        cell = record["identity"]["cell"]
        if cell["generator"] == words["generator"] and cell["scenario"] == workload.SINGLE:
            of_row = seconds.setdefault(workload.title_of(cell), {})
            of_row[cell["runtime"]] = record["latency"]["p50"]["value"] / 1000.0
    both = {name: each for name, each in seconds.items() if {words["runtime"], WITHOUT[words["runtime"]]} <= set(each)}
    return {
        name: break_even(cost["build_s"], each[words["runtime"]], each[WITHOUT[words["runtime"]]])
        for name, each in both.items()
    }


def _runs_graphs(runtime: str) -> bool:
    return runtime not in workload.TUNED and adapter(Runtime(runtime)).graphs is not None


def components(bundle: Bundle, runtime: str) -> dict[str, float]:
    """Milliseconds of each exported graph alone, for one image of the usual size and one row of its table."""
    from export.profiles import axes
    from export.runtimes import graph_runners

    sizes = {name: bounds.minimum for name, bounds in axes(bundle.served_spec, bundle.max_batch).items()}
    sizes |= bundle.served_spec.default_sizes
    open_graph, found = graph_runners(bundle, Runtime(runtime)), {}
    for graph in bundle.graphs:
        if runtime == Runtime.TENSORRT and graph != bundle.entry:
            continue  # an engine is built of what is served
        runner, tensors = open_graph(graph), {each.name: each.zeros(sizes) for each in bundle.inputs(graph)}
        found[graph] = round(float(np.median(milliseconds(lambda: runner.run(**tensors), "cpu"))), 4)  # noqa: B023
    return found


def _image(endpoint: Runner, bundle: Bundle, count: int) -> Tensors:
    tensors = workload.tensors(bundle.served_spec, Setting(), range(min(count, bundle.max_batch, MAX_BATCH)))
    return endpoint.run(**tensors)


def main(folder: str, runtime: str, *options: str) -> None:
    """The fresh process: a line once there is an image, another with its peak memory, a last with the rest."""
    began = time.perf_counter()
    bundle = Bundle.open(folder)
    with sweep.endpoints(runtime, [bundle]) as connect:
        endpoint = connect(bundle)
        loaded = time.perf_counter()
        _image(endpoint, bundle, 1)
        first = time.perf_counter()
        _say({"load_s": loaded - began})
        _image(endpoint, bundle, 1)
        second = time.perf_counter() - first
        build = first - loaded - second if runtime == COMPILED else None  # what is compiled at the first call
        _say({"build_s": build, "memory_mb": peak_bytes() / 1e6})
        if not options:
            return
        counted = energy.per_image(lambda: _image(endpoint, bundle, BATCH), BATCH, on_gpu=workload.on_gpu(runtime))
        parts = components(bundle, runtime) if _runs_graphs(runtime) else {}
        _say({"energy": counted, "components": parts})


def _say(found: Mapping[str, Any]) -> None:
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except GenzooError as error:
        sys.exit(str(error))
