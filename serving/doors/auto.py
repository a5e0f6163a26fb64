"""`model: auto`: one of the generators of a data set, at a setting that was measured (see `turns`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, WithJsonSchema, create_model

from serving import interface
from serving.doors.orders import Images, Listed, Offer, Order, ordered
from serving.doors.schema import MAX_DEADLINE_MS, PROMPT, Asked
from serving.doors.turns import Chosen, Ticket, Times, Turns
from serving.front import Front, Point
from zoo.contract.errors import RequestError, nearest, shown
from zoo.contract.feeds import Feeds
from zoo.contract.request import Setting

AUTO = "auto"
OWN = ("model", "dataset", "min_quality")  # fields of a request for it that are no generator's


class Group:
    """The offers of one data set whose weights were measured, and the requests for any of them."""

    def __init__(self, front: Front, offers: Mapping[str, Offer], slots: int) -> None:
        digests = {name: offer.digest for name, offer in offers.items()}
        self.front = front.of(digests)
        names = dict.fromkeys(point.generator for point in self.front.points)
        self.offers = {name: offers[name] for name in names}
        self.turns = Turns(Times(self.front.points), slots)
        self._told: dict[int, asyncio.Future[Chosen]] = {}

    async def warm(self) -> None:
        """An image of each generator, so that it is known how fast this host is."""
        for name, offer in self.offers.items():
            tensors = interface.canary(offer.spec)
            calls = sum(rows * terms for rows, terms in Feeds(offer.spec).costs(tensors))
            for _ in range(2):  # the first of a process is slow
                began = time.monotonic()
                await offer.runner.run(**tensors)
            self.turns.times.saw(name, calls, time.monotonic() - began)

    def refuse(self, given: Asked, came: float) -> None:
        """Before it is known what a request could be: turns away one that cannot be in time whatever it is.

        So a crowd that is turned away takes little of the door's own time. Raises BusyError.
        """
        names = {offer.taken.picture for offer in self.offers.values()}
        if not names.isdisjoint(given.model_fields_set):  # an edit may be less than an image
            return
        now, quick = time.monotonic(), min(self.front.points, key=lambda point: point.ms)
        self.turns.refuse(_ticket(given, came, now, {quick.title: (quick, float(quick.calls))}), now)

    def options(self, given: Asked) -> dict[str, tuple[Point, float]]:
        """The points that a request may get, with the calls of the network that they would be. Raises RequestError."""
        orders: dict[str, Order] = {}
        refused: dict[str, str] = {}
        for name in self.offers:
            try:
                orders[name] = self.order(given, self._usual(name))
            except (RequestError, ValidationError) as error:
                refused[name] = _said(error)
        if not orders:
            name, why = next(iter(refused.items()))
            raise RequestError(f"no generator of {self.front.dataset} that is served takes this; {name} says: {why}")
        wanted = self._wanted(getattr(given, "min_quality", None))
        found = {
            point.title: (point, orders[point.generator].calls * point.calls / self._usual(point.generator).calls)
            for point in wanted
            if point.generator in orders
        }
        if not found:
            raise RequestError("what is that good and is served does not take this request: leave min_quality out")
        return found

    def order(self, given: Asked, point: Point) -> Order:
        """A request at a point. Raises RequestError and ValidationError."""
        said = {key: value for key, value in given.model_dump(exclude_unset=True).items() if key not in OWN}
        setting: dict[str, Any] = {key: value for key, value in point.setting.to_json().items() if value is not None}
        if setting.get("guidance_scale") == Setting().guidance_scale:
            del setting["guidance_scale"]
        taken = self.offers[point.generator].taken
        return ordered(
            self.offers[point.generator], taken.model.model_validate({**said, **setting, "model": point.generator})
        )

    def _usual(self, name: str) -> Point:
        return next(point for point in self.front.points if point.generator == name)

    def _wanted(self, title: str | None) -> list[Point]:
        """The points that one of that title does not beat."""
        if title is None:
            return list(self.front.points)
        known = {point.title: point for point in self.front.points}
        if title not in known:
            raise RequestError(f"min_quality {shown(title)} is no point of what is served: {nearest(title, known)}")
        return [point for point in self.front.points if point.title not in known[title].beats]

    async def made(self, given: Asked, options: Mapping[str, tuple[Point, float]], came: float) -> Images:
        """Raises BusyError where no point can be in time, and ServingError."""
        ticket = _ticket(given, came, time.monotonic(), options)
        async with self._turn(ticket) as chosen:
            order = await asyncio.to_thread(self.order, given, chosen.point)
            began = time.monotonic()
            images = await order.within(ticket.deadline - began).made()
            self.turns.done(ticket, chosen, time.monotonic() - began)
        generator = images.generator.model_copy(update={"chosen": chosen.point.title, "why": chosen.why})
        return images.model_copy(update={"generator": generator})

    @asynccontextmanager
    async def _turn(self, ticket: Ticket) -> AsyncIterator[Chosen]:
        """Waits for it, and gives it up in the end. Raises BusyError."""
        self.turns.admit(ticket, time.monotonic())
        told = self._told[id(ticket)] = asyncio.get_running_loop().create_future()
        try:
            self._call()
            yield await told
        finally:
            del self._told[id(ticket)]
            self.turns.leave(ticket)
            self._call()

    def _call(self) -> None:
        while (found := self.turns.next(time.monotonic())) is not None:
            ticket, chosen = found
            self._told[id(ticket)].set_result(chosen)


def _ticket(given: Asked, came: float, now: float, options: Mapping[str, tuple[Point, float]]) -> Ticket:
    """Its time runs from when the door saw it. What has passed since will pass again before its answer is sent.

    A door with more to do than it can shows in both.
    """
    within = (given.deadline_ms or MAX_DEADLINE_MS) / 1e3
    return Ticket(came + within - (now - came), came, options, within)


@dataclass(frozen=True)
class Auto:
    """The groups by data set, and `model`, the pydantic class of a request for any of them."""

    groups: Mapping[str, Group]
    model: type[Asked]

    @classmethod
    def of(cls, fronts: Mapping[str, Front], offers: Mapping[str, Offer], slots: int) -> Auto | None:
        """None where nothing that is served was measured."""
        groups = {dataset: Group(front, _of_dataset(dataset, offers), slots) for dataset, front in fronts.items()}
        groups = {dataset: group for dataset, group in groups.items() if group.offers}
        return cls(groups, _model(groups)) if groups else None

    def group(self, given: Asked) -> Group:
        """Raises RequestError."""
        dataset = getattr(given, "dataset", None)
        if dataset is None and len(self.groups) > 1:
            raise RequestError(f"auto is of one data set: say which in dataset, {' or '.join(self.groups)}")
        return self.groups[dataset] if dataset else next(iter(self.groups.values()))

    def saw(self, images: Images) -> None:
        """What a generator took that was asked for by its name tells of it too."""
        made = images.generator
        for group in self.groups.values():
            group.turns.times.heard(made.name, made.calls, made.seconds)

    @property
    def listed(self) -> Listed:
        takes = {name: field.description or "" for name, field in self.model.model_fields.items()}
        return Listed(
            id=AUTO,
            object="model",
            created=max(offer.created for group in self.groups.values() for offer in group.offers.values()),
            owned_by="genzoo",
            digest="",
            tiers=[],
            size="",
            takes={name: said for name, said in takes.items() if name not in Asked.model_fields},
            accepts=self.model.model_json_schema(),
            dataset=", ".join(self.groups),
            description="The best of what is served that answers by the deadline.",
        )


def _of_dataset(dataset: str, offers: Mapping[str, Offer]) -> dict[str, Offer]:
    """Those that are known here to be of a data set, and those of which nothing is known."""
    return {name: offer for name, offer in offers.items() if offer.known is None or offer.known.dataset == dataset}


def _model(groups: Mapping[str, Group]) -> type[Asked]:
    titles = [point.title for group in groups.values() for point in group.front.points]
    quality = Annotated[str, WithJsonSchema({"type": "string", "enum": titles})]
    fields: dict[str, Any] = {
        "model": (Literal["auto"], ...),
        "dataset": (Literal[tuple(groups)] | None, Field(None, description="What the generators were trained on.")),
        "min_quality": (quality | None, Field(None, description="A measured point that what is chosen is not below.")),
        "quality": (Literal["auto"] | None, Field("auto", description="The tier is the generator's first.")),
        "partial_images": (Literal[0] | None, Asked.model_fields["partial_images"]),
        "stream": (Literal[False] | None, Field(False, description="auto answers at once.")),
    }
    for group in groups.values():
        for offer in group.offers.values():
            names = {*offer.taken.conditions, *(axis.name for axis in offer.spec.axes), PROMPT}
            for name, each in offer.taken.model.model_fields.items():
                if name in names:
                    kinds = fields[name][0] | each.annotation if name in fields else each.annotation
                    fields[name] = (kinds, Field(None, description=each.description))
    return create_model("Asked_of_auto", __base__=Asked, **fields)


def _said(error: Exception) -> str:
    if isinstance(error, ValidationError):
        found = error.errors()[0]
        return f"{'.'.join(map(str, found['loc']))}: {found['msg'].lower()}"
    return str(error)
