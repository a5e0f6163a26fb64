"""The sizes that an engine is built for: a minimum, an optimum and a maximum for every dynamic axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from zoo.contract.graph import BATCH, TensorSpec
from zoo.contract.request import MAX_STEPS


@dataclass(frozen=True)
class Range:
    """Sizes of one axis: the smallest, the one to tune for, the largest."""

    minimum: int
    optimum: int
    maximum: int


Shape = tuple[int, ...]

AXES: dict[str, Range] = {
    BATCH: Range(1, 8, 64),
    "conditions": Range(1, 1, 2),  # 2 under guidance
    "draws": Range(1, 1, MAX_STEPS),  # 1 for a deterministic sampler
    "rows": Range(1, 4, 2 * MAX_STEPS),  # Heun's method has two rows a step
}


def profile(tensors: tuple[TensorSpec, ...], axes: Mapping[str, Range] = AXES) -> dict[str, tuple[Shape, Shape, Shape]]:
    """The (min, opt, max) shapes of each tensor."""
    return {
        tensor.name: (
            tensor.concrete({axis: sizes.minimum for axis, sizes in axes.items()}),
            tensor.concrete({axis: sizes.optimum for axis, sizes in axes.items()}),
            tensor.concrete({axis: sizes.maximum for axis, sizes in axes.items()}),
        )
        for tensor in tensors
    }
