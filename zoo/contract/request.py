"""What is asked of a generator: `(seeds, conditions, setting, sizes) -> images, uint8 NHWC`.

A request travels as columns, `columns`: a named array with one value an image for each thing that was asked for, the
same in a process and on the way to a server. Settings, sizes and values of conditions are checked here.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from zoo.contract.assets import NO_ASSETS, Assets
from zoo.contract.conditions import Condition, Sizes, arrays, default, image
from zoo.contract.errors import RequestError, nearest, shown
from zoo.contract.spec import EDITS, GeneratorSpec, Sampling
from zoo.sampling import guidance, noise, samplers

Columns = dict[str, np.ndarray]
MAX_MIXED = 4  # values of one condition in one image
IMAGE_STRENGTH = 0.6  # of a request that gives an image and no strength: about half of what is seen stays


@dataclass(frozen=True)
class Setting:
    """How a generator is asked; None is its default. It decides what an image costs; no seed and no value does.

    `sampler` may name a grid of noise levels after `@`, in place of the generator's own: `dpmpp_2m@karras`, or
    `@karras` for its own sampler.

    `guidance_scales` are those of single conditions, in place of `guidance_scale`. Guidance is on at noise levels from
    the first to the second of `guidance_interval`, in units of sigma. `strength` in (0, 1] is the share of the steps
    that are taken from a given image.
    """

    num_steps: int | None = None
    sampler: str | None = None
    guidance_scale: float = 1.0
    guidance_scales: tuple[tuple[str, float], ...] = ()
    guidance_interval: tuple[float, float] | None = None
    strength: float | None = None

    def resolved(self, spec: GeneratorSpec) -> Setting:
        """With the generator's defaults in place of None; a one-shot generator has none."""
        if spec.sampling is None:
            return self
        num_steps = spec.sampling.num_steps if self.num_steps is None else self.num_steps
        sampler = spec.sampling.samplers[0] if self.sampler is None else self.sampler
        if isinstance(sampler, str) and sampler.startswith(samplers.AT):
            sampler = spec.sampling.samplers[0] + sampler
        return dataclasses.replace(self, num_steps=num_steps, sampler=sampler)

    def scales(self, spec: GeneratorSpec) -> tuple[float, ...]:
        """One for each guided condition, in their order."""
        own = dict(self.guidance_scales)
        return tuple(own.get(condition.name, self.guidance_scale) for condition in spec.guided)

    def to_json(self) -> dict[str, Any]:
        """Plain values; without what came later than the first records and is at its default."""
        found = dataclasses.asdict(self)
        return {key: found[key] for key in found if key in FIRST_FIELDS or found[key] != DEFAULTS[key]}


FIRST_FIELDS = ("num_steps", "sampler", "guidance_scale")
DEFAULTS = {each.name: each.default for each in dataclasses.fields(Setting)}
EVERY_LEVEL = (0.0, math.inf)  # a guidance interval that leaves none out
ROW_FIELDS = ("num_steps", "guidance_scale", "sampler", "strength")  # of a setting, one value an image each


@dataclass(frozen=True)
class Mixture:
    """Several values of a condition in one image, each with a weight; they are scaled to a sum of one.

    The estimates are added, not the values (Liu et al. 2022, equation 11).
    """

    values: tuple[Any, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class SampleRequest:
    """Images asked for, one a seed. A condition has a value a seed, or one for all of them, or is left out: then it is
    the generator's default. `sizes` are of the generator's axes."""

    seeds: tuple[int, ...]
    conditions: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    setting: Setting = Setting()
    sizes: Sizes = field(default_factory=dict)

    def rows(self, picked: slice) -> SampleRequest:
        """The same for some of its seeds."""
        conditions = {name: each if len(each) == 1 else each[picked] for name, each in self.conditions.items()}
        return dataclasses.replace(self, seeds=self.seeds[picked], conditions=conditions)


def takes(spec: GeneratorSpec) -> dict[str, Condition]:
    """Everything with a value of its own that a request may give, by name: conditions, what stands for none of them
    (a negative prompt), and an image to begin with."""
    found = {condition.name: condition for condition in spec.conditions}
    for each in spec.conditions:
        if each.negative:
            found[each.negative] = dataclasses.replace(each, name=each.negative, guided=False)
    if spec.edits:
        height, width, channels = spec.image_shape
        assert isinstance(channels, int)
        found["image"] = Condition("image", "image", image.Options(height, width, channels))
        found["mask_image"] = Condition("mask_image", "image", image.Options(height, width, 1, low=0.0))
    return found


def told(spec: GeneratorSpec) -> dict[str, str]:
    """What a request may give, each in a line for people: the kind of a value, its bounds, and what it is without."""
    found = {}
    for name, condition in takes(spec).items():
        bounds = ", ".join(f"{key} {value}" for key, value in dataclasses.asdict(condition.options).items())
        default = "" if condition.default is None else f"; {condition.default} by default"
        found[name] = f"{condition.kind}, {bounds}{default}{'; guided' if condition.guided else ''}"
    if spec.guided and spec.sampling and spec.sampling.max_guidance_scale > 1.0:
        found["guidance_scale"] = f"0 to {spec.sampling.max_guidance_scale:g}; 1, which is none, by default"
    if spec.edits:
        found["strength"] = "above 0 to 1, of an image"
    for axis in spec.axes:
        step = f" by {axis.multiple}" if axis.multiple > 1 else ""
        found[axis.name] = f"{axis.minimum} to {axis.maximum}{step}; {axis.default} by default"
    return found


def taken(spec: GeneratorSpec, name: str) -> Condition:
    """What a request gives under a name. Raises RequestError where the generator takes no such thing."""
    known = takes(spec)
    if name in known:
        return known[name]
    why = nearest(name, known) if known else "it is unconditional"
    raise RequestError(f"{spec.name} takes no {name}: {why_no_edits(spec) if name in EDITS else why}")


@dataclass(frozen=True)
class Plan:
    """What a setting makes of an image's sampling, whatever its values: a sampler's table, a network call a row."""

    table: np.ndarray  # (rows, columns) float64
    levels: np.ndarray  # (rows,) float64, the noise level of each row
    draws: int  # of noise


def plan(spec: GeneratorSpec, setting: Setting) -> Plan | None:
    """The plan of a setting; None for a one-shot generator. Raises RequestError."""
    setting = check(spec, setting).resolved(spec)
    if spec.sampling is None:
        return None
    assert setting.num_steps is not None
    assert setting.sampler is not None
    return _plan(spec.sampling, setting.num_steps, setting.sampler, setting.strength or 1.0)


@lru_cache(maxsize=256)
def _plan(sampling: Sampling, num_steps: int, sampler: str, strength: float) -> Plan:
    rows: np.ndarray = sampling.table(num_steps, sampler, strength)
    rows.flags.writeable = False
    levels = sampling.levels(num_steps, sampler, strength)
    return Plan(rows, levels, len(rows) if samplers.is_stochastic(rows) else 1)


def table(spec: GeneratorSpec, setting: Setting) -> np.ndarray | None:
    """The table of that plan. Raises RequestError."""
    found = plan(spec, setting)
    return None if found is None else found.table


def check(spec: GeneratorSpec, setting: Setting) -> Setting:
    """The setting, if the generator can be asked so. Raises RequestError."""
    _check_types(setting)
    sampling, asked = spec.sampling, setting
    setting = setting.resolved(spec)
    if sampling is None:
        if setting.num_steps not in (None, 1) or setting.sampler is not None:
            raise RequestError(f"{spec.name} makes its images in one call: it takes neither steps nor a sampler")
    else:
        _check_steps(spec, setting)
    _check_guidance(spec, setting)
    if setting.strength is not None:
        if not spec.edits:
            raise RequestError(f"{spec.name} takes no strength: {why_no_edits(spec)}")
        if not 0.0 < setting.strength <= 1.0:
            raise RequestError(f"strength {setting.strength:g} is outside 0 to 1, where 0 would change nothing")
    return asked


def _check_types(setting: Setting) -> None:
    """A setting may be written by hand. Raises RequestError."""
    if setting.num_steps is not None and not is_whole(setting.num_steps):
        raise RequestError(f"num_steps {shown(setting.num_steps)} is no whole number")
    if setting.sampler is not None and not isinstance(setting.sampler, str):
        raise RequestError(f"sampler {shown(setting.sampler)} is no name")
    ends: tuple[Any, ...] = ()
    if (interval := setting.guidance_interval) is not None:
        if not isinstance(interval, tuple) or len(interval) != 2:
            raise RequestError(f"guidance_interval {shown(interval)}: give two noise levels, the lower first")
        ends = interval
    own = [(f"guidance_scale of {name}", scale) for name, scale in setting.guidance_scales]
    strength = 1.0 if setting.strength is None else setting.strength
    given = [("guidance_scale", setting.guidance_scale), *own, ("strength", strength)]
    for name, number in (*given, *(("guidance_interval", end) for end in ends)):
        real = isinstance(number, float | np.integer | np.floating) or (is_whole(number) and abs(number) < 1 << 53)
        if not real:
            raise RequestError(f"{name} {shown(number)} is no number")


def is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _check_steps(spec: GeneratorSpec, setting: Setting) -> None:
    sampling, num_steps, sampler = spec.sampling, setting.num_steps, setting.sampler
    assert sampling is not None
    assert num_steps is not None
    assert sampler is not None
    _check_sampler(spec, sampling, sampler)
    if not 1 <= num_steps <= sampling.most_steps:
        raise RequestError(f"num_steps {shown(num_steps)} is outside 1 to {sampling.most_steps}")
    if sampling.steps and num_steps not in sampling.steps:
        allowed = ", ".join(map(str, sampling.steps))
        raise RequestError(f"{spec.name} was trained for {allowed} steps, not {num_steps}")


def _check_sampler(spec: GeneratorSpec, sampling: Sampling, sampler: str) -> None:
    name, spacing = samplers.parted(sampler)
    if name not in sampling.samplers:
        raise RequestError(f"{spec.name} has no sampler {shown(name)}: {nearest(name, sampling.samplers)}")
    if spacing is not None and spacing not in sampling.spacings:
        why = nearest(spacing, sampling.spacings) if sampling.spacings else "it was trained for its own grid alone"
        raise RequestError(f"{spec.name} has no spacing {shown(spacing)}: {why}")


def _check_guidance(spec: GeneratorSpec, setting: Setting) -> None:
    names = [condition.name for condition in spec.guided]
    for name, _ in setting.guidance_scales:
        if name not in names:
            raise RequestError(
                f"{spec.name} is not guided by {shown(name)}: {nearest(name, names) if names else 'by nothing'}"
            )
    limit = spec.sampling.max_guidance_scale if spec.sampling else 1.0
    most = max(limit, float(np.float32(limit)))  # as a scale is that travelled
    for scale in (setting.guidance_scale, *(scale for _, scale in setting.guidance_scales)):
        if not (scale == 1.0 or (0.0 <= scale <= most and names)):
            wanted = f"between 0 and {limit:g}" if limit > 1.0 and names else "1, it was not trained for guidance"
            raise RequestError(f"guidance_scale {scale:g} for {spec.name}: must be {wanted}")
    if (interval := setting.guidance_interval) is not None and not 0.0 <= interval[0] < interval[1]:
        raise RequestError(
            f"guidance_interval {interval[0]:g} to {interval[1]:g}: give two noise levels, the lower first"
        )
    if interval not in (None, EVERY_LEVEL) and set(setting.scales(spec)) <= {1.0}:
        raise RequestError("a guidance_interval without a guidance_scale changes nothing: give both")


def why_no_edits(spec: GeneratorSpec) -> str:
    """Why a generator cannot begin with an image, as a clause."""
    if spec.sampling is None:
        return "it makes its images in one call, and cannot begin with an image"
    if not spec.sampling.several:
        return "it takes one step, and cannot begin half-way"
    if spec.condition("image"):
        return "its image is a condition of its own"
    return f"its state {spec.state_shape} is no image, and nothing here turns an image into one"


def check_seeds(seeds: Sequence[int]) -> None:
    """Raises RequestError for a seed that is no key of the noise, and where there is none."""
    if not len(seeds):
        raise RequestError("no seed was given: each image is made from one")
    for seed in seeds:
        if not is_whole(seed):
            raise RequestError(f"seed {shown(seed)} is no whole number")
        if not 0 <= seed <= noise.MAX_SEED:
            raise RequestError(f"seed {shown(seed)} is outside 0 to 2**64 - 1")


def nfe(spec: GeneratorSpec, setting: Setting) -> int:
    """Network calls for one image: a table's rows, times the terms of its guidance. Raises RequestError."""
    rows = table(spec, setting)
    return 1 if rows is None else len(rows) * len(terms(spec, setting))


def terms(spec: GeneratorSpec, setting: Setting, shares: tuple[float, ...] = (1.0,)) -> tuple[guidance.Term, ...]:
    """The terms of an image's guided estimate; `shares` are the weights of its mixture."""
    return guidance.terms(tuple(each.name for each in spec.guided), setting.scales(spec), shares)


def sizes_of(spec: GeneratorSpec, asked: Sizes) -> dict[str, int]:
    """Every size, the asked and the defaults. Raises RequestError."""
    found = spec.default_sizes
    for name, size in asked.items():
        axis = next((each for each in spec.axes if each.name == name), None)
        if axis is None:
            has = f"it has {', '.join(found)}" if found else "its images are of one size"
            raise RequestError(f"{spec.name} has no size {shown(name)}: {has}")
        if not is_whole(size):
            raise RequestError(f"{name} {shown(size)} is no whole number")
        if not axis.minimum <= size <= axis.maximum or size % axis.multiple:
            wanted = f"{axis.minimum} to {axis.maximum}" + (f" by {axis.multiple}" if axis.multiple > 1 else "")
            raise RequestError(f"{name} {shown(size)} for {spec.name}: must be {wanted}")
        found[name] = int(size)
    return found


def columns(spec: GeneratorSpec, request: SampleRequest) -> Columns:
    """A request as arrays of one value an image, (B, ...): what it leaves to the generator is left out.

    Raises RequestError for what the generator cannot do.
    """
    check_seeds(request.seeds)
    check(spec, request.setting)
    batch, sizes = len(request.seeds), sizes_of(spec, request.sizes)
    found: Columns = {"seed": np.array(request.seeds, np.uint64)}
    mixtures: dict[str, np.ndarray] = {}
    for name, values in request.conditions.items():
        condition = taken(spec, name)
        if len(values) not in (1, batch):
            raise RequestError(f"{len(values)} {name} for {batch} seeds: give one for each, or one for all")
        found[name], shares = _column(condition, list(values) * (batch if len(values) == 1 else 1), sizes)
        if shares is not None:
            mixtures[name] = shares
    if mixtures:
        found["mixture"] = _one_mixture(mixtures)
    found |= {name: np.full(batch, size, np.int32) for name, size in request.sizes.items()}
    found |= _setting_columns(request.setting, batch)
    check_edit(found)
    return found


def check_edit(given: Mapping[str, Any]) -> None:
    """Raises RequestError where something is said of an image to begin with, and there is none."""
    for name in ("mask_image", "strength"):
        if name in given and "image" not in given:
            raise RequestError(f"{name} was given and no image: give the image that it is about")


def _column(condition: Condition, values: list[Any], sizes: Sizes) -> tuple[np.ndarray, np.ndarray | None]:
    """(B, *edge); where any value is a mixture, (B, values, *edge) and the weights of each, (B, values)."""
    if not any(isinstance(value, Mixture) for value in values):
        return arrays(condition, values, sizes), None
    if not condition.guided:
        raise RequestError(f"{condition.name} takes one value an image: only what guidance asks without can be mixed")
    mixed = [value if isinstance(value, Mixture) else Mixture((value,), (1.0,)) for value in values]
    for each in mixed:
        if len(each.values) > MAX_MIXED:
            raise RequestError(f"{condition.name} mixes {len(each.values)} values: at most {MAX_MIXED} in one image")
        if len(each.values) != len(each.weights) or not _are_weights(each.weights):
            raise RequestError(
                f"{condition.name} mixes {len(each.values)} values by the weights {each.weights}: "
                "give one for each, none below 0, with a sum above 0"
            )
    most = max(len(each.values) for each in mixed)
    weights = np.zeros((len(mixed), most), np.float32)
    for row, each in enumerate(mixed):
        weights[row, : len(each.weights)] = each.weights
    flat = [(*each.values, *each.values[:1] * (most - len(each.values))) for each in mixed]
    found = arrays(condition, [value for row in flat for value in row], sizes)
    return found.reshape(len(mixed), most, *found.shape[1:]), weights


def _are_weights(weights: Sequence[float]) -> bool:
    return bool(np.isfinite(weights).all() and min(weights) >= 0.0 and sum(weights) > 0.0)


def _one_mixture(mixtures: Mapping[str, np.ndarray]) -> np.ndarray:
    first, *others = mixtures.values()
    if any(not np.array_equal(first, other) for other in others):
        raise RequestError(f"{' and '.join(mixtures)} are mixed with different weights: give them the same")
    return first


def _setting_columns(setting: Setting, batch: int) -> Columns:
    found: Columns = {}
    if setting.num_steps is not None:
        found["num_steps"] = np.full(batch, setting.num_steps, np.int32)
    if setting.guidance_scale != 1.0:
        found["guidance_scale"] = np.full(batch, setting.guidance_scale)
    if setting.sampler is not None:
        found["sampler"] = np.full(batch, setting.sampler)
    found |= {f"{name}_guidance_scale": np.full(batch, scale) for name, scale in setting.guidance_scales}
    if setting.guidance_interval is not None:
        found["guidance_interval"] = np.tile(np.array(setting.guidance_interval), (batch, 1))
    if setting.strength is not None:
        found["strength"] = np.full(batch, setting.strength)
    return found


def settings(spec: GeneratorSpec, given: Columns) -> list[Setting]:
    """The setting of each image, its strength by whether there is an image to begin with. Raises RequestError."""
    for name in set(given) & set(EDITS):
        taken(spec, name)
    batch, edited = len(given["seed"]), "image" in given and spec.edits
    usual = usual_strength(given) if edited else None
    own = [f"{condition.name}_guidance_scale" for condition in spec.guided]
    rows = {name: _each(given, name, batch) for name in (*ROW_FIELDS, *own)}
    ends = _intervals(given, batch)
    found = []
    for row in range(batch):
        scale, strength = rows["guidance_scale"][row], rows["strength"][row]
        scales = [(name.removesuffix("_guidance_scale"), rows[name][row]) for name in own]
        setting = Setting(
            rows["num_steps"][row],
            rows["sampler"][row],
            1.0 if scale is None else scale,
            tuple((name, value) for name, value in scales if value is not None),
            ends[row],
            usual if strength is None else strength,
        )
        found.append(setting)
    for setting in set(found):
        check(spec, setting)
    if not edited:
        check_edit(given)
    return found


def usual_strength(given: Columns) -> float:
    """Of images to begin with that nobody gave a strength."""
    return 1.0 if "mask_image" in given else IMAGE_STRENGTH


def _each(given: Columns, name: str, batch: int) -> list[Any]:
    """A value for each image; text as str, though a server hands it over as bytes. Raises RequestError."""
    if (found := given.get(name)) is None:
        return [None] * batch
    if found.shape not in ((batch,), (batch, 1)):
        raise RequestError(f"{name} has the shape {found.shape} for {batch} seeds: give one value for each")
    try:
        return [value.decode() if isinstance(value, bytes) else value for value in found.reshape(-1).tolist()]
    except UnicodeDecodeError as error:
        raise RequestError(f"{name} is no text in UTF-8 ({error.reason})") from error


def _intervals(given: Columns, batch: int) -> list[tuple[float, float] | None]:
    if (found := given.get("guidance_interval")) is None:
        return [None] * batch
    if found.shape != (batch, 2):
        raise RequestError(f"guidance_interval has the shape {found.shape} for {batch} seeds: give two levels for each")
    return [(low, high) for low, high in found.tolist()]


def shares(spec: GeneratorSpec, given: Columns) -> list[tuple[float, ...]]:
    """The weights of each image's mixture, which sum to one: one weight where nothing is mixed. Raises RequestError."""
    batch = len(given["seed"])
    several = mixed(spec, given)
    count = max(several.values(), default=1)
    if wrong := [name for name, values in several.items() if values not in (1, count) or not 1 <= values <= MAX_MIXED]:
        raise RequestError(
            f"{wrong[0]} has {several[wrong[0]]} values for one image: give one, or as many as all that is mixed, "
            f"at most {MAX_MIXED}"
        )
    if (weights := given.get("mixture")) is None:
        return [(1.0 / count,) * count] * batch
    weights = np.asarray(weights, np.float64)
    if weights.shape != (batch, count) or not all(map(_are_weights, weights)):
        seen = " ".join(f"{weight:g}" for weight in weights.reshape(-1)[:MAX_MIXED])
        raise RequestError(
            f"mixture {seen} for {count} values: give one weight for each, none below 0, with a sum above 0"
        )
    return [tuple((row / row.sum()).tolist()) for row in weights]


def mixed(spec: GeneratorSpec, given: Columns) -> dict[str, int]:
    """How many values an image has of each condition whose values, or one, stand on an axis of their own."""
    return {
        each.name: given[each.name].shape[1]
        for each in spec.guided
        if each.name in given and given[each.name].ndim == each.rank + 2
    }


def defaults(spec: GeneratorSpec, seeds: Sequence[int], assets: Assets = NO_ASSETS) -> Columns:
    """What each condition is for each seed where nobody gave one, (B, *edge) by name. Raises RequestError."""
    given: Columns = {"seed": np.asarray(seeds, np.uint64)}
    sizes = sizes_of(spec, {})
    return {each.name: values(spec, each, given, sizes, assets)[:, 0] for each in spec.conditions}


def values(
    spec: GeneratorSpec, condition: Condition, given: Columns, sizes: Sizes, assets: Assets = NO_ASSETS
) -> np.ndarray:
    """The arrays of a condition for each image, (B, values, *edge): given, or the generator's default.

    Several values of one image are a mixture. Raises RequestError.
    """
    batch, seeds = len(given["seed"]), given["seed"].reshape(-1).tolist()
    found = given.get(condition.name)
    if found is None:
        if condition.name == "mask_image" and "image" in given and condition.default is None:
            raise RequestError("image was given and no mask_image: give the mask of what is made anew, in white")
        return arrays(condition, [default(condition, seed, assets) for seed in seeds], sizes)[:, None]
    rank = condition.rank
    if found.ndim == rank + 1:
        found = found[:, None]
    most = MAX_MIXED if condition.guided else 1
    if found.ndim != rank + 2 or len(found) != batch or not 1 <= found.shape[1] <= most:
        raise RequestError(
            f"{condition.name} has the shape {found.shape} for {batch} seeds: give one value for each, "
            f"or up to {MAX_MIXED} that are mixed, where guidance asks without it"
        )
    flat = arrays(condition, list(found.reshape(batch * found.shape[1], *found.shape[2:])), sizes)
    return flat.reshape(*found.shape[:2], *flat.shape[1:])
