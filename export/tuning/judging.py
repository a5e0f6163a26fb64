"""Which tier an executor's images are of: the gate's comparison, with the bounds of each tier in turn."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from export.bundle import Bundle
from export.gate import fault_of
from export.limits import LIMITS, Limits, in_tier
from export.tiers import TIERS, Tier
from export.variant import Precision
from zoo.contract.generator import Generator
from zoo.contract.graph import MAX_BATCH
from zoo.contract.request import SampleRequest
from zoo.contract.spec import GeneratorSpec

# Whose window of drift a tier has; the exact one has all of the limits of float32.
AS_WIDE_AS = {"exact": Precision.FP32, "45dB": Precision.BF16, "40dB": Precision.INT8}


class Kept(Generator):
    """A generator that makes the images of a request once: the tiers are judged from the same ones."""

    def __init__(self, inner: Generator, kept: dict[Any, np.ndarray] | None = None) -> None:
        feeds = inner.feeds
        super().__init__(inner.spec, inner.runner, feeds.assets, feeds.encoders, feeds.rows)
        self.kept: dict[Any, np.ndarray] = {} if kept is None else kept

    def with_spec(self, spec: GeneratorSpec) -> Kept:
        return Kept(super().with_spec(spec), self.kept)

    def sample(self, request: SampleRequest, batch_size: int = MAX_BATCH) -> np.ndarray:
        sizes = tuple(sorted(request.sizes.items()))
        key = (request.seeds, request.setting, sizes, tuple(sorted(request.conditions)))
        if key not in self.kept:
            self.kept[key] = super().sample(request, batch_size)
        return self.kept[key]


def limits(tier: Tier, max_drift: float | None = None) -> Limits:
    """What the gate lets an executor of a tier differ by; `max_drift` takes the place of the window's half width."""
    found = in_tier(LIMITS[AS_WIDE_AS[tier.name]], tier)
    return found if max_drift is None else dataclasses.replace(found, drift=max_drift)


def judge(bundle: Bundle, reference: Kept, entry: Generator, max_drift: float | None = None) -> dict[str, Any]:
    """The tightest tier that holds for the images of `entry`, or None, with `faults` by tier and what was measured.

    `bundle` is the float32 one, whose requests are made, `reference` makes its images. The exact tier is the gate's
    bound for float32; a looser one holds where its share of images does, too.
    """
    made, faults, numbers = Kept(entry), dict[str, str](), dict[str, Any]()
    for tier in TIERS:
        fault = fault_of(bundle, reference, made, numbers, limits=limits(tier, max_drift))
        held = numbers.get("tiers", {}).get(tier.name)
        if fault is None and tier.psnr_db is not None and not held["ok"]:
            fault = f"only {held['share']:.1%} of its images (from {held['low']:.1%}) are at {tier.psnr_db:g} dB"
        if fault is None:
            return {"tier": tier.name, "faults": faults, **_measured(numbers)}
        faults[tier.name] = fault
    return {"tier": None, "faults": faults, **_measured(numbers)}


def _measured(numbers: dict[str, Any]) -> dict[str, Any]:
    """Of many images: decibels in the mean and of the worst, drift, and by tier the share with its interval."""
    worst = [each["worst_db"] for each in numbers["requests"]]
    found = {"requests": len(worst), "worst_of_requests_db": round(min(worst), 2)}
    if "tiers" in numbers:
        some = next(iter(numbers["tiers"].values()))
        found |= {"mean_db": round(some["mean"], 2), "worst_db": round(some["worst"], 2)}
        shares = {
            name: [round(each[key], 4) for key in ("share", "low", "high")] for name, each in numbers["tiers"].items()
        }
        found |= {"shares": shares, "drift": numbers["drift"]}
    return found
