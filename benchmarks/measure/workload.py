"""What is measured: how a generator is asked, and how hard it is driven."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from export.runtimes import Runtime
from serving import interface
from zoo.contract.feeds import Tensors
from zoo.contract.request import SampleRequest, Setting
from zoo.contract.spec import GeneratorSpec
from zoo.errors import GenzooError

SCENARIOS = ("single-stream", "offline")
RUNTIMES = tuple(str(runtime) for runtime in reversed(Runtime))  # the nearest to production first


class WorkloadError(GenzooError, ValueError):
    """A cell that cannot be measured."""


def tensors(spec: GeneratorSpec, setting: Setting, seeds: Sequence[int]) -> Tensors:
    """The endpoint's inputs for a batch of requests, with the generator's own conditions for each."""
    return interface.tensors(spec, SampleRequest(tuple(seeds), setting=setting))


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
