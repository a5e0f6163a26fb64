"""Probing a bundle's sizes: the ends of every axis that a request can reach, and random places between them.

An engine is tuned for one shape and promised for all of its profile. At each shape the images must be finite, must be
those that the same seeds give one by one on the CPU, and must not cost more than a larger request does.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from export.bundle import Bundle
from export.cuda import gpu
from export.engine import for_gpu
from export.limits import LIMITS
from export.profiles import Axes, Ends, buckets
from export.runners import bundle_generator, graph_runner
from export.runtimes import Runtime, generator
from export.tiers import psnrs
from export.variant import Precision
from zoo.contract.graph import BATCH, concrete
from zoo.contract.request import SampleRequest, Setting
from zoo.errors import GenzooError
from zoo.images import constant_images

FIRST_SEED = 3000
RANDOM = 6  # shapes of a bucket, besides its ends
SEED = 13
BUDGET = 1 << 20  # network calls times images times pixels of one request, at most
REPEATS = 3
CLIFF = 2.0  # times what a larger request takes


class ProbeError(GenzooError):
    """A shape within a bundle's sizes at which it is wrong, or needlessly slow; the message names the first."""


@dataclass(frozen=True)
class Shape:
    """What a request asks for: images, steps (0 of a one-shot generator), and sizes."""

    batch: int
    steps: int
    sizes: tuple[tuple[str, int], ...]

    def within(self, other: Shape) -> bool:
        """Whether another asks for at least as much of everything."""
        sizes = zip(self.sizes, other.sizes, strict=True)
        return self.batch <= other.batch and self.steps <= other.steps and all(a[1] <= b[1] for a, b in sizes)

    def __str__(self) -> str:
        steps = f", {self.steps} steps" if self.steps else ""
        return f"batch {self.batch}{steps}{''.join(f', {name} {size}' for name, size in self.sizes)}"


@dataclass(frozen=True)
class Probed:
    """What was found at a shape: `seconds` of a request, the median; `worst_db` of the images compared; `fault`."""

    shape: Shape
    seconds: float
    worst_db: float
    fault: str | None


def shapes(bundle: Bundle, ends: Ends | None = None) -> list[Shape]:
    """Those of each bucket in turn; `ends` says where they end. Steps are cut to what BUDGET allows."""
    found = buckets(bundle.served_spec, bundle.max_batch, ends or {}).values()
    rng = np.random.Generator(np.random.Philox(key=SEED))
    corners = (corner for sizes in found for corner in _corners(bundle, _ranges(bundle, sizes), rng))
    return list(dict.fromkeys(_affordable(bundle, corner) for corner in corners))


def _corners(
    bundle: Bundle, ranges: dict[str, tuple[int, int, int]], rng: np.random.Generator
) -> Iterator[dict[str, int]]:
    """The least of everything, the optimum, the most of each axis by itself and of all, then random ones."""
    corners = [
        {name: low for name, (low, _, _) in ranges.items()},
        {name: usual for name, (_, usual, _) in ranges.items()},
    ]
    corners += [{**corners[0], name: high} for name, (_, _, high) in ranges.items()]
    corners.append({name: high for name, (_, _, high) in ranges.items()})
    yield from corners
    for _ in range(RANDOM):
        yield {name: _between(bundle, name, low, high, rng) for name, (low, _, high) in ranges.items()}


def _ranges(bundle: Bundle, known: Axes) -> dict[str, tuple[int, int, int]]:
    """The least, the optimum and the most of images, of steps, and of each size, in one bucket."""
    spec = bundle.served_spec
    found = {name: known[name] for name in (BATCH, *(axis.name for axis in spec.axes))}
    ranges = {name: (each.minimum, each.optimum, each.maximum) for name, each in found.items()}
    if spec.sampling is not None:
        allowed = spec.sampling.steps or (1, spec.sampling.num_steps, spec.sampling.most_steps)
        ranges["steps"] = (min(allowed), spec.sampling.num_steps, max(allowed))
    return ranges


def _between(bundle: Bundle, name: str, low: int, high: int, rng: np.random.Generator) -> int:
    """A size, about as often small as large, that a request may ask for."""
    drawn = round(float(np.exp(rng.uniform(np.log(low), np.log(high)))))
    step = next((axis.multiple for axis in bundle.spec.axes if axis.name == name), 1)
    allowed = bundle.served_spec.sampling.steps if name == "steps" and bundle.served_spec.sampling else ()
    if allowed:
        return min(allowed, key=lambda each: abs(each - drawn))
    return low + (drawn - low) // step * step


def _affordable(bundle: Bundle, corner: dict[str, int]) -> Shape:
    spec = bundle.served_spec
    sizes = tuple((axis.name, corner[axis.name]) for axis in spec.axes)
    height, width, _ = concrete(spec.image_shape, dict(sizes))
    batch = max(1, min(corner[BATCH], BUDGET // (height * width)))
    steps = corner.get("steps", 0)
    if spec.sampling is not None and not spec.sampling.steps:
        steps = max(1, min(steps, BUDGET // (batch * height * width)))
    return Shape(batch, steps, sizes)


def probe(bundle: Bundle, runtime: Runtime) -> Iterator[Probed]:
    """What is found at each shape, as soon as it is: those of each bucket of an engine. Raises as a runner does."""
    judged = generator(bundle, runtime)
    alone = bundle_generator(bundle, lambda graph: graph_runner(bundle, graph))
    limit = LIMITS[Precision(bundle.manifest["precision"])].psnr_db
    bucket_ends = for_gpu(bundle, bundle.entry, gpu()).ends if runtime is Runtime.TENSORRT else {}
    for shape in shapes(bundle, bucket_ends):
        request = _request(shape)
        found, seconds = judged.sample(request), []
        for _ in range(REPEATS):
            began = time.perf_counter()
            judged.sample(request)
            seconds.append(time.perf_counter() - began)
        ends = sorted({0, shape.batch - 1})
        expected = np.concatenate([alone.sample(request.rows(slice(each, each + 1))) for each in ends])
        worst = float(psnrs(expected, found[ends]).min())
        yield Probed(shape, statistics.median(seconds), worst, _fault(expected, found[ends], worst, limit))


def _request(shape: Shape) -> SampleRequest:
    seeds = tuple(range(FIRST_SEED, FIRST_SEED + shape.batch))
    return SampleRequest(seeds, setting=Setting(shape.steps or None), sizes=dict(shape.sizes))


def _fault(expected: np.ndarray, found: np.ndarray, worst: float, limit: float) -> str | None:
    if any(constant_images(found) & ~constant_images(expected)):
        return "an image is constant, as one of NaN is"
    if worst < limit:
        return f"an image is {worst:.1f} dB from its seed's own on the CPU, at least {limit:.0f} dB are expected"
    return None


def cliffs(found: list[Probed]) -> list[str]:
    """The shapes that cost more than a larger one, a sentence each."""
    told = []
    for one in found:
        larger = [each for each in found if each is not one and one.shape.within(each.shape)]
        cheapest = min(larger, key=lambda each: each.seconds, default=None)
        if cheapest and one.seconds > CLIFF * cheapest.seconds:
            took, larger_took = (f"{1e3 * each.seconds:.1f} ms" for each in (one, cheapest))
            told.append(f"{one.shape} takes {took}, the larger {cheapest.shape} {larger_took}")
    return told
