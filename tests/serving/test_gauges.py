"""What a model tells Triton's metrics is given back before Triton's process is gone."""

from __future__ import annotations

import weakref
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from serving.gauges import Beside, BesideUsers, TritonGauges


class Metric:
    alive: ClassVar[weakref.WeakSet[Metric]] = weakref.WeakSet()

    def __init__(self, labels: dict[str, str]) -> None:
        self.value, self.labels = 0.0, labels
        self.alive.add(self)

    def set(self, value: float) -> None:
        self.value = value

    def increment(self, value: float) -> None:
        self.value += value


class MetricFamily:
    COUNTER, GAUGE = range(2)

    def __init__(self, name: str, description: str, kind: int) -> None:
        self.Metric = Metric


UTILS = SimpleNamespace(MetricFamily=MetricFamily)


@pytest.mark.parametrize("kind", [TritonGauges, BesideUsers])
def test_no_metric_outlives_the_end(kind: Any) -> None:
    """Those of Triton's Python backend end their process by SIGSEGV where they are destroyed after it."""
    kept = kind(UTILS, "gan")
    assert len(Metric.alive) > 1
    kept.close()
    assert not Metric.alive


def test_kinds_are_counted_apart() -> None:
    kept = BesideUsers(UTILS, "gan")
    kept.add(Beside.CANARY, 3)
    assert {each.labels["kind"]: each.value for each in Metric.alive} == {"canary": 3, "refusal": 0, "question": 0}
    kept.close()
