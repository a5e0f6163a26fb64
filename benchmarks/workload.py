"""What is measured: how a generator is asked, and how hard it is driven."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from zoo.errors import GenzooError
from zoo.generator import Tensors
from zoo.request import GeneratorSpec, SampleRequest

SCENARIOS = ("single-stream", "offline")
RUNTIMES = ("torch", "onnxruntime", "triton")


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

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def sample_request(self, seeds: range) -> SampleRequest:
        return SampleRequest(tuple(seeds), None, self.num_steps, self.sampler, self.guidance_scale)

    def tensors(self, spec: GeneratorSpec, seeds: list[int]) -> Tensors:
        """The endpoint's inputs for a batch of requests. Raises WorkloadError."""
        if self.sampler and spec.sampling and self.sampler != spec.sampling.samplers[0]:
            raise WorkloadError(
                f"sampler {self.sampler!r}: {spec.name} is served with {spec.sampling.samplers[0]!r} only"
            )
        found: Tensors = {"seed": np.array(seeds, np.uint64)[:, None]}
        if (classes := spec.classes_in_turn(seeds)) is not None:
            found["class_id"] = classes[:, None]
        if spec.sampling:
            steps = self.num_steps or spec.sampling.num_steps
            found["num_steps"] = np.full((len(seeds), 1), steps, np.int32)
            found["guidance_scale"] = np.full((len(seeds), 1), self.guidance_scale, np.float32)
        return found


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
