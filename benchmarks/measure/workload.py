"""What is measured: how a generator is asked, and how hard it is driven."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from export.runtimes import Runtime
from serving import interface
from zoo.contract.generator import Tensors
from zoo.contract.request import GeneratorSpec, SampleRequest
from zoo.errors import GenzooError
from zoo.family import System

SCENARIOS = ("single-stream", "offline")
RUNTIMES = tuple(str(runtime) for runtime in reversed(Runtime))  # the nearest to production first


class WorkloadError(GenzooError, ValueError):
    """A cell that cannot be measured."""


@dataclass(frozen=True)
class Setting:
    """How a generator is asked: None is its default."""

    num_steps: int | None = None
    sampler: str | None = None
    guidance_scale: float = 1.0

    def resolved(self, spec: GeneratorSpec) -> Setting:
        """With the generator's defaults in place of None."""
        if spec.sampling is None:
            return self
        steps = spec.sampling.num_steps if self.num_steps is None else self.num_steps
        return Setting(steps, self.sampler or spec.sampling.samplers[0], self.guidance_scale)

    @classmethod
    def of(cls, system: System) -> Setting:
        """How a checkpoint is asked to be a system."""
        return cls(system.num_steps, system.sampler, system.guidance_scale)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def sample_request(self, seeds: Iterable[int]) -> SampleRequest:
        return SampleRequest(tuple(seeds), None, self.num_steps, self.sampler, self.guidance_scale)

    def tensors(self, spec: GeneratorSpec, seeds: list[int]) -> Tensors:
        """The endpoint's inputs for a batch of requests, a class in turn for each."""
        classes = spec.classes_in_turn(seeds)
        class_ids = None if classes is None else tuple(classes.tolist())
        return interface.tensors(replace(self.sample_request(seeds), class_ids=class_ids))


def title(generator: str, setting: Setting, precision: str = "fp32") -> str:
    """`ddpm 20`, with what is not the default behind it."""
    parts = [generator, str(setting.num_steps) if setting.num_steps else ""]
    parts += [setting.sampler or ""] if setting.sampler not in (None, "ddim", "consistency") else []
    parts += [f"g{setting.guidance_scale:g}"] if setting.guidance_scale != 1.0 else []
    parts += [precision] if precision != "fp32" else []
    return " ".join(part for part in parts if part)


@dataclass(frozen=True)
class Load:
    """How hard a cell is driven. LoadGen ends a run once both `queries` and `seconds` are reached."""

    scenario: str = "single-stream"
    queries: int = 100  # LoadGen holds fewer than 64 single-stream queries for too few
    seconds: float = 1.0
    warm_up: int = 5
    batch_size: int = 16  # offline
    in_flight: int = 1  # offline: batches at a time

    def __post_init__(self) -> None:
        if self.scenario not in SCENARIOS:
            raise WorkloadError(f"scenario {self.scenario!r}: choose {' or '.join(SCENARIOS)}")
