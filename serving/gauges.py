"""What a generator that goes by rows tells Triton's metrics: who waits for a row, what is in flight, what was made.

Triton itself counts requests in its own queues, where these do not wait. It tells these beside its own, at the same
address.
"""

from __future__ import annotations

from collections.abc import Mapping
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


class Gauges:
    """Of a scheduler that nobody asks."""

    def add(self, name: str, amount: float) -> None:
        """To one of `COUNTERS`."""

    def tell(self, values: Mapping[str, float], now: float) -> None:
        """What `GAUGES` are at a time; it may be left for later, but of one at rest."""


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
