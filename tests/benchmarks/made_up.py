"""Records as a sweep seals them, of generators that nobody measured."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from benchmarks import environment, records
from benchmarks.measure import samples, sweep
from benchmarks.quality import judges, metrics
from benchmarks.quality.metric import net_of
from benchmarks.records import Record
from benchmarks.report.family_tree import trained
from benchmarks.statistics import GROUPS, Jackknifed
from zoo import shelf
from zoo.contract.request import Setting
from zoo.family import Checkpoint

SPREAD = 0.5  # of a made-up value between its groups


def shipped() -> list[Checkpoint]:
    """The trained checkpoints of the zoo's own tree, without the toys that other tests add to the registry."""
    return [each for each in trained() if (shelf.TREE / each.name).is_dir()]


@cache
def floor(count: int) -> dict[str, Any]:
    return metrics.floor(judges.of("fashion_mnist"), count)


def picture(shade: int = 0) -> str:
    """A grid of 40 even images."""
    return base64.b64encode(samples.png(np.full((40, 32, 32, 1), shade, np.uint8), 10)).decode()


def estimate(value: float, half: float = 0.1) -> dict[str, float]:
    """With an interval of that share of it to either side."""
    return {"value": value, "low": (1.0 - half) * value, "high": (1.0 + half) * value}


def cell(
    name: str,
    p50: float,
    *,
    setting: Setting = Setting(),
    runtime: str = "onnxruntime",
    scenario: str = "single-stream",
    weights: str = "0",
    dataset: str = judges.FIRST,
    family: str = "gan",
    nfe: int = 1,
    reference: str | None = None,
    relative: float | None = None,
    flags: tuple[str, ...] = (),
) -> Record:
    """What its latency was in two runs, of 100 queries each."""
    identity = {
        "cell": {
            "generator": name,
            **setting.to_json(),
            "runtime": runtime,
            "precision": "fp32",
            "loop": None,
            "scenario": scenario,
        },
        **sweep.of_dataset(dataset),
        "artifact": {"checkpoint": weights},
        "protocol": {"scenario": scenario, "rounds": 2, "queries": 64, "seconds": 0.2, "warm_up": 5, "batch_size": 16},
        "machine": environment.machine(),
        "software": {"python": "3.11.0", "onnxruntime": "1.23.0", "threads": 2},
    }
    shape = np.sort(np.random.default_rng(len(name)).gamma(4.0, 0.02, 100)) + 0.93
    runs = [
        {
            "round": index,
            "time": "2026-01-01T00:00:00Z",
            "latencies_ms": [round(float(p50 * drift * each), 3) for each in shape],
            "images": 100,
            "seconds": p50 / 10.0,
            "valid": "invalid" not in flags,
            "invalid_because": ["Min duration satisfied : NO"] if "invalid" in flags else [],
            "probe_ms": 2.5,
            "others": 0.01,
            "noisy": "noisy" in flags,
            "reference": None,
        }
        for index, drift in enumerate((0.98, 1.02))
    ]
    return records.make(
        "cell",
        identity,
        family=family,
        nfe=nfe,
        runs=runs,
        latency={
            "p50": estimate(p50),
            "p90": estimate(1.1 * p50),
            "p99": None,
            "images_per_second": estimate(1000.0 / p50),
            "relative": estimate(relative, 0.02) if relative else None,
        },
        reference=reference,
        served=None,
        flags=list(flags),
        environment=environment.describe(),
    )


def quality(
    name: str,
    count: int,
    shift: float,
    *,
    setting: Setting = Setting(),
    weights: str = "0",
    unconditional: bool = False,
    judged: bool = True,
    dataset: str = judges.FIRST,
    family: str = "gan",
    nfe: int = 1,
    shifts: Mapping[str, float] = {},
    shown: str = "",
) -> Record:
    """Distances that are the floor's, `shift` times, or by net `shifts` times; its pictures are black."""
    found = floor(count)
    values = {
        key: estimate["value"] * (shifts.get(net_of(key), shift) if key.startswith("fd") else 1.0)
        for key, estimate in found["metrics"].items()
        if judged and not (unconditional and key == metrics.metric_name("accuracy", count, found["judge"]))
    }
    draws = np.random.default_rng(0).standard_normal(GROUPS)  # the seeds' own: shared by all rows
    own = np.random.default_rng(sum(map(ord, name))).standard_normal(GROUPS)
    scale = SPREAD / GROUPS
    jackknifed = {key: Jackknifed(value, value * (1.0 + scale * (draws + 0.3 * own))) for key, value in values.items()}
    identity = {
        "quality": {
            "generator": name,
            **setting.to_json(),
            "precision": "fp32",
            "loop": None,
            "runtime": "onnxruntime",
        },
        **sweep.of_dataset(dataset),
        "artifact": {"checkpoint": weights},
        "protocol": sweep.judging(count),
        "nets": {},
    }
    return records.make(
        "quality",
        identity,
        family=family,
        nfe=nfe,
        count=count,
        judge=found["judge"] if judged else "",
        references=found["references"] if judged else {},
        metrics={key: vars(each.estimate()) for key, each in jackknifed.items()},
        left_out={key: each.left_out.tolist() for key, each in jackknifed.items()},
        grid=shown or picture(),
        interpolation=shown or picture(),
        environment=environment.describe(),
    )


def cost(name: str, runtime: str, *, weights: str = "0", build_s: float | None = None) -> Record:
    """What it takes before the first image."""
    return records.make(
        "cost",
        {
            "cost": {"generator": name, "runtime": runtime, "precision": "fp32", "loop": None},
            "artifact": {"checkpoint": weights},
            "machine": environment.machine(),
            "software": {"onnxruntime": "1.23.0"},
            "protocol": {"repeats": 3},
        },
        cold_start_s=2.5,
        load_s=0.25,
        build_s=build_s,
        export_s=12.0,
        memory_mb=345.0,
        components={"generator": 0.75},
        energy={"joules_per_image": None, "why": "no counter"},
        environment=environment.describe(),
    )


def made_up(
    name: str,
    p50: float,
    count: int,
    shift: float,
    *,
    runtime: str = "onnxruntime",
    unconditional: bool = False,
    judged: bool = True,
    flags: tuple[str, ...] = (),
    reference: str | None = None,
    relative: float | None = None,
    shifts: Mapping[str, float] = {},
    **same: Any,
) -> list[Record]:
    """What a sweep writes of one generator at one setting on one runtime: a cell and its quality."""
    return [
        cell(name, p50, runtime=runtime, flags=flags, reference=reference, relative=relative, **same),
        quality(name, count, shift, unconditional=unconditional, judged=judged, shifts=shifts, **same),
    ]


def in_colour(record: Record) -> Record:
    """A quality or a baseline as if those who judge designs had said what the classifier says."""
    names = {"fd": "design_contrastive", "recall": "design_contrastive", "accuracy": "design_attributes"}
    content = {key: value for key, value in record.items() if key not in ("id", "time", "digest", "identity")}
    for part in ("metrics", "left_out", "roots"):
        told = {kind: found for name, found in content.get(part, {}).items() if net_of(name) == "classifier"
                for kind in [name.split("_")[0]] if kind in names and not name.startswith("fd_inf")}  # fmt: skip
        content[part] = {metrics.metric_name(kind, content["count"], names[kind]): each for kind, each in told.items()}
    kind = record["identity"]["kind"]
    identity = {key: value for key, value in record["identity"].items() if key not in ("format", "kind")}
    return records.make(kind, identity, **{**content, "judge": names["accuracy"]})


def real(count: int) -> Record:
    """The floor's record."""
    identity = {"baseline": "floor", "protocol": sweep.judging(count), "nets": {}}
    return records.make("baseline", identity, **floor(count), environment=environment.describe())


def race(
    name: str,
    seconds: float,
    shift: float,
    *,
    setting: Setting = Setting(),
    counted: int = 50_000,
    family: str = "gan",
    shifts: Mapping[str, float] = {},
) -> Record:
    """How long a system takes for the race's images, and what they are worth."""
    judged = quality(name, 100, shift, setting=setting, shifts=shifts)
    whole = counted == 50_000
    limits = {name.replace("fd_", "fd_inf_", 1): each for name, each in judged["metrics"].items() if name[:3] == "fd_"}
    return records.make(
        "race",
        {
            "race": {"generator": name, **setting.to_json(), "runtime": "onnxruntime", "precision": "fp32"},
            "artifact": {"checkpoint": "0"},
            "protocol": {"images": 50_000, "counted": counted, "batch": 16, "reference": "ddpm 1000 ddpm"},
            "machine": environment.machine(),
            "software": {"onnxruntime": "1.23.0"},
        },
        family=family,
        seconds=estimate(seconds, 0.02),
        extrapolated=not whole,
        speedup=estimate(1000.0 / seconds, 0.03),
        metrics=judged["metrics"] | limits,
        left_out=judged["left_out"] if whole else None,
    )
