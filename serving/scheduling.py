"""Step-wise continuous batching: images in flight are admitted, mixed, cancelled and preempted between rows.

Each image is at a row of its own table, so whatever is asked for (sampler, steps, guidance, conditions, strength) is
one execution of the `step` graph as far as shapes agree. Between two rows the scheduler looks again at who has the
least to do: a short request goes before a long one, which waits and loses nothing, and an urgent one before all that
are not. NumPy only: Triton's models import it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from serving.gauges import Gauges
from serving.previews import rows_of
from zoo.contract.errors import RequestError
from zoo.contract.feeds import MASKED_DRAWS, Edit, Feeds, Runner, Tensors
from zoo.contract.graph import MAX_BATCH, concrete
from zoo.contract.request import Columns
from zoo.contract.spec import GeneratorSpec
from zoo.errors import GenzooError
from zoo.sampling import noise
from zoo.sampling.samplers import COLUMNS

AGING = 0.1  # of what the model can do in the time that a request waits is taken off what it has to do
FIXED_SHARE = 0.1  # of a call's time that does not depend on its rows: a larger batch gains less than that
FORGETTING = 0.98  # of what was measured before, at each call
LOOK_S = 0.02  # between two looks whether a client has gone: asking takes a message to another process
WEIGHTS = "guidance_weights"

log = logging.getLogger(__name__)


class BusyError(GenzooError):
    """A request that cannot be answered in time, or has no room beside those that wait: ask again later."""


class BrokenError(GenzooError):
    """A model whose values are no numbers."""


@dataclass(frozen=True)
class Limits:
    """`request_calls`: of the network, for one image of the usual size each, in one request; `waiting_calls`: in all
    requests that are in flight; `waiting_bytes`: of their arrays."""

    request_calls: int = 128_000  # 64 images in 1,000 steps under guidance
    waiting_calls: int = 1_024_000
    waiting_bytes: int = 1 << 30


@dataclass(eq=False)
class Order:
    """A request in flight: its inputs as the public model takes them, and who is told what becomes of it.

    `deadline` is a time of the scheduler's clock, None for none. Exactly one of `done` and `failed` is called, once,
    by the scheduler's thread; neither once `cancelled` has said that nobody waits, but `failed`.
    """

    given: Columns
    done: Callable[[np.ndarray], None]
    failed: Callable[[Exception], None]
    cancelled: Callable[[], bool] = lambda: False
    deadline: float | None = None
    urgent: bool = False  # goes before all that are not
    previews: int = 0  # of an order of one image: so many times `seen` is told before it is done, or fewer
    seen: Callable[[int, np.ndarray], None] = lambda index, images: None
    arrived: float = 0.0
    flights: list[Flight] = field(default_factory=list)
    images: np.ndarray | None = None
    looked: float = 0.0
    begun: bool = False

    @property
    def calls(self) -> float:
        """What is left of it."""
        return sum(flight.calls for flight in self.flights)

    def before_its_end(self, call: Callable[[], None]) -> None:
        """Is called once, before who is told what becomes of it."""
        done, failed = self.done, self.failed

        def ended(tell: Callable[[Any], None], what: Any) -> None:
            call()
            tell(what)

        self.done, self.failed = partial(ended, done), partial(ended, failed)


@dataclass(eq=False)
class Flight:
    """One image: its state, `row` of its table, and what its network is told. `kind` are the shapes that it shares an
    execution with."""

    order: Order
    index: int
    seed: int
    table: np.ndarray  # (rows, columns) float32
    state: Tensors  # x, previous, saved
    told: Tensors  # of each row the same, `guidance_weights` (rows or 1, terms) among them
    draws: int  # of noise, for its whole way
    edit: tuple[Edit, int] | None
    share: float  # of the usual image's pixels
    terms: int
    kind: tuple[object, ...] = ()
    row: int = 0

    @property
    def calls(self) -> float:
        return (len(self.table) - self.row) * self.terms * self.share

    @property
    def bytes(self) -> int:
        return sum(each.nbytes for each in (self.table, *self.state.values(), *self.told.values()))


class Pace:
    """What a call takes by its rows, seconds: a line, fitted to the calls so far, the last ones most."""

    def __init__(self) -> None:
        self.sums = np.zeros(5)  # 1, rows, seconds, rows^2, rows x seconds

    def saw(self, rows: float, seconds: float) -> None:
        self.sums = FORGETTING * self.sums + np.array([1.0, rows, seconds, rows * rows, rows * seconds])

    @property
    def line(self) -> tuple[float, float]:
        """(seconds of a call, seconds of a row); of what was seen with one number of rows alone, all is a row's."""
        count, rows, seconds, squares, products = self.sums
        spread = count * squares - rows * rows
        if spread <= 1e-9 * max(1.0, count * squares):
            return 0.0, seconds / rows if rows else 0.0
        slope = min(max((count * products - rows * seconds) / spread, 0.0), seconds / rows)
        return (seconds - slope * rows) / count, slope

    def worth(self, most: int) -> int:
        """The rows beyond which a larger call gains little, at least 1 and at most `most`."""
        fixed, each = self.line
        if not each:
            return most
        return int(min(max(fixed * (1.0 - FIXED_SHARE) / (FIXED_SHARE * each), 1.0), most))

    def rate(self, rows: int) -> float:
        """Rows a second, in calls of so many; infinite where nothing was seen."""
        fixed, each = self.line
        taken = fixed + rows * each
        return rows / taken if taken else float("inf")


class StepScheduler(threading.Thread):
    """Runs `step` and `decoder` of one generator for all that is in flight, until `close`.

    `most`: rows of a call, an image times its terms. Images do not depend on what they share a call with, as far as the
    runtime's sums do not depend on the size of a batch.
    """

    def __init__(
        self,
        spec: GeneratorSpec,
        feeds: Feeds,
        step: Runner,
        decoder: Runner,
        *,
        most: int = MAX_BATCH,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
        gauges: Gauges | None = None,
    ) -> None:
        super().__init__(name=f"scheduler-{spec.name}", daemon=True)
        self.spec, self.feeds, self.step, self.decoder = spec, feeds, step, decoder
        self.most, self.limits, self.clock, self.pace = most, limits or Limits(), clock, Pace()
        self.gauges = gauges or Gauges()
        self._orders: list[Order] = []
        self._changed, self._closed = threading.Condition(), False
        self._last: tuple[Sequence[Flight], Tensors, Tensors] = ((), {}, {})

    def submit(self, order: Order) -> None:
        """Admit a request. Raises RequestError for what the generator cannot do, BusyError where there is no room."""
        order.arrived = self.clock()
        costs = self.feeds.costs(order.given)
        share = pixel_share(self.feeds, order.given)
        calls = share * sum(rows * terms for rows, terms in costs)
        if calls > self.limits.request_calls:
            raise RequestError(
                f"{len(costs)} images in {max(rows for rows, _ in costs)} steps are {calls:,.0f} calls of "
                f"{self.spec.name}'s network, at most {self.limits.request_calls:,} are taken in one request: ask for "
                "fewer images or steps at once"
            )
        self._check_room(order, calls)
        order.flights = list(self._flights(order, costs, share))
        with self._changed:
            if self._closed:
                raise BusyError(f"{self.spec.name} is being unloaded: ask again later")
            self._orders.append(order)
            self._changed.notify()

    def wait_for(self, given: Columns) -> np.ndarray:
        """The images of a request, uint8 (B, H, W, C), for who has time. Raises what a request is refused with."""
        answered: Future[np.ndarray] = Future()
        self.submit(Order(given, answered.set_result, answered.set_exception))
        return answered.result()

    def close(self) -> None:
        """Ends once nothing is in flight; nothing is admitted any more."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def run(self) -> None:
        while True:
            with self._changed:
                while not self._orders and not self._closed:
                    self._changed.wait()
                if not self._orders:
                    return
                orders = list(self._orders)
            self._turn(orders)
            self._tell()

    def _turn(self, orders: Sequence[Order]) -> None:
        """One call of the network, for those that have the least to do."""
        now = self.clock()
        late = [order for order in orders if order.deadline is not None and now > order.deadline]
        self._fail(late, BusyError(f"{self.spec.name} did not make the images in the time that was given"))
        picked = self._picked([order for order in orders if order.flights], now)
        gone = [order for order in dict.fromkeys(flight.order for flight in picked) if self._is_gone(order, now)]
        self._fail(gone, BusyError("the request was cancelled"))
        if picked := [flight for flight in picked if flight.order not in gone]:
            self._begin(picked, now)
            self._advance(picked)

    def _begin(self, flights: Sequence[Flight], now: float) -> None:
        for order in dict.fromkeys(flight.order for flight in flights if not flight.order.begun):
            order.begun = True
            self.gauges.add("genzoo_queue_seconds_total", now - order.arrived)
            self.gauges.add("genzoo_begun_total", 1)

    def _tell(self) -> None:
        with self._changed:
            orders = list(self._orders)
        begun = sum(order.begun for order in orders)
        values = {
            "genzoo_waiting_requests": len(orders) - begun,
            "genzoo_running_requests": begun,
            "genzoo_waiting_calls": sum(order.calls for order in orders),
        }
        self.gauges.tell(values, self.clock())

    def _is_gone(self, order: Order, now: float) -> bool:
        """Whether nobody waits for an order any more, asked now and then."""
        if now - order.looked < LOOK_S:
            return False
        order.looked = now
        return order.cancelled()

    def _picked(self, orders: Sequence[Order], now: float) -> list[Flight]:
        """Images of one kind: those of the most urgent order, and with them of the next, as far as it is worth it."""
        worth = self.pace.worth(self.most)
        aged = AGING * self.pace.rate(worth)
        ranked = sorted(
            orders, key=lambda each: (not each.urgent, each.calls - aged * (now - each.arrived), each.arrived)
        )
        picked: list[Flight] = []
        rows = 0
        for flight in (flight for order in ranked for flight in order.flights):
            if picked and (flight.kind != picked[0].kind or rows + flight.terms > worth):
                continue
            picked.append(flight)
            rows += flight.terms
            if rows >= worth:
                break
        return picked

    def _advance(self, flights: Sequence[Flight]) -> None:
        """One row further. Where a call fails, each order's images are tried apart, so that only one's own fail."""
        began = self.clock()
        try:
            after, told = self._call(flights)
            self._arrived([flight for flight in flights if flight.row + 1 == len(flight.table)], flights, after)
        except Exception as error:
            orders = list(dict.fromkeys(flight.order for flight in flights))
            if len(orders) == 1:
                self._fail(orders, error)
            else:
                for order in orders:
                    self._advance([flight for flight in flights if flight.order is order])
            return
        rows = sum(flight.terms for flight in flights)
        self.pace.saw(rows, self.clock() - began)
        self.gauges.add("genzoo_network_calls_total", 1)
        self.gauges.add("genzoo_network_rows_total", rows)
        for place, flight in enumerate(flights):
            flight.row += 1
            flight.state = {name: each[place] for name, each in after.items()}
        left = [flight for flight in flights if flight.row < len(flight.table)]
        self._last = (tuple(flights), after, told) if len(left) == len(flights) else ((), {}, {})
        self._show(flights)
        self._settle(flights)

    def _show(self, flights: Sequence[Flight]) -> None:
        """Decode what the images that are watched would be by now: the network's estimate of them, at some rows."""
        shown = [
            (flight, index)
            for flight in flights
            if flight.order.previews
            for row, index in rows_of(flight.order.previews, len(flight.table))
            if row == flight.row
        ]
        if not shown:
            return
        try:
            images = self.decoder.run(x=np.stack([flight.state["previous"] for flight, _ in shown]))["images"]
        except Exception:
            log.exception("previews could not be decoded")
            return
        for (flight, index), image in zip(shown, images, strict=True):
            _told(partial(flight.order.seen, index), _kept(flight, image)[None])

    def _call(self, flights: Sequence[Flight]) -> tuple[Tensors, Tensors]:
        """The state after the row, and what the network was told that is the same at the next, stacked."""
        before, state, told = self._last
        if len(before) != len(flights) or any(a is not b for a, b in zip(before, flights, strict=True)):
            state = {name: np.stack([flight.state[name] for flight in flights]) for name in flights[0].state}
            told = {
                name: np.stack([flight.told[name] for flight in flights]) for name in flights[0].told if name != WEIGHTS
            }
        of_row = {"row": np.stack([flight.table[flight.row] for flight in flights]), "noise": self._noise(flights)}
        if WEIGHTS in flights[0].told:
            of_row[WEIGHTS] = np.stack([
                flight.told[WEIGHTS][min(flight.row, len(flight.told[WEIGHTS]) - 1)] for flight in flights
            ])  # fmt: skip
        found = self.step.run(**state, **told, **of_row)
        names = {"x": "x_next", "previous": "denoised", "saved": "saved_next"}
        return {name: found[of] for name, of in names.items()}, told

    def _noise(self, flights: Sequence[Flight]) -> np.ndarray:
        """The draw of each image's row, zeros where its table does not use it."""
        found = np.zeros((len(flights), *flights[0].state["x"].shape), np.float32)
        stream = self.spec.noise[0].stream
        for place, flight in enumerate(flights):
            if flight.draws > 1:
                index = min(flight.row + 1, flight.draws - 1)
                found[place] = noise.normal([flight.seed], found.shape[1:], stream, index)[0]
            elif flight.edit is not None and flight.edit[0].kept is not None:
                found[place] = noise.normal([flight.seed], found.shape[1:], stream)[0]
        return found

    def _arrived(self, arrived: Sequence[Flight], flights: Sequence[Flight], after: Tensors) -> None:
        """Decode the images whose table is at its end, and put them into their orders."""
        if not arrived:
            return
        places = {id(flight): place for place, flight in enumerate(flights)}
        x = np.stack([after["x"][places[id(flight)]] for flight in arrived])
        finite = np.isfinite(x).reshape(len(x), -1).all(1)
        if not finite.all():
            seed = arrived[int(np.argmin(finite))].seed
            raise BrokenError(
                f"{self.spec.name} made values that are no numbers, for seed {seed}: its weights or graphs are damaged"
            )
        images = self.decoder.run(x=x)["images"]
        for flight, image in zip(arrived, images, strict=True):
            order = flight.order
            if order.images is None:
                order.images = np.empty((len(order.given["seed"]), *image.shape), np.uint8)
            order.images[flight.index] = _kept(flight, image)

    def _settle(self, flights: Sequence[Flight]) -> None:
        """Whose last image has arrived is told, and leaves."""
        for order in dict.fromkeys(flight.order for flight in flights):
            order.flights = [flight for flight in order.flights if flight.row < len(flight.table)]
            if not order.flights:
                self._leave(order)
                assert order.images is not None
                _told(order.done, order.images)

    def _fail(self, orders: Sequence[Order], error: Exception) -> None:
        for order in orders:
            order.flights = []
            self._leave(order)
            _told(order.failed, error)

    def _leave(self, order: Order) -> None:
        with self._changed:
            self._orders.remove(order)

    def _check_room(self, order: Order, calls: float) -> None:
        """Raises BusyError where a request would wait for more than there is room for, or longer than it can."""
        with self._changed:
            orders = list(self._orders)
        waiting = sum(each.calls for each in orders)
        rate = self.pace.rate(self.pace.worth(self.most))
        if waiting and waiting + calls > self.limits.waiting_calls:
            raise BusyError(
                f"{self.spec.name} is busy: {waiting:,.0f} calls of its network wait, about {waiting / rate:.0f} s, at "
                f"most {self.limits.waiting_calls:,} may: ask again later"
            )
        if sum(flight.bytes for each in orders for flight in each.flights) > self.limits.waiting_bytes:
            raise BusyError(f"{self.spec.name} is busy: what waits fills its memory: ask again later")
        if order.deadline is not None:
            before = sum(each.calls for each in orders if (not each.urgent, each.calls) <= (not order.urgent, calls))
            needed, left = (before + calls) / rate, order.deadline - order.arrived
            if needed > left:
                raise BusyError(
                    f"{self.spec.name} needs about {needed:.1f} s for this request beside the others, and has "
                    f"{left:.1f} s: ask again later, or for less"
                )

    def _flights(self, order: Order, costs: Sequence[tuple[int, int]], share: float) -> Iterator[Flight]:
        """The images of a request, those of as many rows and terms prepared together. Raises RequestError."""
        for cost in sorted(set(costs)):
            picked = np.array([index for index, each in enumerate(costs) if each == cost])
            given = {name: column[picked] for name, column in order.given.items()}
            tensors, edit = self.feeds.make(given, draws=MASKED_DRAWS)
            tables, first = tensors.pop("table"), tensors.pop(self.spec.noise[0].name)
            for place, index in enumerate(picked):
                yield self._flight(
                    order, int(index), cost[1], share, tables[place], first[place, 0], edit, place, tensors
                )

    def _flight(
        self,
        order: Order,
        index: int,
        terms: int,
        share: float,
        table: np.ndarray,
        x: np.ndarray,
        edit: Edit | None,
        place: int,
        tensors: Tensors,
    ) -> Flight:
        zeros = np.zeros_like(x)
        told = {name: each[place] for name, each in tensors.items()}
        stochastic = bool(table[:, COLUMNS.index("n")].any())
        return Flight(
            order,
            index,
            int(order.given["seed"].reshape(-1)[index]),
            table,
            {"x": x, "previous": zeros, "saved": zeros},
            told,
            len(table) if stochastic else 1,
            None if edit is None else (edit, place),
            share,
            terms,
            (x.shape, *((name, each.shape) for name, each in sorted(told.items()) if name != WEIGHTS), terms),
        )


def _kept(flight: Flight, image: np.ndarray) -> np.ndarray:
    """What was made, uint8 (H, W, C), with what is kept of a picture as it was."""
    if flight.edit is None or flight.edit[0].pixels is None:
        return image
    edit, place = flight.edit
    assert edit.pixels is not None
    return np.asarray(np.where(edit.pixels[place], edit.images[place], image))


def pixel_share(feeds: Feeds, given: Columns) -> float:
    """A request's images by the usual one, in pixels: what a call of the network costs. Raises RequestError."""
    height, width, _ = concrete(feeds.spec.image_shape, feeds.sizes(given))
    usual_height, usual_width, _ = feeds.spec.default_image_shape
    return height * width / (usual_height * usual_width)


def _told(listener: Callable[[np.ndarray], None] | Callable[[Exception], None], what: object) -> None:
    """A listener that fails is its own affair."""
    try:
        listener(what)  # type: ignore[arg-type]
    except Exception:
        log.exception("the answer of a request could not be given")
