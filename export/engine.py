"""TensorRT engines: TensorRT-RTX and TensorRT behind one adapter, imported here only; `engine_build` makes them.

TensorRT-RTX builds ahead of time for named GPU generations, on hosts without a GPU; TensorRT builds for the GPU at
hand. Both are strongly typed: precision lives in the graph, and float32 is not cut to TF32. An engine is native code,
so it is loaded only where the local store recorded that it was built here, or that a verified signature admitted it;
its bytes are not reproducible, so it is looked up by what it was built from.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from export.bundle import Bundle
from export.cuda import Gpu
from export.engine_key import first_inputs, inputs
from export.profiles import ALONE, BucketError, Ends
from zoo import files
from zoo.errors import GenzooError
from zoo.exchange import derived


class EngineError(GenzooError):
    """An engine could not be built or must not be loaded; the message carries TensorRT's own words."""


class Target(StrEnum):
    """The GPU generation for which an engine is built; `portable` runs on all that its library knows."""

    PORTABLE = "portable"
    SM80 = "sm80"
    SM86 = "sm86"
    SM89 = "sm89"
    SM90 = "sm90"  # by TensorRT only: TensorRT-RTX knows no GPU of a data centre
    SM120 = "sm120"

    def covers(self, generation: str) -> bool:
        return self in (Target.PORTABLE, generation)


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

    @property
    def ends(self) -> Ends:
        """The buckets that nobody asked otherwise gets.

        TensorRT measures kernels for one optimum a bucket; TensorRT-RTX compiles them where an engine runs, for the
        shapes that it then meets.
        """
        return ALONE if self is Library.FULL else {}

    @property
    def version(self) -> str:
        """The installed release. Raises EngineError where there is none."""
        return str(self.load().__version__)


@dataclass(frozen=True)
class Engine:
    """A built plan and the record of what it was built from."""

    path: Path
    record: dict[str, Any]

    @property
    def sha256(self) -> str:
        return str(self.record["sha256"])

    @property
    def library(self) -> Library:
        return Library(self.record["inputs"]["library"])

    @property
    def version(self) -> str:
        """The library's release, the only one that loads it."""
        return str(self.record["inputs"]["version"])

    @property
    def target(self) -> Target:
        return Target(self.record["inputs"]["target"])

    @property
    def ends(self) -> Ends:
        """Where its buckets end."""
        return dict(self.record["inputs"].get("ends", {}))

    @property
    def profiles(self) -> int:
        """How many optimisation profiles it has, one a bucket."""
        return max(1, len(self.record["inputs"].get("profiles", {})))


def plan_path(bundle: Bundle, graph: str, target: Target, library: Library) -> Path:
    variant = f"{bundle.manifest['precision']}-{bundle.manifest['loop'] or 'once'}{bundle.manifest['steps'] or ''}"
    return derived.engines() / bundle.name / f"{graph}-{variant}-{target.value}.{library.value}.plan"


def graphs_to_build(bundle: Bundle) -> tuple[str, ...]:
    """The graphs that make images: conditions' encoders, the entry, the decoder where the host walks the table."""
    return (*bundle.encoders, bundle.entry, *(("decoder",) if bundle.entry == "step" else ()))


def placed(path: Path) -> Engine:
    """The engine of a model repository, whose record lies beside the plan. Raises EngineError.

    Whoever wrote the repository is trusted: it holds code of its own.
    """
    try:
        return Engine(path, json.loads(path.with_name(f"{path.name}.json").read_text()))
    except (OSError, ValueError) as error:
        raise EngineError(f"{path} has no record beside it ({error}); write the model repository again") from error


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


def known(bundle: Bundle, graph: str, target: Target, library: Library) -> Engine | None:
    """The engine of a graph that was built here or pulled, by whichever release of its library; None without one."""
    found = recorded(plan_path(bundle, graph, target, library))
    if found is None:
        return None
    made_from = {key: value for key, value in found.record["inputs"].items() if key != "version"}
    if "bundle" in made_from:
        return found if made_from == first_inputs(bundle, graph, target, library) else None
    try:
        return found if made_from == inputs(bundle, graph, target, library, found.record, found.ends) else None
    except BucketError:  # of sizes that the bundle no longer has
        return None


def choose(bundle: Bundle, graph: str, targets: Sequence[Target], library: Library | None = None) -> Engine | None:
    """The first engine there is: full TensorRT's before TensorRT-RTX's, and for each the targets in their order."""
    libraries = (library,) if library else (Library.FULL, Library.RTX)
    found = (known(bundle, graph, target, each) for each in libraries for target in targets)
    return next((engine for engine in found if engine), None)


def for_gpu(bundle: Bundle, graph: str, here: Gpu) -> Engine:
    """The engine that this GPU runs: one of its own generation before a portable one. Raises EngineError."""
    targets = [*(target for target in Target if target == here.generation), Target.PORTABLE]
    found = choose(bundle, graph, targets)
    if found is None:
        raise EngineError(
            f"{bundle.name} has no engine of its {graph} for {here}: `genzoo build {bundle.name}` makes one, with "
            f"--target {' or '.join(targets)}"
        )
    return found


def deserialize(engine: Engine) -> Any:
    """The loaded plan, an `ICudaEngine`. Raises EngineError."""
    library, path = engine.library, engine.path
    plan = path.read_bytes()
    if hashlib.sha256(plan).hexdigest() != engine.sha256:
        raise EngineError(f"{path} is not the plan that its record describes: an engine is native code; build it again")
    if library.version != engine.version:
        raise EngineError(
            f"{path} was built by {library} {engine.version}, here is {library.version}: a plan loads only in the "
            f"release that built it; install that one, or build it again"
        )
    trt = library.load()
    errors: list[str] = []
    runtime = made(trt.Runtime, trt, errors)
    loaded = runtime.deserialize_cuda_engine(plan) if runtime else None
    if loaded is None:
        said = "; ".join(dict.fromkeys(errors)) or "is there an NVIDIA GPU?"
        raise EngineError(f"{path} could not be loaded by {library} {engine.version}: {said}")
    return loaded


def made(kind: Any, trt: Any, errors: list[str]) -> Any:
    """A library's object that takes a logger; None where it cannot be made, which the bindings say as a TypeError."""
    try:
        return kind(logger(trt, errors)) or None
    except TypeError as error:  # "factory function returned nullptr": TensorRT without a GPU
        errors.append(f"{error}; is there an NVIDIA GPU?")
        return None


def logger(trt: Any, errors: list[str]) -> Any:
    """A logger that keeps errors for the message and is silent otherwise."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                errors.append(message.strip())

    return Logger()
