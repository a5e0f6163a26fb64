"""One contract for every generator: `(seeds, class_ids, num_steps, guidance_scale) -> images, uint8 NHWC`.

`GeneratorSpec` is the part of a checkpoint that a host needs in order to ask for images: plain data, stored in every
bundle's manifest, without torch. `feeds` turns a request into the tensors of an exported graph, for every runtime.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.contract.graph import BATCH, TensorSpec
from zoo.errors import GenzooError
from zoo.plain import PlainError, check_sizes, rebuild
from zoo.sampling import noise, samplers, schedules
from zoo.sampling.parameterization import PARAMETERIZATIONS, timed

MAX_STEPS = 1000
MAX_SIZE = 1 << 16  # of any number in a spec from outside
MAX_VALUES = 1 << 26  # of an image or its latents


class RequestError(GenzooError, ValueError):
    """A request that this generator cannot fulfil; the message says what was seen and what is possible."""


@dataclass(frozen=True)
class Sampling:
    """How a denoiser is sampled: its dialect, its grid of noise levels, and its defaults."""

    parameterization: str = "v"
    schedule: str = "cosine"
    samplers: tuple[str, ...] = ("ddim", "ddpm", "heun", "dpmpp_2m")  # the first is the default
    num_steps: int = 50
    steps: tuple[int, ...] = ()  # the only numbers of steps it was trained for; empty: any
    max_guidance_scale: float = 1.0  # 1: classifier-free guidance was not trained
    timesteps: schedules.Timesteps | None = None  # its levels, in place of `schedule`, where it knows no others
    whole_steps: bool = False  # its estimate is for the whole step from one level to the next: it takes `c_next` too

    @property
    def columns(self) -> tuple[str, ...]:
        return samplers.STEP_COLUMNS if self.whole_steps else samplers.COLUMNS

    def table(self, num_steps: int, sampler: str) -> np.ndarray:
        """A sampler's table, float64 (NFE, columns)."""
        dialect, way = PARAMETERIZATIONS[self.parameterization], samplers.SAMPLERS[sampler]
        if self.timesteps is None:
            grid = schedules.SCHEDULES[self.schedule](num_steps)
            return samplers.sampler_table(way, grid, dialect, columns=self.columns)
        sigmas = self.timesteps.grid(num_steps)
        # As diffusers begins: the noise is the first variance-preserving state, alpha x.
        clock, start = timed(dialect, self.timesteps.time), float(np.hypot(1.0, sigmas[0]))
        return samplers.sampler_table(way, sigmas, clock, start, self.columns)


@dataclass(frozen=True)
class GeneratorSpec:
    """What a generator takes and gives. `latent_shape` is one draw of noise, channels first; `image_shape` is HWC."""

    name: str
    family: str
    latent_shape: tuple[int, ...]
    image_shape: tuple[int, int, int]
    num_classes: int
    sampling: Sampling | None = None

    @classmethod
    def from_json(cls, data: Any) -> GeneratorSpec:
        """The inverse of `to_json`; data may come from outside. Raises PlainError for what no generator is."""
        spec = rebuild(cls, data, "spec")
        check_sizes(data, MAX_SIZE, "spec")
        _check(spec)
        return spec

    def to_json(self) -> dict[str, Any]:
        """What is not at its default, as far as it came later than the first manifests."""
        found = dataclasses.asdict(self)
        for name in ("timesteps", "whole_steps"):
            if self.sampling and not getattr(self.sampling, name):
                del found["sampling"][name]
        return found

    def at_any_steps(self) -> GeneratorSpec:
        """The same, not bound to the numbers of steps that it was trained for: for whoever asks nothing of the images'
        quality, only what the graph computes."""
        return dataclasses.replace(self, sampling=self.sampling and dataclasses.replace(self.sampling, steps=()))

    def classes_in_turn(self, seeds: Sequence[int] | np.ndarray) -> np.ndarray | None:
        """The class of each seed where nobody chose one, (B,) int64; None for an unconditional generator."""
        if not self.num_classes:
            return None
        return (np.asarray(seeds, np.uint64) % np.uint64(self.num_classes)).astype(np.int64)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs of the graph that makes images from one request, batch first."""
        specs = [TensorSpec("noise", "float32", (BATCH, "draws", *self.latent_shape))]
        if self.sampling is None:
            specs[0] = TensorSpec("noise", "float32", (BATCH, 1, *self.latent_shape))
        if self.num_classes:
            conditions: int | str = "conditions" if self.sampling else 1
            specs.append(TensorSpec("class_ids", "int64", (BATCH, conditions)))
            if self.sampling:
                specs.append(TensorSpec("guidance_weights", "float32", (BATCH, conditions)))
        if self.sampling:
            specs.append(TensorSpec("table", "float32", (BATCH, "rows", len(self.sampling.columns))))
        return tuple(specs)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec("images", "uint8", (BATCH, *self.image_shape)),)


@dataclass(frozen=True)
class Setting:
    """How a generator is asked; None is its default. It decides what an image costs, and no seed or class does."""

    num_steps: int | None = None
    sampler: str | None = None
    guidance_scale: float = 1.0

    def resolved(self, spec: GeneratorSpec) -> Setting:
        """With the generator's defaults in place of None; a one-shot generator has none."""
        if spec.sampling is None:
            return self
        num_steps = spec.sampling.num_steps if self.num_steps is None else self.num_steps
        sampler = spec.sampling.samplers[0] if self.sampler is None else self.sampler
        return dataclasses.replace(self, num_steps=num_steps, sampler=sampler)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class SampleRequest:
    """Images asked for. `class_ids` is one class a seed, or None to cycle."""

    seeds: tuple[int, ...]
    class_ids: tuple[int, ...] | None = None
    setting: Setting = Setting()


def _check(spec: GeneratorSpec) -> None:
    """Raises PlainError for what no generator takes or gives."""
    for shape in (spec.latent_shape, spec.image_shape):
        if not shape or min(shape) < 1 or math.prod(shape) > MAX_VALUES:
            raise PlainError(f"the shape {shape} is outside 1 to {MAX_VALUES} values")
    if not 0 <= spec.num_classes <= MAX_SIZE:
        raise PlainError(f"{spec.num_classes} classes are outside 0 to {MAX_SIZE}")
    try:
        if spec.sampling:
            for sampler in spec.sampling.samplers:
                table(spec, Setting(sampler=sampler))
            table(spec, Setting())
    except (LookupError, ValueError) as error:
        raise PlainError(f"its sampling is unknown here ({error}); a newer genzoo may know it") from error


def nearest(name: str, choices: Iterable[str]) -> str:
    """A clause that names the choices nearest to a mistaken `name`, or all of them."""
    choices = sorted(choices)
    close = difflib.get_close_matches(name, choices, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else f"choose one of {', '.join(choices)}"


def table(spec: GeneratorSpec, setting: Setting) -> np.ndarray | None:
    """The sampler's table, float64 (NFE, columns) without guidance; None for a one-shot generator.

    Raises RequestError.
    """
    setting = setting.resolved(spec)
    num_steps, sampler = setting.num_steps, setting.sampler
    if spec.sampling is None:
        if num_steps not in (None, 1) or sampler is not None:
            raise RequestError(f"{spec.name} makes its images in one call: it takes neither steps nor a sampler")
        return None
    assert num_steps is not None
    assert sampler is not None
    if sampler not in spec.sampling.samplers:
        raise RequestError(f"{spec.name} has no sampler {sampler!r}: {nearest(sampler, spec.sampling.samplers)}")
    most = spec.sampling.timesteps.count if spec.sampling.timesteps else MAX_STEPS
    if not 1 <= num_steps <= min(most, MAX_STEPS):
        raise RequestError(f"num_steps {num_steps} is outside 1 to {min(most, MAX_STEPS)}")
    if spec.sampling.steps and num_steps not in spec.sampling.steps:
        allowed = ", ".join(map(str, spec.sampling.steps))
        raise RequestError(f"{spec.name} was trained for {allowed} steps, not {num_steps}")
    return spec.sampling.table(num_steps, sampler)


def check_seeds(seeds: Sequence[int]) -> None:
    """Raises RequestError for a seed that is no key of the noise, and where there is none."""
    if not seeds:
        raise RequestError("no seed was given: each image is made from one")
    for seed in seeds:
        if not isinstance(seed, int | np.integer):
            raise RequestError(f"seed {seed!r} is no whole number")
        if not 0 <= seed <= noise.MAX_SEED:
            raise RequestError(f"seed {seed} is outside 0 to 2**64 - 1")


def nfe(spec: GeneratorSpec, setting: Setting) -> int:
    """Network calls for one image: a table's rows, twice that under guidance. Raises RequestError."""
    rows = table(spec, setting)
    return (1 if rows is None else len(rows)) * (1 if setting.guidance_scale == 1.0 else 2)


def feeds(spec: GeneratorSpec, request: SampleRequest) -> dict[str, np.ndarray]:
    """The tensors that `spec.inputs` declares, for one batch. Raises RequestError."""
    rows = table(spec, request.setting)
    batch = len(request.seeds)
    check_seeds(request.seeds)
    draws = len(rows) if rows is not None and samplers.is_stochastic(rows) else 1
    tensors = {"noise": noise.normal(request.seeds, (draws, *spec.latent_shape))}
    if spec.num_classes:
        tensors |= _conditions(spec, request)
    elif request.class_ids is not None:
        raise RequestError(f"{spec.name} is unconditional: it takes no class")
    if rows is not None:
        tensors["table"] = np.broadcast_to(rows.astype(np.float32), (batch, *rows.shape)).copy()
    return tensors


def _conditions(spec: GeneratorSpec, request: SampleRequest) -> dict[str, np.ndarray]:
    """Classes, and the weights by which a guided estimate combines them (Ho & Salimans 2022, equation 6)."""
    batch = len(request.seeds)
    class_ids: Sequence[int] | np.ndarray | None = request.class_ids
    if class_ids is None:
        class_ids = spec.classes_in_turn(request.seeds)
        assert class_ids is not None
    if len(class_ids) != batch:
        raise RequestError(f"{len(class_ids)} class ids for {batch} seeds: give one for each")
    for class_id in class_ids:
        if not isinstance(class_id, int | np.integer):
            raise RequestError(f"class {class_id!r} is no whole number: {spec.name} knows 0 to {spec.num_classes - 1}")
        if not 0 <= class_id < spec.num_classes:
            raise RequestError(f"class {class_id} is outside 0 to {spec.num_classes - 1} of {spec.name}")
    scale = request.setting.guidance_scale
    limit = spec.sampling.max_guidance_scale if spec.sampling else 1.0
    if not (scale == 1.0 or 0.0 <= scale <= limit):
        wanted = f"between 0 and {limit:g}" if limit > 1.0 else "1, it was not trained for guidance"
        raise RequestError(f"guidance_scale {scale:g} for {spec.name}: must be {wanted}")
    ids = np.array(class_ids, np.int64)[:, None]
    weights = np.ones((batch, 1), np.float32)
    if scale != 1.0:
        ids = np.concatenate([ids, np.full_like(ids, spec.num_classes)], axis=1)
        weights = np.tile(np.array([scale, 1.0 - scale], np.float32), (batch, 1))
    return {"class_ids": ids, "guidance_weights": weights} if spec.sampling else {"class_ids": ids}
