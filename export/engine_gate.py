"""The gate for what runs on a GPU: an engine is admitted on any GPU of its target, wherever it was built.

The images of the engines that this GPU runs are compared with those of ONNX Runtime, whose graphs were compared with
torch. What is found is recorded for each plan: see `admission`.
"""

from __future__ import annotations

import time
from typing import Any

from export.admission import found, record
from export.bundle import Bundle
from export.cuda import Gpu, gpu
from export.engine import Engine, for_gpu, graphs_to_build
from export.gate import GateError, Verdict, fault_of, judged, require
from export.gpu_runners import TensorRTRunner
from export.runners import bundle_generator, graph_runner
from export.runtimes import Runtime, generator
from zoo.contract.generator import Generator


def admit(bundle: Bundle) -> Verdict:
    """Judge the engines that this GPU runs for an admitted bundle, and record it. Raises as a runner does."""
    here = gpu()
    engines = {graph: for_gpu(bundle, graph, here) for graph in graphs_to_build(bundle)}
    runners = {graph: TensorRTRunner(engine) for graph, engine in engines.items()}
    entry = bundle_generator(bundle, runners.__getitem__)
    verdict = compare(bundle, entry, _label(engines, here))
    for graph, engine in engines.items():
        numbers = verdict.numbers | {"activation_bytes": runners[graph].activation_bytes}
        record(engine, here, verdict.admitted, verdict.message, numbers)
    return verdict


def require_engines(bundle: Bundle) -> None:
    """Judge the engines that this GPU runs for a bundle if they were not yet. Raises GateError for refused ones."""
    here = gpu()
    engines = [for_gpu(bundle, graph, here) for graph in graphs_to_build(bundle)]
    entries = [found(engine).get(here.generation, {}) for engine in engines]
    if not all("admitted" in entry for entry in entries):
        admit(bundle)
        entries = [found(engine)[here.generation] for engine in engines]
    for entry in entries:
        if not entry["admitted"]:
            raise GateError(f"{entry['message']}; nothing of it is measured")


def compare(bundle: Bundle, entry: Generator, on: str) -> Verdict:
    """What the gate says of an admitted bundle's images by other runners; `on` names that in the message."""
    reference = bundle_generator(require(bundle), lambda graph: graph_runner(bundle, graph))
    began, numbers = time.perf_counter(), dict[str, Any]()
    fault = fault_of(bundle, reference, entry, numbers)
    numbers["seconds"] = round(time.perf_counter() - began, 2)
    message = f"{bundle.name} {bundle.manifest['precision']} on {on} was {judged(fault, numbers)}"
    return Verdict(fault is None, message, numbers)


def on_runtime(bundle: Bundle, runtime: Runtime) -> Verdict:
    """What the gate says of an admitted bundle on a runtime of this host; recorded for engines only."""
    return admit(bundle) if runtime is Runtime.TENSORRT else compare(bundle, generator(bundle, runtime), runtime)


def _label(engines: dict[str, Engine], here: Gpu) -> str:
    """The plans by digest, the GPU and its driver, and the library."""
    plans = " and ".join(engine.sha256[:12] for engine in engines.values())
    engine = next(iter(engines.values()))
    return f"{here} by {engine.library} {engine.version}, plan {plans},"
