"""What a door tells Prometheus: of each generator who asks and waits, what it costs, what is refused and why.

Requests of users alone: canaries ask Triton, not the door. What is queued behind the door Triton tells itself (see
docs/serving.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
CONTENT_TYPE = CONTENT_TYPE_LATEST
LEFT = "client_left"  # the reason of what nobody waited for


class Metrics:
    """The door's own, of one process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        of_model, of_tier = ["model"], ["model", "tier"]
        self.requests = Counter("genzoo_requests", "Requests whose images were made.", of_tier, registry=registry)
        self.refusals = Counter(
            "genzoo_refusals", "Requests without images, by the reason.", ["model", "reason"], registry=registry
        )
        self.seconds = Histogram(
            "genzoo_request_seconds",
            "From a request to the end of its answer.",
            of_tier,
            registry=registry,
            buckets=BUCKETS_S,
        )
        self.first = Histogram(
            "genzoo_first_image_seconds",
            "To the first preview or image of a stream.",
            of_model,
            registry=registry,
            buckets=BUCKETS_S,
        )
        self.images = Counter("genzoo_images", "Images that were made.", of_tier, registry=registry)
        self.previews = Counter("genzoo_previews", "Previews that were shown.", of_model, registry=registry)
        self.calls = Counter(
            "genzoo_calls",
            "Calls of networks that were made, each for an image of the usual size.",
            of_tier,
            registry=registry,
        )
        self.under_way = Gauge("genzoo_requests_in_flight", "Requests under way.", of_model, registry=registry)
        self.calls_under_way = Gauge(
            "genzoo_calls_in_flight", "Calls of networks that they cost.", of_model, registry=registry
        )
        self.chosen = Counter(
            "genzoo_auto_chosen", "What auto chose: a measured point.", ["dataset", "point"], registry=registry
        )
        self.waited = Histogram(
            "genzoo_auto_queue_seconds",
            "What requests for auto waited for their turn.",
            ["dataset"],
            registry=registry,
            buckets=BUCKETS_S,
        )
        self._waiting = Gauge("genzoo_auto_waiting", "Requests for auto that wait.", ["dataset"], registry=registry)

    def offer(self, model: str) -> None:
        """A generator that is offered is told of before anybody asks for it."""
        for gauge in (self.under_way, self.calls_under_way):
            gauge.labels(model)

    def waiting(self, dataset: str, count: Callable[[], int]) -> None:
        self._waiting.labels(dataset).set_function(count)

    def text(self) -> bytes:
        found: bytes = generate_latest(self.registry)
        return found


class Seen:
    """One request on its way through the door; what is said of it once it has ended is for the log."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self.metrics, self.clock, self.began = metrics, clock, clock()
        self.model, self.tier, self.reason = "", "", ""
        self.calls, self.wanted, self.images = 0.0, 0, 0
        self._first = True

    @property
    def facts(self) -> dict[str, str | float]:
        """For a log: what is known of it."""
        found: dict[str, str | float] = {"model": self.model, "tier": self.tier, "reason": self.reason}
        found |= {"calls": self.calls, "images": self.images}
        return {name: value for name, value in found.items() if value}

    def ordered(self, model: str, tier: str, calls: float, images: int) -> None:
        """So many images may be made."""
        self.model, self.tier, self.calls, self.wanted = model, tier, calls, images
        self.metrics.under_way.labels(model).inc()
        self.metrics.calls_under_way.labels(model).inc(calls)

    def preview(self) -> None:
        self._see()
        self.metrics.previews.labels(self.model).inc()

    def made(self, images: int, *, streamed: bool = False) -> None:
        if streamed:
            self._see()
        self.images += images
        self.metrics.images.labels(self.model, self.tier).inc(images)

    def chosen(self, dataset: str, point: str, seconds: float) -> None:
        """By `auto`, and made in so many seconds of its turn."""
        self.metrics.chosen.labels(dataset, point).inc()
        self.metrics.waited.labels(dataset).observe(max(0.0, self.clock() - self.began - seconds))

    def refused(self, reason: str) -> None:
        self.reason = reason

    def ended(self) -> float:
        """The seconds that it took."""
        took = self.clock() - self.began
        if self.wanted:
            self.metrics.under_way.labels(self.model).dec()
            self.metrics.calls_under_way.labels(self.model).dec(self.calls)
        if self.wanted and self.images == self.wanted:
            self.metrics.requests.labels(self.model, self.tier).inc()
            self.metrics.seconds.labels(self.model, self.tier).observe(took)
            self.metrics.calls.labels(self.model, self.tier).inc(self.calls)
        elif self.wanted or self.reason:
            self.reason = self.reason or LEFT
            self.metrics.refusals.labels(self.model, self.reason).inc()
        return took

    def _see(self) -> None:
        if self._first:
            self.metrics.first.labels(self.model).observe(self.clock() - self.began)
        self._first = False
