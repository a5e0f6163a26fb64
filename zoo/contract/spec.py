"""What a generator takes and gives: plain data, stored in every bundle's manifest, without torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.contract import names
from zoo.contract.conditions import Condition, first_format, kind
from zoo.contract.graph import BATCH, MAX_SIZE, MAX_VALUES, TensorSpec, concrete
from zoo.plain import MAX_ITEMS, PlainError, check_depth, check_sizes, rebuild
from zoo.sampling import samplers, schedules
from zoo.sampling.parameterization import PARAMETERIZATIONS, bounded, timed

MAX_STEPS = 1000
EDITS = ("image", "mask_image")  # a picture, and what is made anew of it
NO_END = -1.0  # `c_next` of a step that ends without noise, or whose end the network need not know

Shape = tuple[int | str, ...]


@dataclass(frozen=True)
class Axis:
    """A size that a request may choose, like an image's height in pixels: bounds, and what it must be a multiple of."""

    name: str
    minimum: int
    default: int
    maximum: int
    multiple: int = 1


@dataclass(frozen=True)
class Noise:
    """What a seed becomes: normal numbers of a shape, channels first. Each stream of a seed is independent."""

    name: str
    shape: Shape
    stream: int = 0


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
    encodes_images: bool = False  # a graph `encode_image` turns pictures into what is diffused; else pixels are
    flow: schedules.Flow | None = None  # its levels, where they are shifted times of a flow
    consistency: schedules.Consistency | None = None  # its levels, where it was distilled on those

    @property
    def clock(self) -> schedules.Timesteps | schedules.Flow | schedules.Consistency | None:
        """The levels that its network knows, where they are not those of a schedule."""
        return self.timesteps or self.flow or self.consistency

    @property
    def columns(self) -> tuple[str, ...]:
        """Of its sampler's table."""
        return (*samplers.COLUMNS, *(("c_next",) if self.whole_steps else ()), *(("m",) if self.several else ()))

    @property
    def several(self) -> bool:
        """Whether it can take more than one step."""
        return max(self.steps, default=self.most_steps) > 1

    @property
    def most_steps(self) -> int:
        return min(MAX_STEPS, self.clock.most_steps) if self.clock else MAX_STEPS

    @property
    def spacings(self) -> tuple[str, ...]:
        """The grids that a request may choose, as `dpmpp_2m@karras`; none where it was trained for its own alone."""
        if self.steps or (self.whole_steps and not self.timesteps):
            return ()
        if self.flow or self.consistency or (self.timesteps and self.timesteps.distilled):
            return ()
        return tuple(schedules.SPACINGS if self.timesteps else schedules.SCHEDULES)

    def grid(self, num_steps: int, spacing: str | None = None) -> Any:
        """The noise levels of so many steps, float64 (<= num_steps + 1,), decreasing to 0."""
        if self.timesteps:
            return self.timesteps.grid(num_steps, spacing)
        return self.clock.grid(num_steps) if self.clock else schedules.SCHEDULES[spacing or self.schedule](num_steps)

    def levels(self, num_steps: int, sampler: str, strength: float = 1.0) -> Any:
        """The noise level at which each row of that table calls the network, float64 (rows,)."""
        name, sigmas, _ = self._walk(num_steps, sampler, strength)
        return np.array([row["sigma"] for row in samplers.SAMPLERS[name].rows(sigmas)])

    def table(self, num_steps: int, sampler: str, strength: float = 1.0) -> Any:
        """A sampler's table, float64 (rows, columns), of the last `strength` of the steps, in whole steps.

        `sampler` may name the grid that it walks, after `@`.
        """
        name, sigmas, skipped = self._walk(num_steps, sampler, strength)
        dialect, start = PARAMETERIZATIONS[self.parameterization], None
        if self.clock:
            # As diffusers begins: the noise is the first state, before it was scaled.
            dialect = timed(dialect, self.clock.time)
            start = None if skipped else self.clock.start(float(sigmas[0]))
        if self.timesteps and self.timesteps.boundary:
            dialect = bounded(dialect, self.timesteps.boundary)
        found = samplers.sampler_table(samplers.SAMPLERS[name], sigmas, dialect, start, self.columns)
        return self._ended(found, name, float(sigmas[-1])) if self.timesteps else found

    def _walk(self, num_steps: int, sampler: str, strength: float) -> tuple[str, Any, int]:
        """The sampler's own name, the levels that it walks, and how many steps are left out before them."""
        name, spacing = samplers.parted(sampler)
        sigmas = self.grid(num_steps, spacing)
        if self.timesteps and not self.timesteps.to_zero and name in samplers.DDIM:
            sigmas[-1] = self.timesteps.sigmas()[0]
        skipped = self._skipped(len(sigmas) - 1, strength)
        return name, sigmas[skipped:], skipped

    def _ended(self, table: Any, name: str, end: float) -> Any:
        """The table of a network of timesteps: what it is told of a step's end, and the scale of what it ends at.

        The last x is what diffusers shows, the state alpha x of a level that may be above 0.
        """
        assert self.timesteps
        if self.whole_steps:
            ahead = self.columns.index("c_next")
            table[-1, ahead] = self.timesteps.time(np.array(end)) if end else NO_END
            if name != samplers.WHOLE_STEP:
                table[:, ahead] = NO_END
        if end:
            table[-1, [self.columns.index(column) for column in "abpsn"]] /= math.hypot(1.0, end)
            table[-1, [index for index, column in enumerate(self.columns) if column == "m"]] = 0.0
        return table

    @staticmethod
    def _skipped(steps: int, strength: float) -> int:
        """The steps that are left out at the beginning (Meng et al. 2022, SDEdit): the rest is at least one."""
        # A strength that travelled is a float32: of 1,000 steps, 3e-5 of a step less than what was said.
        return steps - max(1, min(steps, int(steps * strength + 1e-4)))


@dataclass(frozen=True)
class GeneratorSpec:
    """What a generator takes and gives. `image_shape` is HWC; a `str` in a shape is a size that a request chooses.

    A generator with a `sampling` has one noise: the state that its denoiser walks.
    """

    name: str
    family: str
    noise: tuple[Noise, ...]
    image_shape: Shape
    conditions: tuple[Condition, ...] = ()
    sampling: Sampling | None = None
    axes: tuple[Axis, ...] = ()

    def at_any_steps(self) -> GeneratorSpec:
        """The same, not bound to the numbers of steps that it was trained for: for whoever asks nothing of the images'
        quality, only what the graph computes. One that takes one step alone has another graph, and stays as it is."""
        if self.sampling is None or not self.sampling.several:
            return self
        return dataclasses.replace(self, sampling=dataclasses.replace(self.sampling, steps=()))

    def condition(self, name: str) -> Condition | None:
        return next((each for each in self.conditions if each.name == name), None)

    @property
    def guided(self) -> tuple[Condition, ...]:
        """The conditions that guidance also asks without, in their order."""
        return tuple(each for each in self.conditions if each.guided)

    @property
    def state_shape(self) -> Shape:
        """Of the first noise: for a denoiser, its state without the batch."""
        return self.noise[0].shape

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """The same at the default sizes."""
        return concrete(self.state_shape, self.default_sizes)

    @property
    def default_image_shape(self) -> tuple[int, ...]:
        return concrete(self.image_shape, self.default_sizes)

    @property
    def edits(self) -> bool:
        """Whether it can begin at a given image: it takes several steps, and images become its state."""
        if self.sampling is None or not self.sampling.several or self.condition("image"):
            return False
        height, width, channels = self.image_shape
        return self.sampling.encodes_images or self.state_shape == (channels, height, width)

    @property
    def repaints(self) -> bool:
        """Whether its network itself sees a picture and what is made anew of it: conditions, as large as its images."""
        height, width, channels = self.image_shape
        wanted = zip(EDITS, ((height, width, channels), (height, width, 1)), strict=True)
        found = [(self.condition(name), shape) for name, shape in wanted]
        shown = all(each is not None and kind(each).edge(each).shape == shape for each, shape in found)
        return self.sampling is not None and shown

    @property
    def default_sizes(self) -> dict[str, int]:
        return {axis.name: axis.default for axis in self.axes}

    @property
    def network_inputs(self) -> tuple[TensorSpec, ...]:
        """What each condition becomes for the network, of one value, in their order."""
        return tuple(tensor for condition in self.conditions for tensor in condition.tensors)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs of the graph that makes images from one request, batch first.

        A condition's tensors have an axis more: each term of a guided sum has a value of its own.
        """
        draws, terms = ("draws", "terms") if self.sampling else (1, 1)
        found = [TensorSpec(each.name, "float32", (BATCH, draws, *each.shape)) for each in self.noise]
        if self.sampling is None:
            return (*found, *(each.batched(*() if each.shape else (1,)) for each in self.network_inputs))
        found += [tensor.batched(terms) for tensor in self.network_inputs]
        if self.guided:
            found.append(TensorSpec("guidance_weights", "float32", (BATCH, "weight_rows", terms)))
        found.append(TensorSpec("table", "float32", (BATCH, "rows", len(self.sampling.columns))))
        if self.edits:
            found += [TensorSpec(name, "float32", (BATCH, "kept")) for name in ("known", "mask")]
        return tuple(found)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec("images", "uint8", (BATCH, *self.image_shape)),)

    def to_json(self) -> dict[str, Any]:
        """Plain values. What the first generators could say is written as they were."""
        found = dataclasses.asdict(self)
        for name in ("timesteps", "whole_steps", "encodes_images", "flow", "consistency"):
            if self.sampling and not getattr(self.sampling, name):
                del found["sampling"][name]
        if self.sampling and self.sampling.timesteps and self.sampling.timesteps.to_zero:
            del found["sampling"]["timesteps"]["to_zero"]
        if self.sampling and self.sampling.flow and not self.sampling.flow.solver:
            del found["sampling"]["flow"]["solver"]
        found["conditions"] = [condition.to_json() for condition in self.conditions]
        return first_format.written(found) or found

    @classmethod
    def from_json(cls, data: Any) -> GeneratorSpec:
        """The inverse of `to_json`; data may come from outside. Raises PlainError for what no generator is."""
        check_depth(data, "spec")
        check_sizes(data, MAX_SIZE, "spec")
        data = first_format.read(data) if first_format.is_of(data) else data
        conditions = data.get("conditions", []) if isinstance(data, Mapping) else None
        if not isinstance(conditions, list | tuple) or len(conditions) > MAX_ITEMS:
            raise PlainError(
                f"spec is {str(data)[:40]!r}, expected an object with a list of conditions, at most {MAX_ITEMS}"
            )
        spec = rebuild(cls, {**data, "conditions": []}, "spec")
        found = tuple(Condition.from_json(each, spec.default_sizes) for each in conditions)
        spec = dataclasses.replace(spec, conditions=found)
        _check(spec)
        return spec


# In the config.json of a checkpoint these stand beside what else it says, in today's form or the first.
SPEC_FIELDS = tuple(
    dict.fromkeys(field.name for kind in (GeneratorSpec, first_format.FirstSpec) for field in dataclasses.fields(kind))
)


def _check(spec: GeneratorSpec) -> None:
    """Raises PlainError for what no generator takes or gives."""
    if len(spec.image_shape) != 3 or (spec.sampling and len(spec.noise) != 1) or not all(e.shape for e in spec.noise):
        raise PlainError(f"its images are {spec.image_shape}, its noises {[each.shape for each in spec.noise]}")
    if isinstance(spec.image_shape[2], str):
        raise PlainError(f"its images have {spec.image_shape[2]} channels, expected a number")
    streams = [each.stream for each in spec.noise]
    if min(streams, default=0) < 0 or len(set(streams)) < len(streams):
        raise PlainError(f"its noises are of the streams {streams}: each is one of its own, 0 or more")
    _check_names(spec)
    _check_beside(spec.conditions)
    for axis in spec.axes:
        _check_axis(axis)
    _check_shapes(spec)
    if spec.sampling:
        _check_sampling(spec.sampling)
    elif spec.guided:
        raise PlainError(f"{spec.guided[0].name} is guided, and images are made in one call: guidance needs a sampler")


def _check_names(spec: GeneratorSpec) -> None:
    """Raises PlainError for names that collide: on the way to a server, or in a composed graph."""
    own, tensors = [each.name for each in spec.conditions], [tensor.name for tensor in spec.network_inputs]
    columns = [*own, *(each.negative for each in spec.conditions if each.negative)]
    columns += [f"{each.name}_guidance_scale" for each in spec.guided]
    pictures = {each.name for each in spec.conditions if each.kind == "image"} & set(EDITS)
    begins = set(EDITS) - (pictures if "image" in pictures else set()) if spec.sampling else set()
    names.check([*columns, *(axis.name for axis in spec.axes)], names.REQUEST | begins)
    names.check((axis.name for axis in spec.axes), names.AXES)
    noises = [each.name for each in spec.noise]
    names.check([*noises, *tensors], frozenset({"self"}))
    if spec.sampling:
        names.check(names.of_a_loop(tensors), names.LOOP | set(noises))
        names.check(noises, names.LOOP - {"noise"})


def _check_beside(conditions: Sequence[Condition]) -> None:
    """Raises PlainError for what an encoder cannot be given beside its own condition."""
    plain = {each.name for each in conditions if not each.encoded}
    for condition in conditions:
        for name in condition.beside:
            if not condition.encoded or name == condition.name or name not in plain:
                raise PlainError(
                    f"{condition.name} is encoded beside {name[:40]!r}, expected another condition that is not encoded"
                )
        if len(set(condition.beside)) < len(condition.beside):
            raise PlainError(f"{condition.name} is encoded beside the same condition twice")


def _check_axis(axis: Axis) -> None:
    sizes = (axis.minimum, axis.default, axis.maximum)
    if not 1 <= axis.minimum <= axis.default <= axis.maximum or axis.multiple < 1:
        raise PlainError(f"the axis {axis.name} has no size from {axis.minimum} to {axis.maximum}")
    if any(size % axis.multiple for size in sizes):
        raise PlainError(f"the axis {axis.name} has the sizes {sizes}, expected multiples of {axis.multiple}")


def _check_shapes(spec: GeneratorSpec) -> None:
    """Raises PlainError for shapes that cannot be at the least or at the greatest sizes."""
    shapes = [*(each.shape for each in spec.noise), *(tensor.shape for tensor in spec.network_inputs)]
    for sizes in ({axis.name: axis.minimum for axis in spec.axes}, {axis.name: axis.maximum for axis in spec.axes}):
        total = 0
        for shape in (*shapes, spec.image_shape):
            try:
                found = concrete(shape, sizes)
            except KeyError as error:
                raise PlainError(f"the shape {shape} has an axis that is not declared, {error}") from error
            total += math.prod(found)
            if min(found, default=1) < 1 or total > MAX_VALUES:
                raise PlainError(f"the shape {found} is outside 1 to {MAX_VALUES} values, together with all others")


def _check_sampling(sampling: Sampling) -> None:
    try:
        if not sampling.samplers or not 1 <= sampling.num_steps <= sampling.most_steps:
            raise ValueError(f"{sampling.num_steps} steps by {len(sampling.samplers)} samplers")
        if len(set(sampling.samplers)) < len(sampling.samplers):
            raise ValueError("a sampler comes twice")
        if sampling.steps and not (
            sampling.num_steps in sampling.steps
            and 1 <= min(sampling.steps) <= max(sampling.steps) <= sampling.most_steps
        ):
            raise ValueError(f"{sampling.num_steps} steps, trained for {sampling.steps}")
        if not sampling.max_guidance_scale >= 1.0:
            raise ValueError(f"a guidance scale of at most {sampling.max_guidance_scale:g}")
        for sampler in sampling.samplers:
            with np.errstate(all="ignore"):
                table = sampling.table(sampling.num_steps, sampler)
            if not np.isfinite(table).all():
                raise ValueError(f"its levels are no numbers by {sampler}")
    except (ArithmeticError, LookupError, ValueError) as error:
        raise PlainError(f"its sampling is unknown here ({error}); a newer genzoo may know it") from error
