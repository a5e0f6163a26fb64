"""Columns of a request -> the tensors of a generator's graph, the same for every runtime.

What an image is asked for becomes data: a sampler's table, the terms of a guided sum, what is known of the image. So
images of different samplers, guidance and conditions are one execution, and those of different numbers of rows too,
where rows that change nothing cost less than another execution.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import Protocol

import numpy as np

from zoo.contract import request
from zoo.contract.assets import NO_ASSETS, Assets
from zoo.contract.conditions import Condition, Sizes, kind, null
from zoo.contract.errors import RequestError
from zoo.contract.graph import MAX_BATCH, concrete
from zoo.contract.request import Columns, Plan, SampleRequest, Setting, takes
from zoo.contract.spec import EDITS, GeneratorSpec
from zoo.sampling import guidance, noise, samplers
from zoo.sampling.guidance import Term

Tensors = dict[str, np.ndarray]
Draw = Callable[[Sequence[int], tuple[int, ...], int], np.ndarray]  # seeds, shape, stream -> (seeds, *shape) float32
CACHE_BYTES = 64 << 20  # of encoded conditions, in a process
ENTRY_BYTES = 512  # of a kept array, beside its numbers
MAX_NOISE_BYTES = 1 << 30  # of one execution
MASKED_DRAWS = 2  # the first draw, to which an image is added, is needed once more without it for what is kept
NEW = 128  # from which grey level on a mask says that a pixel is made anew
CALL_COST = 1.5  # of a network call, in images: 1.8 to 1.9 on two idle cores, more on a GPU; see `_together`


class Runner(Protocol):
    """An object that runs a graph: named arrays in, named arrays out, batch first."""

    def run(self, **tensors: np.ndarray) -> Tensors: ...


class Encoder:
    """The graph `encode_<condition>`, run once for each distinct value; the last results are kept.

    One value at a time, so that what a value becomes does not depend on its neighbours in a batch.
    """

    def __init__(self, runner: Runner, limit: int = CACHE_BYTES) -> None:
        self.runner, self.limit, self.bytes = runner, limit, 0
        self.kept: OrderedDict[bytes, Tensors] = OrderedDict()
        self.lock = Lock()

    def run(self, **tensors: np.ndarray) -> Tensors:
        """(N, ...) of a kind's tensors -> (N, ...) of what the network takes."""
        rows = [self._row({name: each[row] for name, each in tensors.items()}) for row in range(_length(tensors))]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def _row(self, value: Tensors) -> Tensors:
        key = hashlib.sha256()
        for each in value.values():  # a picture of one grey has the same bytes lying and standing
            key.update(f"{each.dtype} {each.shape} ".encode() + np.ascontiguousarray(each).tobytes())
        return self._kept(key.digest(), value)

    def _kept(self, key: bytes, value: Tensors) -> Tensors:
        with self.lock:
            if key in self.kept:
                self.kept.move_to_end(key)
                return self.kept[key]
        given = {name: each[None] for name, each in value.items()}
        # Copies, as a server's answer may lie in memory that it shares.
        found = {name: each[0].copy() for name, each in self.runner.run(**given).items()}
        with self.lock:
            self.bytes += _bytes(found) if key not in self.kept else 0
            self.kept[key] = found
            while self.bytes > self.limit and len(self.kept) > 1:
                self.bytes -= _bytes(self.kept.popitem(last=False)[1])
        return found


def _bytes(tensors: Tensors) -> int:
    """What it takes to keep them, about: a small array is not for nothing."""
    return sum(each.nbytes + ENTRY_BYTES for each in tensors.values())


def _length(tensors: Tensors) -> int:
    return len(next(iter(tensors.values())))


@dataclass(frozen=True)
class Edit:
    """What is known of the images: latents to begin with, and which part of them and of the pixels is kept.

    A network that sees a picture by itself begins with noise alone: then only pixels are kept.
    """

    latents: np.ndarray | None  # (B, *state) float32
    kept: np.ndarray | None  # (B, *state) float32, 1 where the state is known
    images: np.ndarray  # uint8 (B, H, W, C)
    pixels: np.ndarray | None  # bool (B, H, W, 1), true where the image is kept

    @property
    def draws(self) -> int:
        """At least."""
        return 1 if self.kept is None else MASKED_DRAWS


@dataclass(frozen=True)
class Feeds:
    """Makes the tensors that `spec.inputs` declares. `encoders` are the graphs that conditions go through first."""

    spec: GeneratorSpec
    assets: Assets = NO_ASSETS
    encoders: Mapping[str, Encoder] = field(default_factory=dict)
    rows: int = 0  # at least, of the table: a graph that is unrolled has so many
    most: int = MAX_BATCH  # images of one execution

    def of(self, asked: SampleRequest) -> Tensors:
        """The tensors of a request as one execution. Raises RequestError."""
        return self.make(request.columns(self.spec, asked))[0]

    def sizes(self, given: Columns) -> dict[str, int]:
        """The one size of all images. Raises RequestError."""
        asked = {}
        for axis in self.spec.axes:
            if axis.name in given:
                found = set(given[axis.name].reshape(-1).tolist())
                if len(found) > 1:
                    raise RequestError(f"{axis.name} {sorted(found)}: images of different sizes are asked for apart")
                asked[axis.name] = int(found.pop())
        return request.sizes_of(self.spec, asked)

    def executions(self, given: Columns, most: int = MAX_BATCH) -> list[np.ndarray]:
        """The images, by index, that are made together, at most `most` of them."""
        most = min(most, self.most)
        spec, settings, shares = self.spec, request.settings(self.spec, given), request.shares(self.spec, given)
        plans = self._plans(settings)
        sizes = self.sizes(given)
        values = sum(math.prod(concrete(each.shape, sizes)) for each in spec.noise)
        memory = MAX_NOISE_BYTES // (4 * max(1, values))
        if not plans:
            return _parts(np.arange(len(settings)), min(most, memory))
        found = []
        for group in _together(_costs(spec, plans, settings, shares)):
            draws = max(plans[row].draws for row in group)
            draws = max(draws, MASKED_DRAWS) if "mask_image" in given and spec.edits else draws
            if draws > memory:
                raise RequestError(f"{draws} draws of noise for one image are more than {MAX_NOISE_BYTES >> 20} MiB")
            found += _parts(np.array(group), min(most, memory // draws))
        return found

    def costs(self, given: Columns) -> list[tuple[int, int]]:
        """The rows of each image's table, and the terms of its guided sum: the network's calls are their product.

        Raises RequestError.
        """
        settings, shares = request.settings(self.spec, given), request.shares(self.spec, given)
        return _costs(self.spec, self._plans(settings), settings, shares) or [(1, 1)] * len(settings)

    def check(self, given: Columns) -> None:
        """Whether `make` could do it, before anything is drawn or encoded. Raises RequestError."""
        sizes = self.sizes(given)
        self.costs(given)
        request.check_seeds(given["seed"].reshape(-1).tolist())
        for each in self.spec.conditions:
            request.values(self.spec, each, given, sizes, self.assets)

    def make(self, given: Columns, draw: Draw = noise.normal, draws: int | None = None) -> tuple[Tensors, Edit | None]:
        """The tensors of one execution, of the noise that `draw` gives, and what is known of its images.

        `draws` of the noise at most, for who makes the others as they are needed. Raises RequestError.
        """
        spec, sizes, settings = self.spec, self.sizes(given), request.settings(self.spec, given)
        seeds = given["seed"].reshape(-1).tolist()
        request.check_seeds(seeds)
        values = {each.name: asked(spec, each, given, sizes, self.assets) for each in spec.conditions}
        if spec.sampling is None:
            tensors = {each.name: draw(seeds, (1, *concrete(each.shape, sizes)), each.stream) for each in spec.noise}
            flat = {name: each[:, 0] for name, each in values.items()}
            for condition in spec.conditions:
                found = self._encoded(condition, flat)
                tensors |= {name: each[:, None] if each.ndim == 1 else each for name, each in found.items()}
            return tensors, None
        plans = self._plans(settings)
        edit = self._edit(given, sizes)
        tensors = {spec.noise[0].name: self._noise(partial(draw, seeds), plans, sizes, settings, edit, draws)}
        tensors |= self._guided(given, values, settings, plans, sizes)
        rows = max(self.rows, *(len(plan.table) for plan in plans))
        tensors["table"] = np.stack([samplers.padded(plan.table, rows) for plan in plans]).astype(np.float32)
        if spec.edits:
            tensors |= _kept(edit, len(seeds))
        return tensors, edit

    def _plans(self, settings: Sequence[Setting]) -> list[Plan]:
        """Of each image; none of a one-shot generator's."""
        plans = {setting: request.plan(self.spec, setting) for setting in set(settings)}
        return [plan for setting in settings if (plan := plans[setting]) is not None]

    def _guided(
        self,
        given: Columns,
        values: Mapping[str, np.ndarray],
        settings: Sequence[Setting],
        plans: Sequence[Plan],
        sizes: Sizes,
    ) -> Tensors:
        """Each condition's tensors, (B, terms, ...), and `guidance_weights`, (B, rows or 1, terms)."""
        if not self.spec.conditions:
            return {}
        shares = request.shares(self.spec, given)
        terms = [request.terms(self.spec, setting, share) for setting, share in zip(settings, shares, strict=True)]
        most, batch = max(map(len, terms)), len(settings)
        flat: dict[str, np.ndarray] = {}
        tensors: Tensors = {}
        for condition in self.spec.conditions:
            without = self._without(condition, given, sizes)
            own = values[condition.name]
            flat[condition.name] = np.stack([
                without[row] if condition.name in term.without else own[row, min(term.value, own.shape[1] - 1)]
                for row in range(batch)
                for term in (*terms[row], *terms[row][:1] * (most - len(terms[row])))
            ])  # fmt: skip
        for condition in self.spec.conditions:
            found = self._encoded(condition, flat)
            tensors |= {name: each.reshape(batch, most, *each.shape[1:]) for name, each in found.items()}
        if self.spec.guided:
            tensors["guidance_weights"] = _weights(terms, plans, settings, most)
        return tensors

    def _without(self, condition: Condition, given: Columns, sizes: Sizes) -> list[np.ndarray]:
        """What stands in a condition's place where a term goes without it, for each image."""
        if condition.negative in given:
            return list(request.values(self.spec, takes(self.spec)[condition.negative], given, sizes)[:, 0])
        return [null(condition, sizes)] * len(given["seed"])

    def _encoded(self, condition: Condition, flat: Mapping[str, np.ndarray]) -> Tensors:
        """What the network takes of a condition, (N, ...), of the arrays of all, (N, *edge) each."""
        found = to_encode(self.spec, condition, flat, self.assets)
        if condition.encoder is None:
            return found
        if condition.encoder not in self.encoders:
            raise RequestError(f"{self.spec.name} has no graph {condition.encoder}: export it again")
        return self.encoders[condition.encoder].run(**found)

    def _noise(
        self,
        draw: Callable[[tuple[int, ...], int], np.ndarray],
        plans: Sequence[Plan],
        sizes: Sizes,
        settings: Sequence[Setting],
        edit: Edit | None,
        draws: int | None,
    ) -> np.ndarray:
        """(B, draws, *state): the draws of each image, its first again where it needs fewer than another."""
        (state,) = self.spec.noise
        most = max(max(plan.draws for plan in plans), 1 if edit is None else edit.draws)
        most = most if draws is None else min(most, draws)
        found = draw((most, *concrete(state.shape, sizes)), state.stream)
        for row, (plan, setting) in enumerate(zip(plans, settings, strict=True)):
            found[row, plan.draws :] = found[row, 0]
            if edit is not None and edit.latents is not None and (setting.strength or 1.0) < 1.0:
                # The first row multiplies by the first level: image + level * noise.
                found[row, 0] += edit.latents[row] / np.float32(plan.levels[0])
        return found

    def _edit(self, given: Columns, sizes: Sizes) -> Edit | None:
        known, batch = takes(self.spec), len(given["seed"])
        if self.spec.repaints:  # what nobody gave is seen too: an example, or nothing kept
            seen = [request.values(self.spec, known[name], given, sizes, self.assets)[:, 0] for name in EDITS]
            return Edit(None, None, seen[0], np.less(seen[1], NEW))
        if "image" not in given or not self.spec.edits:
            return None
        images, keep = request.values(self.spec, known["image"], given, sizes)[:, 0], None
        if "mask_image" in given:
            keep = np.less(request.values(self.spec, known["mask_image"], given, sizes)[:, 0], NEW)
        encode = kind(known["image"]).encode
        pixels = encode(known["image"], images, self.assets)["image"]
        latents = pixels
        if self.spec.sampling and self.spec.sampling.encodes_images:
            if "encode_image" not in self.encoders:
                raise RequestError(f"{self.spec.name} has no graph encode_image: export it again")
            (latents,) = self.encoders["encode_image"].run(image=pixels).values()
        if keep is None:
            return Edit(latents, None, images, None)
        rows, columns = (whole // part for whole, part in zip(keep.shape[1:3], latents.shape[2:], strict=True))
        cells = keep.reshape(batch, latents.shape[2], rows, latents.shape[3], columns).all((2, 4))
        kept = np.broadcast_to(cells[:, None], latents.shape).astype(np.float32)
        return Edit(latents, kept, images, keep)


def feeds(
    spec: GeneratorSpec, asked: SampleRequest, assets: Assets = NO_ASSETS, encoders: Mapping[str, Runner] | None = None
) -> Tensors:
    """The tensors that `spec.inputs` declares, for one batch. Raises RequestError."""
    return Feeds(spec, assets, {name: Encoder(each) for name, each in (encoders or {}).items()}).of(asked)


def asked(
    spec: GeneratorSpec, condition: Condition, given: Columns, sizes: Sizes, assets: Assets = NO_ASSETS
) -> np.ndarray:
    """The arrays of a condition for each image, (B, values, *edge), as they are encoded. Raises RequestError."""
    return kind(condition).asked(condition, request.values(spec, condition, given, sizes, assets))


def to_encode(
    spec: GeneratorSpec, condition: Condition, flat: Mapping[str, np.ndarray], assets: Assets = NO_ASSETS
) -> Tensors:
    """A condition's own tensors, and those that its encoder takes beside them, of the arrays (N, *edge) of all."""
    taken = [condition, *(each for each in spec.conditions if each.name in condition.beside)]
    found: Tensors = {}  # in the conditions' order
    for each in taken:
        found |= kind(each).encode(each, flat[each.name], assets)
    return found


def _kept(edit: Edit | None, batch: int) -> Tensors:
    """`known` and `mask`, (B, values); (B, 1) of zeros where nothing is kept, which is broadcast."""
    if edit is None or edit.latents is None or edit.kept is None:
        return {name: np.zeros((batch, 1), np.float32) for name in ("known", "mask")}
    return {"known": edit.latents.reshape(batch, -1), "mask": edit.kept.reshape(batch, -1)}


def _weights(
    terms: Sequence[Sequence[Term]], plans: Sequence[Plan], settings: Sequence[Setting], most: int
) -> np.ndarray:
    rows = [
        guidance.weights(term, plan.levels, setting.guidance_interval)
        for term, plan, setting in zip(terms, plans, settings, strict=True)
    ]
    longest = max(map(len, rows))
    if longest > 1:
        longest = max(len(plan.table) for plan in plans)
    found = np.zeros((len(rows), longest, most), np.float32)
    for image, row in enumerate(rows):
        found[image, : len(row), : row.shape[1]] = row
        found[image, len(row) :, : row.shape[1]] = row[-1]
    return found


def _costs(
    spec: GeneratorSpec, plans: Sequence[Plan], settings: Sequence[Setting], shares: Sequence[tuple[float, ...]]
) -> list[tuple[int, int]]:
    return [
        (len(plan.table), len(request.terms(spec, setting, share)))
        for plan, setting, share in zip(plans, settings, shares, strict=bool(plans))
    ]


def _parts(rows: np.ndarray, most: int) -> list[np.ndarray]:
    return [rows[start : start + most] for start in range(0, len(rows), most)]


def _together(costs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Groups of images by (rows, terms): two are one where that costs less than two executions.

    An execution of B images takes rows x (CALL_COST + B x terms), in units of what a call takes for one image more.
    `genzoo study mixed` measures CALL_COST where it runs: the line through the times of calls at several batch sizes.
    """
    groups: list[tuple[int, int, list[int]]] = []
    for cost in sorted(set(costs)):
        groups.append((*cost, [index for index, each in enumerate(costs) if each == cost]))
    merged = groups[:1]
    for rows, terms, images in groups[1:]:
        before_rows, before_terms, before = merged[-1]
        both = (max(rows, before_rows), max(terms, before_terms), sorted(before + images))
        apart = _cost(before_rows, before_terms, len(before)) + _cost(rows, terms, len(images))
        if _cost(both[0], both[1], len(both[2])) <= apart:
            merged[-1] = both
        else:
            merged.append((rows, terms, images))
    return [images for _, _, images in merged]


def _cost(rows: int, terms: int, images: int) -> float:
    return rows * (CALL_COST + images * terms)
