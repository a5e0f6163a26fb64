"""What a generator tells Triton's metrics, which Triton tells beside its own, at the same address.

One that goes by rows: who waits for a row, what is in flight, what was made, for Triton counts requests in its own
queues, where these do not wait. And each what Triton counts that is no image of a user.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Protocol

EVERY_S = 0.2  # between two times that Triton is told, each of which is a message to its process
COUNTERS = {
    "genzoo_queue_seconds_total": "What requests waited for their first row.",
    "genzoo_begun_total": "Requests that had their first row.",
    "genzoo_network_calls_total": "Executions of the network.",
    "genzoo_network_rows_total": "Rows of them: images times terms of guidance.",
}
GAUGES = {
    "genzoo_waiting_requests": "Requests in flight without a row so far.",
    "genzoo_running_requests": "Requests in flight with one.",
    "genzoo_waiting_calls": "Calls of the network that are left of all in flight, each for an image of the usual size.",
}

BESIDE = "genzoo_beside_users_total"


class Beside(StrEnum):
    """What Triton's `nv_inference_count` has beside images of users: those of canaries, those that were refused, which
    to Triton is a success, and what was asked about another request."""

    CANARY = "canary"
    REFUSAL = "refusal"
    QUESTION = "question"


class Gauges:
    """Of a scheduler that nobody asks."""

    def add(self, name: str, amount: float) -> None:
        """To one of `COUNTERS`."""

    def tell(self, values: Mapping[str, float], now: float) -> None:
        """What `GAUGES` are at a time; it may be left for later, but of one at rest."""

    def close(self) -> None:
        """Nothing is told from here on."""


class Metric(Protocol):
    """Triton's."""

    def set(self, value: float) -> None: ...

    def increment(self, value: float) -> None: ...


class TritonGauges(Gauges):
    """Those of one model, by the Python backend's utilities."""

    def __init__(self, utils: Any, model: str) -> None:
        families = {
            utils.MetricFamily.COUNTER: COUNTERS,
            utils.MetricFamily.GAUGE: GAUGES,
        }
        self._families, self._metrics = [], dict[str, Metric]()
        for kind, known in families.items():
            for name, description in known.items():
                family = utils.MetricFamily(name=name, description=description, kind=kind)
                self._families.append(family)  # its metrics go with it
                self._metrics[name] = family.Metric(labels={"model": model})
        self._added, self._told = dict.fromkeys(COUNTERS, 0.0), float("-inf")

    def add(self, name: str, amount: float) -> None:
        self._added[name] += amount

    def tell(self, values: Mapping[str, float], now: float) -> None:
        if any(values.values()) and now - self._told < EVERY_S:
            return
        self._told = now
        for name, amount in self._added.items():
            if amount:
                self._metrics[name].increment(amount)
        self._added = dict.fromkeys(COUNTERS, 0.0)
        for name, value in values.items():
            self._metrics[name].set(value)

    def close(self) -> None:
        _leave(self._metrics, self._families)


def _leave(metrics: dict[Any, Metric], families: list[Any]) -> None:
    """While Triton still listens: what is destroyed once its process is gone ends the model's by SIGSEGV."""
    metrics.clear()
    families.clear()


class BesideUsers:
    """Counts it, of one model, by the Python backend's utilities."""

    def __init__(self, utils: Any, model: str) -> None:
        family = utils.MetricFamily(
            name=BESIDE,
            description="Of nv_inference_count what is no image of a user.",
            kind=utils.MetricFamily.COUNTER,
        )
        self._families = [family]
        self._metrics: dict[Beside, Metric] = {
            kind: family.Metric(labels={"model": model, "kind": kind.value}) for kind in Beside
        }
        self._added, self._told, self._lock = dict.fromkeys(Beside, 0), float("-inf"), threading.Lock()

    def add(self, kind: Beside, images: int) -> None:
        with self._lock:
            self._added[kind] += images
        self.tell()

    def tell(self) -> None:
        """What was added, but not twice in `EVERY_S`: then it is left for the next request, at the latest a canary."""
        with self._lock:
            if not any(self._added.values()) or time.monotonic() - self._told < EVERY_S:
                return
            self._told = time.monotonic()
            for kind, images in self._added.items():
                if images:
                    self._metrics[kind].increment(images)
            self._added = dict.fromkeys(Beside, 0)

    def close(self) -> None:
        with self._lock:
            self._added = dict.fromkeys(Beside, 0)
            _leave(self._metrics, self._families)
