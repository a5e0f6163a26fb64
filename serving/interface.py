"""What a generator's public model takes and gives; NumPy only, because Triton's models import it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np

from export.tiers import EXACT
from zoo.contract.assets import NO_ASSETS, Assets
from zoo.contract.conditions import kind, null
from zoo.contract.errors import RequestError
from zoo.contract.feeds import Tensors
from zoo.contract.graph import BATCH, TensorSpec, concrete
from zoo.contract.request import (
    EVERY_LEVEL,
    SampleRequest,
    Setting,
    check_edit,
    columns,
    mixed,
    settings,
    shares,
    sizes_of,
    takes,
    usual_strength,
    values,
)
from zoo.contract.spec import GeneratorSpec

ONNX_FILE = "model.onnx"  # of a graph in a model repository
TIER = "tier"  # the parameter of a request that says how far from exact its images may be
# Parameters of a model that goes by rows: a name for the request, and the name of one of which is asked whether it is
# still being made (one whose process has died is never answered); and 1 for what goes before all others, for Triton
# keeps its own `priority` to itself, and the queue that it is for is always empty.
ORDER, ABOUT, URGENT = "order", "about_order", "urgent"
CANARY = "canary"  # 1 in a request of nobody's, so that it can be counted apart
STEP_FILES = {"step": "step.onnx", "decoder": "decoder.onnx"}  # beside that of a graph whose table they walk by rows
BUNDLES = "bundles"  # the folder in a public model of what was tuned for the host
# NumPy's names of types -> Triton's; a configuration writes TYPE_ before them, and TYPE_STRING for text.
DTYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "int32": "INT32",
    "int64": "INT64",
    "uint64": "UINT64",
    "float16": "FP16",
    "float32": "FP32",
    "str": "BYTES",
}


def datatype(dtype: np.dtype) -> str:
    """Triton's name of a tensor's type. Raises KeyError for a type that no model here takes."""
    return DTYPES["str" if dtype.kind == "U" else dtype.name]


def inputs(spec: GeneratorSpec) -> tuple[TensorSpec, ...]:
    """One value an image each, batch first; all but `seed` may be left out.

    A single value is (B, 1). What guidance also asks without may be mixed: then a value is (B, values, ...).
    """
    found = [TensorSpec("seed", "uint64", (BATCH, 1))]
    for name, condition in takes(spec).items():
        edge = kind(condition).edge(condition)
        several: tuple[int | str, ...] = ("values",) if condition.guided else () if edge.shape else (1,)
        found.append(TensorSpec(name, edge.dtype, (BATCH, *several, *edge.shape)))
    if spec.guided:
        found.append(TensorSpec("mixture", "float32", (BATCH, "values")))
    if spec.sampling:
        found.append(TensorSpec("num_steps", "int32", (BATCH, 1)))
        found.append(TensorSpec("guidance_scale", "float32", (BATCH, 1)))
        found.append(TensorSpec("sampler", "str", (BATCH, 1)))
        if len(spec.guided) > 1:
            found += [TensorSpec(f"{each.name}_guidance_scale", "float32", (BATCH, 1)) for each in spec.guided]
        if spec.guided:
            found.append(TensorSpec("guidance_interval", "float32", (BATCH, 2)))
        if spec.edits:
            found.append(TensorSpec("strength", "float32", (BATCH, 1)))
    found += [TensorSpec(axis.name, "int32", (BATCH, 1)) for axis in spec.axes]
    return tuple(found)


def outputs(spec: GeneratorSpec) -> tuple[TensorSpec, ...]:
    return (TensorSpec("image", "uint8", (BATCH, *spec.image_shape)),)


def tensors(spec: GeneratorSpec, request: SampleRequest) -> Tensors:
    """A request as the public model's inputs, (B, ...) each; what the request leaves to the generator is left out.

    Raises RequestError.
    """
    declared = {each.name: each for each in inputs(spec)}
    return {name: _as_declared(each, declared[name]) for name, each in columns(spec, request).items()}


def _as_declared(column: np.ndarray, declared: TensorSpec) -> np.ndarray:
    """In the declared type; where several values may stand, an array is one of them."""
    if 1 < column.ndim < len(declared.shape):
        column = column[:, None]
    return column if declared.dtype == "str" else column.astype(declared.dtype)


def merged(
    spec: GeneratorSpec, parts: Sequence[Tensors], assets: Assets = NO_ASSETS, *, checked: bool = False
) -> Tensors:
    """One batch of several requests' inputs: where they name other inputs, what changes nothing fills the gaps.

    `checked`: each has been found right by itself (`Feeds.check`). Raises RequestError.
    """
    if any("seed" not in part for part in parts):  # Triton lets it pass where other inputs are optional
        raise RequestError(f"{spec.name} was sent no seed: it needs one, UINT64 [1], for each image")
    if len(parts) == 1:
        return parts[0]
    for part in () if checked else parts:  # what is wrong alone may look right beside what fills its gaps
        settings(spec, part)
        shares(spec, part)
    parts = [_with_strength(spec, part) for part in parts]
    names = list(dict.fromkeys(name for part in parts for name in part))
    count = max(_values(spec, part) for part in parts)
    if count > 1 and "mixture" not in names:
        names.append("mixture")
    filled = [_spread(spec, part | _neutral(spec, names, part, assets), count) for part in parts]
    return {name: np.concatenate([part[name] for part in filled]) for name in names}


def _with_strength(spec: GeneratorSpec, part: Tensors) -> Tensors:
    """The strength that a request leaves open depends on what else it says: it is written down before it is merged.

    Raises RequestError for a request that would edit the picture of another.
    """
    check_edit(part)
    if "image" not in part or "strength" in part or not spec.edits:
        return part
    return part | {"strength": np.full((len(part["seed"]), 1), usual_strength(part), np.float32)}


def _values(spec: GeneratorSpec, part: Tensors) -> int:
    """Of a mixture: how many values an image has."""
    return max(mixed(spec, part).values(), default=1)


def _neutral(spec: GeneratorSpec, names: Sequence[str], part: Tensors, assets: Assets) -> Tensors:
    """What stands for an input that a request has left out, and changes nothing of it, (B, ...) each."""
    seeds, known, sizes = part["seed"].reshape(-1), takes(spec), _sizes(spec, part)
    found: Tensors = {}
    for name in names:
        if name in part:
            continue
        if (condition := spec.condition(name)) is not None:
            found[name] = values(spec, condition, {"seed": seeds}, sizes, assets)
        elif name == "mixture":
            count = _values(spec, part)
            found[name] = np.full((len(seeds), count), 1.0 / count, np.float32)
        elif name in known:
            value = WHOLE.get(name, null(known[name], sizes))
            shape = concrete(kind(known[name]).edge(known[name]).shape, sizes)
            found[name] = np.broadcast_to(value, (len(seeds), *shape)).copy()
        elif name in sizes:
            found[name] = np.full((len(seeds), 1), sizes[name], np.int32)
        else:
            found[name] = _setting(spec, name, part)
    return found


def _sizes(spec: GeneratorSpec, part: Tensors) -> dict[str, int]:
    """Of a request's images, by its first."""
    names = (axis.name for axis in spec.axes if axis.name in part)
    return sizes_of(spec, {name: int(part[name].reshape(-1)[0]) for name in names})


WHOLE = {"mask_image": np.uint8(255)}  # white: nothing is kept


def _setting(spec: GeneratorSpec, name: str, part: Tensors) -> np.ndarray:
    batch, sampling = len(part["seed"]), spec.sampling
    if sampling is None:
        raise RequestError(f"{spec.name} takes no {name}: it makes its images in one call")
    if name == "sampler":
        return np.full((batch, 1), sampling.samplers[0].encode(), object)
    if name == "num_steps":
        return np.full((batch, 1), sampling.num_steps, np.int32)
    if name == "guidance_interval":
        return np.tile(np.array(EVERY_LEVEL, np.float32), (batch, 1))
    if name.endswith("_guidance_scale") and "guidance_scale" in part:
        return part["guidance_scale"].reshape(batch, 1)
    return np.ones((batch, 1), np.float32)  # of guidance, and the strength of what begins with noise


def _spread(spec: GeneratorSpec, part: Tensors, count: int) -> Tensors:
    """So many values of each guided condition, those that were not asked for without weight; one of all others."""
    found = {name: each.reshape(len(each), -1) if each.ndim < 2 else each for name, each in part.items()}
    for name, condition in takes(spec).items():
        if name in found:
            rank = condition.rank
            each = found[name].reshape(len(found[name]), -1, *found[name].shape[found[name].ndim - rank :])
            if condition.guided:
                found[name] = np.concatenate([each, *[each[:, :1]] * (count - each.shape[1])], axis=1)
            else:
                found[name] = each[:, 0] if rank else each
    if "mixture" in found:
        found["mixture"] = np.pad(found["mixture"], ((0, 0), (0, count - found["mixture"].shape[1])))
    return found


def of_one_kind(spec: GeneratorSpec, parts: Sequence[Tensors], tiers: Sequence[str]) -> list[tuple[str, list[int]]]:
    """The requests, by index, that can be one batch, with their tier: their images are of one size and of one tier."""
    groups: dict[tuple[str, tuple[int, ...]], list[int]] = {}
    for index, (part, tier) in enumerate(zip(parts, tiers, strict=True)):
        size = tuple(int(part[axis.name].flat[0]) if axis.name in part else axis.default for axis in spec.axes)
        groups.setdefault((tier, size), []).append(index)
    return [(tier, group) for (tier, _), group in groups.items()]


def offered(parameters: Mapping[str, str]) -> list[str]:
    """The tiers that a public model has, by its configuration's parameters; the first where none is asked for."""
    return list(json.loads(parameters.get("tuned", "{}"))) or [EXACT.name]


def check_tier(name: str, tier: str, tiers: Sequence[str]) -> None:
    """Raises RequestError where a model has no executor of the tier."""
    if tier not in tiers:
        raise RequestError(
            f"{name} is not served of the tier {tier!r}, only of {' and '.join(tiers)}: `genzoo tune {name}`, then "
            f"`genzoo serve {name} --tier {tiers[0]} --tier {tier}`"
        )


def canary(spec: GeneratorSpec, batch: int = 1) -> Tensors:
    """The cheapest images there are: one step, or the fewest that the generator was trained for."""
    steps = min(spec.sampling.steps, default=1) if spec.sampling else None
    return tensors(spec, SampleRequest((0,) * batch, setting=Setting(steps)))
