"""The sizes that an engine is built for: a minimum, an optimum and a maximum for every dynamic axis."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from zoo.contract.graph import BATCH, MAX_BATCH, TensorSpec, concrete
from zoo.contract.request import MAX_MIXED, Setting, table
from zoo.contract.spec import GeneratorSpec, Sampling
from zoo.sampling.samplers import is_stochastic

OPTIMAL_BATCH = 8


@dataclass(frozen=True)
class Range:
    """Sizes of one axis: the smallest, the one to tune for, the largest."""

    minimum: int
    optimum: int
    maximum: int


Shape = tuple[int, ...]
Axes = Mapping[str, Range]


def axes(spec: GeneratorSpec, max_batch: int = MAX_BATCH) -> Axes:
    """Every size that a request to `spec` can lead to: by its steps, its samplers, and whether it is guided."""
    found = {BATCH: Range(1, min(OPTIMAL_BATCH, max_batch), max_batch)}
    found |= {axis.name: Range(axis.minimum, axis.default, axis.maximum) for axis in spec.axes}
    if spec.sampling is None:
        return found
    if spec.guided:
        values = MAX_MIXED if spec.sampling.max_guidance_scale > 1.0 else 1
        found["terms"] = Range(1, 1, len(spec.guided) * values + (values > 1))
    else:
        found["terms"] = Range(1, 1, 1)
    usual, *others = [
        (len(rows), len(rows) if is_stochastic(rows) else 1)
        for setting in (Setting(), *_asked(spec.sampling))
        if (rows := table(spec, setting)) is not None
    ]
    for axis, size, sizes in zip(("rows", "draws"), usual, zip(usual, *others, strict=True), strict=True):
        found[axis] = Range(1 if spec.edits else min(sizes), size, max(sizes))  # an edit takes the last rows alone
    found["conditions"] = found["terms"]  # their name in bundles of the first format
    found["weight_rows"] = Range(1, 1, found["rows"].maximum)
    largest = {axis.name: axis.maximum for axis in spec.axes}
    found["kept"] = Range(1, 1, math.prod(concrete(spec.state_shape, largest)))
    return found


def _asked(sampling: Sampling) -> list[Setting]:
    """The fewest and the most steps of each sampler, between which everything lies."""
    steps = sampling.steps or (1, sampling.most_steps)
    return [Setting(count, sampler) for count in (min(steps), max(steps)) for sampler in sampling.samplers]


def profile(tensors: tuple[TensorSpec, ...], axes: Axes) -> dict[str, tuple[Shape, Shape, Shape]]:
    """The (min, opt, max) shapes of each tensor."""
    return {
        tensor.name: (
            tensor.concrete({axis: sizes.minimum for axis, sizes in axes.items()}),
            tensor.concrete({axis: sizes.optimum for axis, sizes in axes.items()}),
            tensor.concrete({axis: sizes.maximum for axis, sizes in axes.items()}),
        )
        for tensor in tensors
    }
