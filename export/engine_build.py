"""A bundle's graph -> an engine, ahead of time: by TensorRT-RTX without a GPU, by TensorRT for the GPU at hand."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from export.bundle import Bundle
from export.changes import why
from export.cuda import gpu
from export.engine import Engine, EngineError, Library, Target, known, made, plan_path, recorded
from export.engine_key import WORKSPACE_BYTES, inputs
from export.profiles import axes, profile
from zoo import files
from zoo.exchange import derived


def build(bundle: Bundle, graph: str, target: Target = Target.PORTABLE, library: Library = Library.RTX) -> Engine:
    """The engine of one graph, from the store or newly built. Raises EngineError."""
    if found := current(bundle, graph, target, library):
        return found
    wanted = {**inputs(bundle, graph, target, library), "version": library.version}
    path = plan_path(bundle, graph, target, library)
    began = time.perf_counter()
    plan = _Build(library, target).plan(bundle, graph)
    with files.atomic(path) as temporary:
        temporary.write_bytes(plan)
    record = {
        "sha256": files.sha256(path),
        "bytes": len(plan),
        "file": path.name,
        "name": bundle.name,
        "bundle": bundle.digest,
        "weights": bundle.manifest["weights"]["sha256"],
        "inputs": wanted,
        "seconds": round(time.perf_counter() - began, 3),
        "built_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    return admit(path, record)


def current(bundle: Bundle, graph: str, target: Target, library: Library) -> Engine | None:
    """The engine of a graph that is here and was built by the installed release. Raises EngineError."""
    found = known(bundle, graph, target, library)
    return found if found and found.version == library.version else None


def changed(bundle: Bundle, graph: str, target: Target, library: Library) -> list[str] | None:
    """What is no longer as it was when a graph's engine was built, [] where it is up to date; None where there is none.

    Raises EngineError.
    """
    if current(bundle, graph, target, library):
        return []
    found = recorded(plan_path(bundle, graph, target, library))
    if found is None:
        return None
    return why(found.record["inputs"], {**inputs(bundle, graph, target, library), "version": library.version})


def admit(path: Path, record: dict[str, Any]) -> Engine:
    """An engine that was built here, or by a worker for this host, which may be loaded from now on.

    Raises EngineError where the plan is not what its record says.
    """
    if (seen := files.sha256(path)) != record["sha256"]:
        raise EngineError(
            f"{path} has sha256 {seen[:12]}, its builder recorded {record['sha256'][:12]}: build it again"
        )
    files.write_json(derived.built(seen), record)
    return Engine(path, record)


class _Build:
    """One use of a library's builder."""

    def __init__(self, library: Library, target: Target) -> None:
        self.library, self.target, self.trt = library, target, library.load()
        self.errors: list[str] = []
        self.builder = made(self.trt.Builder, self.trt, self.errors)
        if self.builder is None:
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
        config.clear_flag(trt.BuilderFlag.TF32)
        timed = self._timed_before(config)
        shapes = self.builder.create_optimization_profile()
        sizes = axes(bundle.served_spec, bundle.max_batch)
        for name, (smallest, optimum, largest) in profile(bundle.inputs(graph), sizes).items():
            shapes.set_shape(name, smallest, optimum, largest)
        config.add_optimization_profile(shapes)
        plan = self.builder.build_serialized_network(network, config)
        if plan is None:
            raise self._failed(f"could not build {graph} of {bundle.name} for {self.target.value}")
        if timed:
            with files.atomic(timed) as temporary:
                temporary.write_bytes(bytes(config.get_timing_cache().serialize()))
        return bytes(plan)

    def _timed_before(self, config: Any) -> Path | None:
        """Give the builder what it measured of such GPUs before: where that is kept, None where nothing is measured.

        TensorRT-RTX measures nothing: it compiles kernels where the engine is loaded."""
        if self.library is not Library.FULL:
            return None
        name = f"{self.library}-{self.trt.__version__}-{gpu().generation}.timings"
        path = derived.engines() / "timings" / name
        cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
        if not config.set_timing_cache(cache, False):  # of another GPU: measured anew
            config.set_timing_cache(config.create_timing_cache(b""), False)
        return path

    def _set_target(self, config: Any) -> None:
        """Without a compute capability TensorRT-RTX builds for all that it supports ahead of time."""
        if self.library is Library.FULL:
            if self.target is Target.PORTABLE:
                config.hardware_compatibility_level = self.trt.HardwareCompatibilityLevel.AMPERE_PLUS
            elif (here := gpu()).generation != self.target:
                raise EngineError(
                    f"{self.library} builds for the GPU at hand, which is {here}, not for {self.target}: build there, "
                    "or with --library tensorrt-rtx"
                )
        elif self.target is not Target.PORTABLE:
            capability = getattr(self.trt.ComputeCapability, self.target.name, None)
            if capability is None:
                raise EngineError(f"{self.library} knows no {self.target}: build on such a GPU with --library tensorrt")
            config.num_compute_capabilities = 1
            config.set_compute_capability(capability, 0)

    def _failed(self, what: str) -> EngineError:
        said = "; ".join(dict.fromkeys(self.errors)) or "it gave no reason"
        return EngineError(f"{self.library.value} {self.trt.__version__} {what}: {said}")
