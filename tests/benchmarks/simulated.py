"""Records as a run of the benchmark seals them, of latencies and metrics that a random generator made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from benchmarks import records
from benchmarks.measure import rounds
from benchmarks.records import Record
from benchmarks.statistics import GROUPS, Jackknifed, mean

MACHINE = {"cpu": "one", "cores": 2, "memory_gb": 16, "host": "0123"}
SERVED = {"images": 20, "lsb": 0, "differing": 0.0, "within": True, "window": None, "cache": None}
SOFTWARE = {"python": "3.11.7", "onnxruntime": "1.31.1", "threads": 2}


def cell(
    name: str,
    medians: Sequence[float],
    *,
    scenario: str = "single-stream",
    reference: Sequence[float] | None = None,
    flags: Sequence[str] = (),
    machine: Mapping[str, Any] = MACHINE,
    software: Mapping[str, Any] = SOFTWARE,
    weights: str = "1" * 64,
    seed: int = 0,
) -> Record:
    """A cell whose runs have these medians, in milliseconds; the reference's are 1 ms unless they are given."""
    random = np.random.default_rng([seed, *name.encode()])
    beside = [1.0] * len(medians) if reference is None else reference
    runs = [_run(turn, median, by, random) for turn, (median, by) in enumerate(zip(medians, beside, strict=True))]
    asked = {"generator": name, "num_steps": None, "sampler": None, "guidance_scale": 1.0, "runtime": "onnxruntime"}
    identity = {
        "cell": {**asked, "precision": "fp32", "loop": None, "scenario": scenario},
        "artifact": {"checkpoint": weights},
        "protocol": {"scenario": scenario, "rounds": len(medians)},
        "machine": dict(machine),
        "software": dict(software),
    }
    latency = rounds.summary(scenario, runs)
    content = {"runs": runs, "latency": latency, "served": SERVED, "flags": list(flags)}
    return records.make("cell", identity, family="gan", nfe=1, **content)


def _run(turn: int, median: float, reference: float, random: np.random.Generator) -> dict[str, Any]:
    calls = np.sort(random.lognormal(np.log(median), 0.05, 33))
    calls *= median / np.median(calls)
    return {
        "round": turn,
        "latencies_ms": [round(float(each), 4) for each in random.permutation(calls)],
        "images": len(calls),
        "seconds": round(float(calls.sum()) / 1000.0, 6),
        "valid": True,
        "invalid_because": [],
        "probe_ms": 3.0,
        "others": 0.01,
        "noisy": False,
        "reference": {"p50_ms": reference, "images_per_second": 1000.0 / reference},
    }


def quality(
    name: str,
    values: Mapping[str, np.ndarray],
    *,
    shares: Mapping[str, np.ndarray] = MappingProxyType({}),
    skewed: Mapping[str, Jackknifed] = MappingProxyType({}),
    first_seed: int = 1_000_000,
) -> Record:
    """A row whose metrics are means of one value an image, (N,) each, `shares` of booleans; `skewed` as they are."""
    found = {metric: mean(each) for metric, each in values.items()}
    found |= {metric: mean(each, share=True) for metric, each in shares.items()}
    found |= skewed
    asked = {"generator": name, "num_steps": None, "sampler": None, "guidance_scale": 1.0}
    [count] = {len(each) for each in (*values.values(), *shares.values())}
    identity = {
        "quality": {**asked, "precision": "fp32", "loop": None, "runtime": "onnxruntime"},
        "artifact": {"checkpoint": "1" * 64},
        "protocol": {"judged": count, "first_seed": first_seed, "groups": GROUPS, "conditions": "by frequency"},
        "nets": {},
    }
    return records.make(
        "quality",
        identity,
        family="gan",
        nfe=1,
        count=count,
        metrics={metric: _plain(each) for metric, each in found.items()},
        left_out={metric: each.left_out.tolist() for metric, each in found.items()},
        roots={metric: each.root.to_json() for metric, each in found.items() if each.root},
    )


def _plain(found: Any) -> dict[str, float]:
    estimate = found.estimate()
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}
