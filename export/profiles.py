"""The sizes that an engine is built for: a minimum, an optimum and a maximum for every dynamic axis.

An engine is tuned for the optimum alone. Where an axis is cut into buckets, each has an optimum of its own, and is an
optimisation profile: a request is executed by the first that holds its shapes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from zoo.contract.graph import BATCH, MAX_BATCH, TensorSpec, concrete
from zoo.contract.request import MAX_MIXED, Setting, table
from zoo.contract.spec import GeneratorSpec, Sampling
from zoo.errors import GenzooError
from zoo.sampling.samplers import is_stochastic

OPTIMAL_BATCH = 8
MOST_BUCKETS = 8  # each is tuned by itself, and takes room in the plan and on the GPU


class BucketError(GenzooError):
    """Buckets that a generator cannot have; the message says which it can."""


@dataclass(frozen=True)
class Range:
    """Sizes of one axis: the smallest, the one to tune for, the largest."""

    minimum: int
    optimum: int
    maximum: int

    def between(self, low: int, high: int) -> Range:
        """A part of it, tuned for the size that is nearest to the optimum."""
        return Range(low, min(max(self.optimum, low), high), high)

    def __str__(self) -> str:
        return f"{self.minimum}" if self.minimum == self.maximum else f"{self.minimum}-{self.maximum}"


Shape = tuple[int, ...]
Axes = Mapping[str, Range]
Ends = Mapping[str, Sequence[int]]  # by axis, the largest size of each bucket but the last
ALONE: Ends = {BATCH: (1,)}  # one image, for whoever waits for it, is tuned by itself


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


def parse(words: Iterable[str]) -> Ends:
    """Ends from words like "batch=1,16"; "one" is a single bucket. Raises BucketError."""
    found: dict[str, tuple[int, ...]] = {}
    for word in words:
        axis, _, sizes = word.partition("=")
        parts = sizes.split(",")
        if word != "one" and not (axis and all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts)):
            raise BucketError(
                f"buckets {word[:40]!r}: write an axis and where its buckets end, like batch=1,16, or one"
            )
        found |= {} if word == "one" else {axis: tuple(sorted(set(map(int, parts))))}
    return found


def buckets(spec: GeneratorSpec, max_batch: int, ends: Ends) -> dict[str, Axes]:
    """All sizes, cut at `ends`, by the name of each bucket, the smallest first. Raises BucketError."""
    whole = axes(spec, max_batch)
    steps = {BATCH: 1} | {axis.name: axis.multiple for axis in spec.axes}
    if unknown := sorted(ends.keys() - steps):
        raise BucketError(f"{spec.name} has no buckets of {', '.join(unknown)}: it has {', '.join(steps)}")
    parts = [list(_parts(spec.name, axis, whole[axis], steps[axis], ends[axis])) for axis in steps if axis in ends]
    found: dict[str, Axes] = {_name(each): {**whole, **dict(each)} for each in product(*parts)}
    if len(found) > MOST_BUCKETS:
        raise BucketError(
            f"{spec.name} would get {len(found)} buckets, at most {MOST_BUCKETS} are built: name fewer ends"
        )
    return found


def _parts(name: str, axis: str, whole: Range, step: int, ends: Sequence[int]) -> Iterator[tuple[str, Range]]:
    low = whole.minimum
    for end in (*(each for each in ends if each != whole.maximum), whole.maximum):
        if not low <= end <= whole.maximum or (end - whole.minimum) % step:
            apart = f" in steps of {step}" if step > 1 else ""
            raise BucketError(f"a bucket of {name} ends at {axis} {end}: its {axis} is {whole}{apart}")
        yield axis, whole.between(low, end)
        low = end + step


def _name(parts: Sequence[tuple[str, Range]]) -> str:
    return ", ".join(f"{axis} {sizes}" for axis, sizes in parts) or "all sizes"
