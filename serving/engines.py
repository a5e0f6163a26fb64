"""A generator's engines -> what a model repository says of them: which file for which GPU, and by which library.

Triton picks a plan by the compute capability of the GPU at hand. Only generations on which the gate admitted a plan are
listed, so on any other the model does not load.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from export import admission
from export.bundle import Bundle
from export.cuda import capability
from export.engine import Engine, Library, Target, choose, plan_path, recorded
from export.engine_build import build
from export.engine_key import is_of
from serving.model_config import Placement, Plans
from zoo.contract.errors import RequestError
from zoo.errors import GenzooError

CUDA_BINDINGS = "cuda-bindings>=12.9"


class EngineNotServedError(GenzooError):
    """An engine that may not be published; the message says why."""


@dataclass(frozen=True)
class ServedPlans:
    """What config.pbtxt says, and the files beside it: plans to copy, and their records as text."""

    config: Plans
    files: dict[str, Path]
    records: dict[str, str]


@dataclass(frozen=True)
class Wanted:
    """Engines for each of these targets, by one library or by the one that there is, and where their instances go."""

    targets: tuple[Target, ...]
    library: Library | None
    placement: Placement

    @classmethod
    def of(
        cls, targets: Sequence[Target] | None, library: Library | None, gpus: str | None, instances: int
    ) -> Wanted | None:
        """From the command line's options; None where no engine is asked for. Raises RequestError."""
        if not targets:
            if library or gpus is not None or instances > 1:
                raise RequestError("--library, --gpus and --instances are for engines: give --engine TARGET too")
            return None
        parts = gpus.split(",") if gpus is not None else []
        if not all(part.isascii() and part.isdigit() for part in parts):
            raise RequestError(f"GPUs {gpus!r}: write numbers like 0,1")
        return cls(tuple(dict.fromkeys(targets)), library, Placement(tuple(dict.fromkeys(map(int, parts))), instances))

    def engines(self, bundle: Bundle, report: Callable[[str], None] = lambda _: None) -> list[Engine]:
        """A bundle's engine for each target, built now where there is none. Raises EngineError."""
        return [self._engine(bundle, target, report) for target in self.targets]

    def _engine(self, bundle: Bundle, target: Target, report: Callable[[str], None]) -> Engine:
        found = choose(bundle, bundle.entry, [target], self.library)
        if found is None:
            self._check_not_replaced(bundle, target)
            report(f"building {bundle.name} for {target}")
            found = build(bundle, bundle.entry, target, self.library or Library.RTX)
        return found

    def _check_not_replaced(self, bundle: Bundle, target: Target) -> None:
        """Raises EngineNotServedError rather than build over an engine that was pulled, for another export."""
        path = plan_path(bundle, bundle.entry, target, self.library or Library.RTX)
        pulled = recorded(path)
        if pulled and pulled.record.get("admitted_by"):
            raise EngineNotServedError(
                f"{path}, signed by {pulled.record['admitted_by']}, was built from another export than "
                f"{bundle.path}: `genzoo pull {bundle.name} --bundle` that one too, or `genzoo build` your own over it"
            )


def packages(engines: Sequence[Engine]) -> tuple[str, ...]:
    """What our own backend needs in the server's Python; TensorRT's backend brings its library along."""
    libraries = {f"{engine.library}=={engine.version}" for engine in engines}
    return (*sorted(libraries), CUDA_BINDINGS) if libraries else ()


def plans_of(bundle: Bundle, engines: Sequence[Engine], allow_unadmitted: bool = False) -> ServedPlans:
    """Raises EngineNotServedError for engines of another bundle, of two libraries, or that the gate did not admit."""
    libraries = {engine.library for engine in engines}
    if len(libraries) > 1:
        both = " and ".join(sorted(libraries))
        raise EngineNotServedError(
            f"{bundle.name} has engines by {both}: a model has one backend, choose one --library"
        )
    profiles = {engine.profiles for engine in engines}
    if len(profiles) > 1:
        raise EngineNotServedError(
            f"{bundle.name} has engines of {' and '.join(map(str, sorted(profiles)))} buckets: a model has as many for "
            "every GPU, `genzoo build` them with the same --buckets"
        )
    for engine in engines:
        _check_origin(bundle, engine)
    by_capability: dict[str, str] = {}
    for engine in sorted(engines, key=lambda each: each.target is not Target.PORTABLE):  # one's own before a portable
        for generation in _deployed(bundle, engine, allow_unadmitted):
            by_capability[capability(generation)] = _file(engine)
    portable = [engine for engine in engines if engine.target is Target.PORTABLE]
    other = _file(portable[0]) if portable and allow_unadmitted else None
    facts = {_file(engine): f"{engine.library} {engine.version} sha256:{engine.sha256}" for engine in engines}
    return ServedPlans(
        Plans(libraries.pop(), by_capability, other, facts, max(profiles, default=1)),
        {_file(engine): engine.path for engine in engines},
        {f"{_file(engine)}.json": json.dumps(_record(engine), indent=2) for engine in engines},
    )


def _check_origin(bundle: Bundle, engine: Engine) -> None:
    if not is_of(engine.record, bundle, bundle.entry):
        raise EngineNotServedError(
            f"{engine.path} was not built from {bundle.path}: `genzoo build {bundle.name}` again"
        )


def _deployed(bundle: Bundle, engine: Engine, allow_unadmitted: bool) -> tuple[str, ...]:
    """The generations of GPUs on which an engine may run. Raises EngineNotServedError where there are none."""
    if admitted := deployable(engine):
        return admitted
    if allow_unadmitted:
        return () if engine.target is Target.PORTABLE else (engine.target.value,)
    refused = [entry["message"] for entry in admission.found(engine).values() if not entry["admitted"]]
    state = f"was refused by the gate ({refused[0]})" if refused else "was not before the gate on such a GPU"
    raise EngineNotServedError(
        f"{bundle.name}'s engine for {engine.target}, plan {engine.sha256[:12]}, {state}, so it is not deployed: run "
        f"`genzoo gate {bundle.name} --runtime tensorrt` there, or give --ungated"
    )


def deployable(engine: Engine) -> tuple[str, ...]:
    """The generations of its target on which the gate admitted an engine."""
    return tuple(each for each in admission.generations(engine) if engine.target.covers(each))


def _record(engine: Engine) -> dict[str, object]:
    """What our own backend reads beside a plan; `generations` is the gate's."""
    return {**engine.record, "file": _file(engine), "generations": admission.found(engine)}


def _file(engine: Engine) -> str:
    return f"{engine.target}.plan"
