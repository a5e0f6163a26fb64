"""A generator: what turns seeds and conditions into images, whatever its family and wherever its graph runs.

A `Runner` runs one graph. A `Generator` puts a `GeneratorSpec` before one and has the endpoint that Triton serves under
the generator's name, so a client, a benchmark or a test cannot tell them apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from zoo.contract.graph import MAX_BATCH
from zoo.contract.request import GeneratorSpec, RequestError, SampleRequest, Setting, check_seeds, feeds
from zoo.sampling import noise

Tensors = dict[str, np.ndarray]
SEEDS = re.compile(r"([0-9]{1,40})(?:-([0-9]{1,40}))?")
MAX_SEEDS = 100_000  # and images, that are held at once
MAX_FRAMES = 1000  # of a row, which is one batch


class Runner(Protocol):
    """An object that runs a graph: named arrays in, named arrays out, batch first."""

    def run(self, **tensors: np.ndarray) -> Tensors: ...


class Generator:
    """`run(seed, class_id, num_steps, guidance_scale, sampler) -> image`; arrays of one value an image, (B,).

    `seed` uint64; `class_id` int64 (default: seed modulo the number of classes); `num_steps` int32; `guidance_scale`
    float32; `sampler` a name, str or UTF-8; `image` uint8 (B, H, W, C). Images that ask for the same steps, guidance
    and sampler share one execution.
    """

    def __init__(self, spec: GeneratorSpec, runner: Runner) -> None:
        self.spec, self.runner = spec, runner

    def run(self, **tensors: np.ndarray) -> Tensors:
        """Raises RequestError for what the generator cannot do."""
        seeds = [int(seed) for seed in tensors["seed"].reshape(-1)]
        names = ("num_steps", "guidance_scale", "sampler")
        steps, scales, samplers = (_column(tensors.get(name), len(seeds)) for name in names)
        classes = tensors["class_id"].reshape(-1) if tensors.get("class_id") is not None else None
        groups: dict[Setting, list[int]] = {}
        for row, (num_steps, scale, sampler) in enumerate(zip(steps, scales, samplers, strict=True)):
            groups.setdefault(Setting(num_steps, sampler, 1.0 if scale is None else scale), []).append(row)
        images = np.empty((len(seeds), *self.spec.image_shape), np.uint8)
        for setting, rows in groups.items():
            picked = None if classes is None else tuple(int(classes[row]) for row in rows)
            images[rows] = self.sample(SampleRequest(tuple(seeds[row] for row in rows), picked, setting))
        return {"image": images}

    def sample(self, request: SampleRequest, batch_size: int = MAX_BATCH) -> np.ndarray:
        """The images of a request, uint8 (N, H, W, C), made in batches of at most `batch_size`."""
        return np.concatenate(list(self.batches(request, batch_size)))

    def between(self, request: SampleRequest, frames: int) -> np.ndarray:
        """The way from each seed of a request to its next, each in its own class: uint8 (N - 1, frames, H, W, C).

        Noises n, m are mixed as cos(a) n + sin(a) m, a from 0 to pi / 2, which is as normal as they are (Song et al.
        2021, section 5.3, go along the great circle likewise); both ends are the seeds' own images. Raises
        RequestError for fewer than two seeds or frames, or for more than MAX_FRAMES.
        """
        ways = len(request.seeds) - 1
        if ways < 1 or frames < 2 or frames > MAX_FRAMES or ways * frames > MAX_SEEDS:
            seen = f"{frames} frames from {len(request.seeds)} seeds"
            most = f"at most {MAX_FRAMES:,} frames and {MAX_SEEDS:,} images"
            raise RequestError(f"{seen}: give at least two of each, {most}")
        rows = []
        angles = np.linspace(0.0, np.pi / 2, frames)
        # Exact at both ends, where a cosine of pi / 2 is not.
        kept, taken = (np.where(np.abs(part) < 1e-9, 0.0, part) for part in (np.cos(angles), np.sin(angles)))
        for index in range(len(request.seeds) - 1):
            class_ids = request.class_ids and request.class_ids[index : index + 1] * frames
            if class_ids is None and (turn := self.spec.classes_in_turn(request.seeds[index : index + 1])) is not None:
                class_ids = tuple(turn.tolist()) * frames
            tensors = feeds(self.spec, replace(request, seeds=(request.seeds[index],) * frames, class_ids=class_ids))
            ends = noise.normal(request.seeds[index : index + 2], tensors["noise"].shape[1:])
            weights = np.stack([kept, taken]).reshape(2, frames, *[1] * (ends.ndim - 1))
            tensors["noise"] = (weights * ends[:, None]).sum(0).astype(np.float32)
            rows.append(self.runner.run(**tensors)["images"])
        return np.stack(rows)

    def batches(self, request: SampleRequest, batch_size: int) -> Iterator[np.ndarray]:
        for start in range(0, len(request.seeds), batch_size):
            rows = slice(start, start + batch_size)
            classes = request.class_ids and request.class_ids[rows]
            part = replace(request, seeds=request.seeds[rows], class_ids=classes)
            yield self.runner.run(**feeds(self.spec, part))["images"]


def _column(values: np.ndarray | None, count: int) -> list[Any]:
    """A value for each image; text as str, though a server hands it over as bytes."""
    if values is None:
        return [None] * count
    return [value.decode() if isinstance(value, bytes) else value for value in values.reshape(-1).tolist()]


def seed_range(text: str) -> Sequence[int]:
    """Seeds from "7", "0-63" or "1,5,9-12", at most MAX_SEEDS of them. Raises RequestError."""
    seeds: list[int] = []
    for part in text.split(","):
        found = SEEDS.fullmatch(part.strip())
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if last < first:
            raise RequestError(f"seeds {_short(text)!r}: write one seed, a range or a list, like 7, 0-63 or 1,5,9-12")
        check_seeds((first, last))
        if len(seeds) + last - first >= MAX_SEEDS:
            raise RequestError(f"seeds {_short(text)!r}: at most {MAX_SEEDS:,} at once; the rest in a second call")
        seeds.extend(range(first, last + 1))
    return seeds


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}..."
