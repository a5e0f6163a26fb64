"""A bundle's graph -> an engine, ahead of time: by TensorRT-RTX without a GPU, by TensorRT for the GPU at hand."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from export import timings
from export.bundle import Bundle
from export.changes import why
from export.cuda import gpu
from export.engine import Engine, EngineError, Library, Target, known, made, plan_path, recorded
from export.engine_key import inputs, workspace
from export.profiles import Ends, axes, buckets, profile
from zoo import files
from zoo.contract.graph import BATCH
from zoo.exchange import derived

OUT_OF_MEMORY = ("OutOfMemory", "workspace limit")  # how a builder says that its workspace is too small


def build(
    bundle: Bundle,
    graph: str,
    target: Target = Target.PORTABLE,
    library: Library = Library.RTX,
    ends: Ends | None = None,
) -> Engine:
    """The engine of one graph, from the store or newly built. Raises EngineError, BucketError.

    `ends` cut its sizes into buckets; None: the library's own.
    """
    if found := current(bundle, graph, target, library, ends):
        return found
    ends = library.ends if ends is None else ends
    wanted = {**inputs(bundle, graph, target, library, ends=ends), "version": library.version}
    path = plan_path(bundle, graph, target, library)
    began = time.perf_counter()
    plan = _Build(library, target).plan(bundle, graph, ends)
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


def current(bundle: Bundle, graph: str, target: Target, library: Library, ends: Ends | None = None) -> Engine | None:
    """The engine of a graph that is here, was built by the installed release, and has these buckets.

    Raises EngineError, BucketError.
    """
    ends = library.ends if ends is None else ends
    several = len(buckets(bundle.served_spec, bundle.max_batch, ends)) > 1
    found = known(bundle, graph, target, library)
    if found is None or found.version != library.version:
        return None
    same = {axis: list(sizes) for axis, sizes in ends.items()} == found.ends if several else found.profiles == 1
    return found if same else None


def changed(bundle: Bundle, graph: str, target: Target, library: Library, ends: Ends | None = None) -> list[str] | None:
    """What is no longer as it was when a graph's engine was built, [] where it is up to date; None where there is none.

    Raises EngineError, BucketError.
    """
    if current(bundle, graph, target, library, ends):
        return []
    ends = library.ends if ends is None else ends
    found = recorded(plan_path(bundle, graph, target, library))
    if found is None:
        return None
    wanted = inputs(bundle, graph, target, library, ends=ends)
    return why(found.record["inputs"], {**wanted, "version": library.version})


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

    def plan(self, bundle: Bundle, graph: str, ends: Ends) -> bytes:
        """The serialized engine of one graph, parsed from its file because the weights lie beside it.

        It has an optimisation profile for each bucket.
        """
        trt = self.trt
        flags = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        network = self.builder.create_network(0 if flags is None else 1 << int(flags))
        parser = trt.OnnxParser(network, self.builder.logger)
        if not parser.parse_from_file(str(bundle.graph_path(graph))):
            self.errors += [parser.get_error(i).desc() for i in range(parser.num_errors)]
            raise self._failed(f"could not read {bundle.graph_path(graph)}")
        config = self.builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace(bundle))
        self._set_target(config)
        config.clear_flag(trt.BuilderFlag.TF32)
        timed = self._timed_before(config)
        for sizes in buckets(bundle.served_spec, bundle.max_batch, ends).values():
            shapes = self.builder.create_optimization_profile()
            for name, (smallest, optimum, largest) in profile(bundle.inputs(graph), sizes).items():
                shapes.set_shape(name, smallest, optimum, largest)
            config.add_optimization_profile(shapes)
        plan = self.builder.build_serialized_network(network, config)
        if plan is None:
            raise self._failed(f"could not build {graph} of {bundle.name} for {self.target.value}", _too_large(bundle))
        if timed:
            timings.keep(config, timed)
        return bytes(plan)

    def _timed_before(self, config: Any) -> Path | None:
        """Give the builder what it measured of such GPUs before: where that is kept, None where nothing is measured.

        TensorRT-RTX measures nothing: it compiles kernels where the engine is loaded."""
        if self.library is not Library.FULL:
            return None
        path = timings.place(self.library, self.trt.__version__, gpu().generation)
        timings.give(config, path)
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

    def _failed(self, what: str, out_of_memory: str = "") -> EngineError:
        said = "; ".join(dict.fromkeys(self.errors)) or "it gave no reason"
        more = f"; {out_of_memory}" if any(each in said for each in OUT_OF_MEMORY) else ""
        return EngineError(f"{self.library.value} {self.trt.__version__} {what}: {said}{more}")


def _too_large(bundle: Bundle) -> str:
    """What a builder means by its words of memory: it is the engine's that lacks, not this host's."""
    sizes = axes(bundle.served_spec, bundle.max_batch)
    names = [BATCH, *(axis.name for axis in bundle.spec.axes), "terms"]
    asked = ", ".join(f"{name} {sizes[name].maximum}" for name in names if name in sizes)
    return f"the largest request ({asked}) needs more than the engine's workspace of {workspace(bundle) / 1e9:.1f} GB"
