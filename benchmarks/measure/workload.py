"""What is measured: how a generator is asked, and how hard it is driven."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from export.bundle import Bundle
from export.runtimes import Executor, Runtime
from export.tiers import TIERS, Tier
from serving import interface
from zoo.contract.feeds import Tensors
from zoo.contract.request import SampleRequest, Setting
from zoo.contract.spec import GeneratorSpec
from zoo.errors import GenzooError

COMPILED = Runtime.TORCH_COMPILE.value


@dataclass(frozen=True)
class Tuned:
    """What `genzoo tune` found for a host: the fastest executor of a tier, or of those the fastest `peer`."""

    tier: Tier
    peers: bool

    @property
    def name(self) -> str:
        """`tuned`, `peer-45dB`."""
        return ("peer" if self.peers else "tuned") + ("" if self.tier is TIERS[0] else f"-{self.tier}")

    def executors(self, bundle: Bundle) -> dict[int, Executor]:
        """By batch size. Raises TuningError."""
        from export.tuning.record import chosen

        return chosen(bundle, self.tier, peers=self.peers)


TUNED = {each.name: each for each in (Tuned(tier, peers) for peers in (False, True) for tier in TIERS)}
RUNTIMES = (*(str(runtime) for runtime in reversed(Runtime)), *TUNED)  # the nearest to production first
# What is measured where nothing is named: the others are for a host, and `genzoo tune` measures them all.
USUAL = tuple(each for each in RUNTIMES if each not in (Runtime.OPENVINO, Runtime.AOTINDUCTOR, *TUNED))
SINGLE, MULTI, SERVER, OFFLINE = SCENARIOS = ("single-stream", "multi-stream", "server", "offline")
BATCHES = {SINGLE: 1, MULTI: 8, SERVER: 1, OFFLINE: 16}  # images a call


class WorkloadError(GenzooError, ValueError):
    """A cell that cannot be measured."""


def on_gpu(runtime: str) -> bool:
    return runtime not in TUNED and Runtime(runtime).on_gpu


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


def title_of(words: Mapping[str, Any]) -> str:
    """The same of the words of a record's identity."""
    setting = Setting(words["num_steps"], words["sampler"], words["guidance_scale"])
    return title(words["generator"], setting, words["precision"])


@dataclass(frozen=True)
class Load:
    """How hard a cell is driven in one run, of which there is one a round.

    LoadGen ends a run once both `queries` and `seconds` are reached, or at `most_seconds`, and then calls it invalid.
    The server scenario asks at `rate` images a second, or at `share` of what the endpoint makes when it is kept busy;
    nine in ten answers must come within `bound_ms`, or within `BOUND` times what an image takes alone.
    """

    scenario: str = SINGLE
    queries: int = 15
    seconds: float = 0.7
    most_seconds: float = 30.0
    warm_up: int = 3
    batch_size: int = 1  # images a call
    in_flight: int = 1  # calls at a time
    rate: float | None = None
    share: float | None = None
    bound_ms: float | None = None

    def __post_init__(self) -> None:
        if self.scenario not in SCENARIOS:
            raise WorkloadError(f"scenario {self.scenario!r}: choose {' or '.join(SCENARIOS)}")
        if self.rate is not None and not self.rate > 0:
            raise WorkloadError(f"a rate of {self.rate:g} images a second asks for nothing: give one above 0")


BOUND = 10.0
SHARE = 0.5
SERVER_QUERIES = 100  # LoadGen decides on nine in ten only from 97 on, where a few were late


def load(scenario: str, *, quick: bool = False, rate: float | None = None, bound_ms: float | None = None) -> Load:
    """The usual load of a scenario. Raises WorkloadError for an unknown one."""
    found = Load(scenario, batch_size=BATCHES.get(scenario, 1))
    if quick:
        found = replace(found, queries=13, seconds=0.12, warm_up=2)
    if scenario == SERVER:
        share = SHARE if rate is None else None
        return replace(found, queries=SERVER_QUERIES, rate=rate, share=share, bound_ms=bound_ms)
    return replace(found, queries=1) if scenario == OFFLINE else found


def for_runtime(load: Load, runtime: str) -> Load:
    """Through Triton several calls are under way at a time, so that it always has one to run and may batch them."""
    in_flight = {OFFLINE: 2, SERVER: 16}.get(load.scenario, 1)
    return replace(load, in_flight=in_flight) if runtime == Runtime.TRITON else load
