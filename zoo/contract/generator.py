"""A generator: what turns seeds and conditions into images, whatever its family and wherever its graph runs.

A `Runner` runs one graph. A `Generator` puts a `GeneratorSpec` before one and has the endpoint that Triton serves under
the generator's name, so a client, a benchmark or a test cannot tell them apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from zoo.contract.assets import NO_ASSETS, Assets
from zoo.contract.errors import RequestError, shown
from zoo.contract.feeds import Draw, Encoder, Feeds, Runner, Tensors
from zoo.contract.graph import MAX_BATCH, concrete
from zoo.contract.request import Columns, SampleRequest, check_seeds, columns
from zoo.contract.spec import GeneratorSpec
from zoo.sampling import noise

SEEDS = re.compile(r"([0-9]{1,40})(?:-([0-9]{1,40}))?")
MAX_SEEDS = 100_000  # and images, that are held at once
MAX_FRAMES = 1000  # of a row


class Generator:
    """`run(seed, <conditions>, <settings>, <sizes>) -> image`; arrays of one value an image, (B, ...).

    `seed` uint64; each condition as its kind says; `num_steps` int32, `guidance_scale` and `strength` float32,
    `sampler` a name, str or UTF-8; `image` uint8 (B, H, W, C). Images share an execution whatever they are asked for.
    `encoders` run the graphs `encode_<condition>` of the generator; its table has at least so many `rows`, an execution
    at most so many images as `most` says.
    """

    def __init__(
        self,
        spec: GeneratorSpec,
        runner: Runner,
        assets: Assets = NO_ASSETS,
        encoders: Mapping[str, Runner] | None = None,
        rows: int = 0,
        most: int = MAX_BATCH,
    ) -> None:
        self.spec, self.runner = spec, runner
        kept = {name: each if isinstance(each, Encoder) else Encoder(each) for name, each in (encoders or {}).items()}
        self.feeds = Feeds(spec, assets, kept, rows, most)

    def with_spec(self, spec: GeneratorSpec) -> Generator:
        """The same graphs, asked by another spec."""
        feeds = self.feeds
        return Generator(spec, self.runner, feeds.assets, feeds.encoders, feeds.rows, feeds.most)

    def run(self, **given: np.ndarray) -> Tensors:
        """Raises RequestError for what the generator cannot do."""
        return {"image": self._images(given, MAX_BATCH)}

    def _images(self, given: Columns, most: int) -> np.ndarray:
        count = len(given["seed"])
        images = np.empty((count, *concrete(self.spec.image_shape, self.feeds.sizes(given))), np.uint8)
        for rows in self.feeds.executions(given, most):
            part = given if len(rows) == count else {name: column[rows] for name, column in given.items()}
            images[rows] = self._execution(part)
        return images

    def _execution(self, given: Columns, draw: Draw = noise.normal) -> np.ndarray:
        """Images that are made together, what is kept of a picture as it was."""
        tensors, edit = self.feeds.make(given, draw)
        images = self.runner.run(**tensors)["images"]
        if edit is None or edit.pixels is None:
            return images
        return np.asarray(np.where(edit.pixels, edit.images, images))

    def sample(self, request: SampleRequest, batch_size: int = MAX_BATCH) -> np.ndarray:
        """The images of a request, uint8 (N, H, W, C), made in batches of at most `batch_size`."""
        return np.concatenate(list(self.batches(request, batch_size)))

    def batches(self, request: SampleRequest, batch_size: int) -> Iterator[np.ndarray]:
        for start in range(0, len(request.seeds), batch_size):
            yield self._images(columns(self.spec, request.rows(slice(start, start + batch_size))), batch_size)

    def between(self, request: SampleRequest, frames: int) -> np.ndarray:
        """The way from each seed of a request to its next, with the conditions of the first, a picture to begin with
        among them: uint8 (N - 1, frames, H, W, C).

        Noises n, m are mixed as cos(a) n + sin(a) m, a from 0 to pi / 2, which is as normal as they are (Song et al.
        2021, section 5.3, go along the great circle likewise); both ends are the seeds' own images. Raises
        RequestError for fewer than two seeds or frames, for more than MAX_FRAMES, and where there is no noise.
        """
        if not self.spec.noise:
            raise RequestError(f"{self.spec.name} has no noise, so nothing is between its seeds: leave frames out")
        ways = len(request.seeds) - 1
        if ways < 1 or frames < 2 or frames > MAX_FRAMES or ways * frames > MAX_SEEDS:
            seen = f"{frames} frames from {len(request.seeds)} seeds"
            most = f"at most {MAX_FRAMES:,} frames and {MAX_SEEDS:,} images"
            raise RequestError(f"{seen}: give at least two of each, {most}")
        rows = []
        angles = np.linspace(0.0, np.pi / 2, frames)
        # Exact at both ends, where a cosine of pi / 2 is not.
        shares = np.stack([np.where(np.abs(part) < 1e-9, 0.0, part) for part in (np.cos(angles), np.sin(angles))])
        for index in range(ways):
            ends = request.seeds[index : index + 2]
            given = columns(self.spec, request.rows(slice(index, index + 1)))
            repeated = {name: np.repeat(column, frames, 0) for name, column in given.items()}
            parts = self.feeds.executions(repeated)
            rows.append(np.concatenate([self._frames(repeated, part, ends, shares) for part in parts]))
        return np.stack(rows)

    def _frames(self, given: Columns, picked: np.ndarray, ends: Sequence[int], shares: np.ndarray) -> np.ndarray:
        """Those images of a way that are made together."""
        part = {name: column[picked] for name, column in given.items()}
        return self._execution(part, partial(_on_the_way, ends, shares[:, picked]))


def _on_the_way(
    ends: Sequence[int], shares: np.ndarray, _: Sequence[int], shape: tuple[int, ...], stream: int
) -> np.ndarray:
    """Mixtures of two seeds' noises by `shares` (2, frames): float32 (frames, *shape)."""
    first, last = noise.normal(ends, shape, stream)
    found = np.empty((shares.shape[1], *shape), np.float32)
    for frame, (share, other) in enumerate(shares.T):
        found[frame] = share * first + other * last
    return found


def seed_range(text: str) -> Sequence[int]:
    """Seeds from "7", "0-63" or "1,5,9-12", at most MAX_SEEDS of them. Raises RequestError."""
    seeds: list[int] = []
    for part in text.split(","):
        found = SEEDS.fullmatch(part.strip())
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if last < first:
            raise RequestError(f"seeds {shown(text)}: write one seed, a range or a list, like 7, 0-63 or 1,5,9-12")
        check_seeds((first, last))
        if len(seeds) + last - first >= MAX_SEEDS:
            raise RequestError(f"seeds {shown(text)}: at most {MAX_SEEDS:,} at once; the rest in a second call")
        seeds.extend(range(first, last + 1))
    return seeds
