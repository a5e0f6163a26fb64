"""Records as `sweep.measure` seals them, of cells that nobody measured."""

from __future__ import annotations

import base64
from functools import cache
from typing import Any

import numpy as np

from benchmarks import environment, records
from benchmarks.measure import samples, sweep
from benchmarks.quality import judges, metrics
from benchmarks.records import Record
from benchmarks.report.family_tree import trained
from zoo import shelf
from zoo.contract.request import Setting
from zoo.family import Checkpoint


def shipped() -> list[Checkpoint]:
    """The trained checkpoints of the zoo's own tree, without the toys that other tests add to the registry."""
    return [each for each in trained() if (shelf.TREE / each.name).is_dir()]


@cache
def floor(count: int) -> dict[str, Any]:
    return metrics.floor(judges.of("fashion_mnist"), count)


def made_up(
    name: str,
    p50: float,
    count: int,
    shift: float,
    *,
    setting: Setting = Setting(),
    runtime: str = "onnxruntime",
    weights: str = "0",
    unconditional: bool = False,
    judged: bool = True,
    dataset: str = judges.FIRST,
) -> Record:
    """A cell whose distances are the floor's, `shift` times; its pictures are black."""
    found = floor(count)
    estimates = {
        key: {part: value * (shift if key.startswith("fd") else 1.0) for part, value in estimate.items()}
        for key, estimate in found["metrics"].items()
        if not (unconditional and key == metrics.metric_name("accuracy", count, found["judge"]))
    }
    cell = {"generator": name, **setting.to_json(), "runtime": runtime}
    identity = {
        "cell": {**cell, "precision": "fp32", "loop": None, "scenario": "single-stream"},
        **sweep.of_dataset(dataset),
        "artifact": {"checkpoint": weights},
        "protocol": {"judged": count, "batch_size": 16},
        "machine": environment.machine(),
    }
    picture = base64.b64encode(samples.png(np.zeros((40, 32, 32, 1), np.uint8), 10)).decode()
    timing = {"value": p50, "low": 0.9 * p50, "high": 1.1 * p50}
    return records.make(
        "cell",
        identity,
        family="gan",
        nfe=1,
        latency={"raw_ms": [p50], "p50": timing, "p90": timing, "p99": timing, "images_per_second": 1000 / p50},
        quality={**found, "metrics": estimates} if judged else None,
        grid=picture,
        interpolation=picture,
        environment=environment.describe(),
        noise={"noisy": False},
    )
