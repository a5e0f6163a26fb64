"""What a door makes of a request: an order of one generator, and OpenAI's answer of its images."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydantic import BaseModel

from serving import interface
from serving.client import AsyncTritonRunner
from serving.doors.limits import Limits
from serving.doors.schema import MAX_DEADLINE_MS, Asked, Taken
from serving.images import Encoding
from serving.previews import MOST
from serving.scheduling import pixel_share
from zoo import registry
from zoo.contract.errors import RequestError
from zoo.contract.feeds import Feeds, Tensors
from zoo.contract.request import columns, told
from zoo.contract.spec import GeneratorSpec
from zoo.errors import GenzooError
from zoo.family import Entry


class Image(BaseModel):
    """One image of an answer."""

    b64_json: str
    seed: int


class Generator(BaseModel):
    """What made the images of an answer."""

    name: str
    digest: str
    tier: str
    calls: float
    seconds: float
    chosen: str | None = None  # of `auto`: the measured point
    why: str | None = None


class Images(BaseModel):
    """OpenAI's answer, and what made it."""

    created: int
    data: list[Image]
    output_format: str
    size: str
    quality: str
    background: str
    usage: dict[str, Any]
    generator: Generator


class Listed(BaseModel):
    """A generator in the list of models; `takes` says what a request may give, `accepts` in JSON's schema.

    `dataset` is what it was trained on and `description` what it is, empty where nothing is known of it here.
    """

    id: str
    object: str
    created: int
    owned_by: str
    digest: str
    tiers: list[str]
    size: str
    takes: dict[str, str]
    accepts: dict[str, Any]
    dataset: str
    description: str


class Models(BaseModel):
    object: str
    data: list[Listed]


class Reason(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class Failure(BaseModel):
    """OpenAI's shape of an error."""

    error: Reason


NO_TOKENS = {
    "input_tokens": 0,
    "output_tokens": 0,
    "total_tokens": 0,
    "input_tokens_details": {"text_tokens": 0, "image_tokens": 0},
}


@dataclass(frozen=True)
class Offer:
    """A generator of the server behind this door."""

    runner: AsyncTritonRunner
    taken: Taken
    digest: str
    created: int
    known: Entry | None = None  # what the zoo says of a generator of that name

    @classmethod
    def of(cls, runner: AsyncTritonRunner, limits: Limits) -> Offer:
        """Of a model that was asked what it takes. Raises ServingError and DoorError."""
        taken = Taken(runner.spec, runner.tiers, limits.images, previews=MOST if runner.previews else 0)
        return cls(runner, taken, runner.parameter("checkpoint") or "", int(time.time()), _known(runner.spec.name))

    @property
    def spec(self) -> GeneratorSpec:
        return self.taken.spec

    @property
    def listed(self) -> Listed:
        return Listed(
            id=self.spec.name,
            object="model",
            created=self.created,
            owned_by="genzoo",
            digest=self.digest,
            tiers=list(self.taken.tiers),
            size="x".join(str(side) for side in reversed(self.spec.default_image_shape[:2])),
            takes=told(self.spec),
            accepts=self.taken.schema,
            dataset=self.known.dataset if self.known else "",
            description=self.known.description if self.known else "",
        )


def _known(name: str) -> Entry | None:
    try:
        return registry.entry(name)
    except GenzooError:
        return None


@dataclass(frozen=True)
class Order:
    """A request that may be made: the inputs of the public model, what they cost, and how the images are written."""

    offer: Offer
    tensors: Tensors
    calls: float
    encoding: Encoding
    tier: str
    timeout_s: float
    previews: int = 0  # of each image

    @property
    def seeds(self) -> list[int]:
        return [int(seed) for seed in self.tensors["seed"].reshape(-1)]

    def alone(self) -> list[Order]:
        """The same, an image each."""
        count = len(self.seeds)
        return [
            replace(
                self,
                tensors={name: each[index : index + 1] for name, each in self.tensors.items()},
                calls=self.calls / count,
            )
            for index in range(count)
        ]

    def within(self, timeout_s: float) -> Order:
        return replace(self, timeout_s=max(1e-3, timeout_s))

    async def made(self) -> Images:
        """Raises ServingError."""
        began = time.perf_counter()
        return await self._written((await self._runner.run(**self.tensors))["image"], began)

    async def watched(self) -> AsyncIterator[tuple[int | None, Images]]:
        """Of one image: its previews by their numbers, and itself with None. Raises ServingError."""
        began = time.perf_counter()
        if not self.previews:
            yield None, await self.made()
            return
        async for index, images in self._runner.watched(self.previews, **self.tensors):
            yield index, await self._written(images, began)

    @property
    def _runner(self) -> AsyncTritonRunner:
        return self.offer.runner.within(self.timeout_s, self.tier)

    async def _written(self, images: np.ndarray, began: float) -> Images:
        encoded = await asyncio.to_thread(lambda: [self.encoding(image) for image in images])
        height, width = images.shape[1:3]
        return Images(
            created=int(time.time()),
            data=[
                Image(b64_json=base64.b64encode(each).decode(), seed=seed)
                for each, seed in zip(encoded, self.seeds, strict=True)
            ],
            output_format=self.encoding.format,
            size=f"{width}x{height}",
            quality=self.tier,
            background="opaque",
            usage=NO_TOKENS,
            generator=Generator(
                name=self.offer.spec.name,
                digest=self.offer.digest,
                tier=self.tier,
                calls=self.calls,
                seconds=round(time.perf_counter() - began, 6),
            ),
        )


def ordered(offer: Offer, given: Asked) -> Order:
    """What a request asks for, checked by the contract. Raises RequestError."""
    asked = offer.taken.request(given)
    if given.partial_images and not given.stream:
        raise RequestError("partial_images are of a stream: ask for stream too")
    form = given.output_format or "png"
    if given.output_compression not in (None, 100) and form == "png":
        raise RequestError("output_compression is of webp and jpeg: a png loses nothing, leave it out")
    feeds, found = Feeds(offer.spec), columns(offer.spec, asked)
    calls = pixel_share(feeds, found) * sum(rows * terms for rows, terms in feeds.costs(found))
    quality = 100 if given.output_compression is None else given.output_compression
    tier = given.quality if given.quality not in (None, "auto") else offer.taken.tiers[0]
    return Order(
        offer,
        interface.tensors(offer.spec, asked),
        calls,
        Encoding(form, quality),
        str(tier),
        (given.deadline_ms or MAX_DEADLINE_MS) / 1000.0,
        given.partial_images or 0,
    )
