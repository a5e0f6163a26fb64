"""A bundle's graph -> a TensorRT engine: TensorRT-RTX and TensorRT behind one adapter, imported here only.

TensorRT-RTX builds ahead of time for named GPU generations, on hosts without a GPU; TensorRT builds for the GPU at
hand. Both are strongly typed: precision lives in the graph. An engine is native code, so it is loaded only where the
local store recorded that it was built here, or that a verified signature admitted it; its bytes are not reproducible,
so it is looked up by what it was built from.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import time
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from export.bundle import Bundle
from export.profiles import AXES, profile
from zoo import files
from zoo.errors import GenzooError
from zoo.exchange import derived

WORKSPACE_BYTES = 2 << 30


class EngineError(GenzooError):
    """An engine could not be built or must not be loaded; the message carries TensorRT's own words."""


class Target(StrEnum):
    """The GPU generation for which an engine is built; `portable` runs on all of them."""

    PORTABLE = "portable"
    SM80 = "sm80"
    SM86 = "sm86"
    SM89 = "sm89"
    SM120 = "sm120"


class Library(StrEnum):
    """What builds the engine, named as its package."""

    RTX = "tensorrt-rtx"
    FULL = "tensorrt"

    def load(self) -> Any:
        """The imported package. Raises EngineError where it is not installed."""
        try:
            return importlib.import_module(self.value.replace("-", "_"))
        except ImportError as error:
            where = (
                "install it with `pip install genzoo[engines]`"
                if self is Library.RTX
                else "its libraries come from NVIDIA's own package index: install them on the target GPU's host with "
                "`pip install genzoo[gpu]`, or build with --library tensorrt-rtx, which needs no GPU"
            )
            raise EngineError(f"{self.value} is not installed ({error}); {where}") from error


@dataclass(frozen=True)
class Engine:
    """A built plan and the record of what it was built from."""

    path: Path
    record: dict[str, Any]

    @property
    def sha256(self) -> str:
        return str(self.record["sha256"])


def plan_path(bundle: Bundle, graph: str, target: Target, library: Library) -> Path:
    variant = f"{bundle.manifest['precision']}-{bundle.manifest['loop'] or 'once'}{bundle.manifest['steps'] or ''}"
    return derived.engines() / bundle.name / f"{graph}-{variant}-{target.value}.{library.value}.plan"


def inputs(bundle: Bundle, graph: str, target: Target, library: Library) -> dict[str, Any]:
    """Everything that determines an engine."""
    return {
        "bundle": bundle.digest,
        "graph": graph,
        "target": target.value,
        "library": library.value,
        "version": importlib.metadata.version(library.value.replace("-", "_")),
        "axes": {axis: asdict(sizes) for axis, sizes in AXES.items()},
    }


def graphs_to_build(bundle: Bundle) -> tuple[str, ...]:
    """The graphs that make images: the entry, and the decoder where the host walks the table."""
    return (bundle.entry, "decoder") if bundle.entry == "step" else (bundle.entry,)


def build(bundle: Bundle, graph: str, target: Target = Target.PORTABLE, library: Library = Library.RTX) -> Engine:
    """The engine of one graph, from the store or newly built. Raises EngineError."""
    library.load()
    wanted = inputs(bundle, graph, target, library)
    path = plan_path(bundle, graph, target, library)
    found = recorded(path)
    if found and found.record["inputs"] == wanted:
        return found
    began = time.perf_counter()
    plan = _Build(library, target).plan(bundle, graph)
    with files.atomic(path) as temporary:
        temporary.write_bytes(plan)
    record = {
        "sha256": files.sha256(path),
        "bytes": len(plan),
        "file": path.name,
        "name": bundle.name,
        "inputs": wanted,
        "seconds": round(time.perf_counter() - began, 3),
        "built_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    files.write_json(derived.built(str(record["sha256"])), record)
    return Engine(path, record)


def recorded(path: Path) -> Engine | None:
    """The engine in a file if its bytes were built here, or pulled with a verified signature, wherever they lie now.

    None for any other. The record of a pulled one says who vouches for it: `admitted_by`.
    """
    if not path.is_file():
        return None
    try:
        record = json.loads(derived.built(files.sha256(path)).read_text())
    except (OSError, ValueError):
        return None
    return Engine(path, record)


def deserialize(path: Path, library: Library = Library.RTX) -> Any:
    """The loaded engine (`ICudaEngine`) of a plan that was built or admitted here. Raises EngineError."""
    if recorded(path) is None:
        raise EngineError(
            f"{path} was neither built here nor pulled with a verified signature: an engine is native code, so only "
            "recorded ones are loaded; `genzoo build` it"
        )
    trt = library.load()
    logger = _logger(trt, [])
    runtime = trt.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(path.read_bytes()) if runtime else None
    if engine is None:
        raise EngineError(f"{path} could not be loaded by {library.value} {trt.__version__}: is there an NVIDIA GPU?")
    return engine


class _Build:
    """One use of a library's builder."""

    def __init__(self, library: Library, target: Target) -> None:
        self.library, self.target, self.trt = library, target, library.load()
        self.errors: list[str] = []
        self.builder = self.trt.Builder(_logger(self.trt, self.errors))
        if not self.builder:
            raise self._failed("has no builder here")

    def plan(self, bundle: Bundle, graph: str) -> bytes:
        """The serialized engine of one graph, parsed from its file because the weights lie beside it."""
        trt = self.trt
        flags = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        network = self.builder.create_network(0 if flags is None else 1 << int(flags))
        parser = trt.OnnxParser(network, self.builder.logger)
        if not parser.parse_from_file(str(bundle.graph_path(graph))):
            self.errors += [parser.get_error(i).desc() for i in range(parser.num_errors)]
            raise self._failed(f"could not read {bundle.graph_path(graph)}")
        config = self.builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
        self._set_target(config)
        shapes = self.builder.create_optimization_profile()
        for name, (smallest, optimum, largest) in profile(bundle.inputs(graph)).items():
            shapes.set_shape(name, smallest, optimum, largest)
        config.add_optimization_profile(shapes)
        plan = self.builder.build_serialized_network(network, config)
        if plan is None:
            raise self._failed(f"could not build {graph} of {bundle.name} for {self.target.value}")
        return bytes(plan)

    def _set_target(self, config: Any) -> None:
        """Without a compute capability TensorRT-RTX builds for all that it supports ahead of time."""
        if self.library is Library.FULL:
            if self.target is Target.PORTABLE:
                config.hardware_compatibility_level = self.trt.HardwareCompatibilityLevel.AMPERE_PLUS
        elif self.target is not Target.PORTABLE:
            config.num_compute_capabilities = 1
            config.set_compute_capability(getattr(self.trt.ComputeCapability, self.target.name), 0)

    def _failed(self, what: str) -> EngineError:
        said = "; ".join(dict.fromkeys(self.errors)) or "it gave no reason"
        return EngineError(f"{self.library.value} {self.trt.__version__} {what}: {said}")


def _logger(trt: Any, errors: list[str]) -> Any:
    """A logger that keeps errors for the message and is silent otherwise."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                errors.append(message.strip())

    return Logger()
