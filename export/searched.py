"""What a precision search weighs, keeps and finds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from export.layers import Layer
from export.onnx_graph import OnnxGraph
from export.plan import PrecisionPlan
from export.tiers import Held, Tier
from zoo import files


@dataclass(frozen=True)
class Move:
    """One layer out of float32: `error` is that of its graph's outputs, as a share of their size."""

    layer: Layer
    kind: str
    smooth: bool
    error: float
    saved: float

    @property
    def price(self) -> float:
        return self.error**2 / self.saved


@dataclass(frozen=True)
class Found:
    """A plan, the graphs in its numbers, and what the images of the search's seeds said of it, a request each."""

    plan: PrecisionPlan
    tier: Tier
    graphs: dict[str, OnnxGraph]
    layers: tuple[Layer, ...]
    products: dict[str, int]
    held: dict[str, Held]

    def to_json(self) -> dict[str, Any]:
        """What a manifest says of it; the layers left in float32 are one line."""
        all_of_them = sum(self.products.values())
        low = sum(self.products[name] for name in self.plan.int8 | self.plan.low)
        return {
            "islands": " ".join(self.plan.islands(self.layers)),
            **self.plan.to_json(),
            "share_of_products": round(low / all_of_them, 4),
            "searched": {request: asdict(held) for request, held in self.held.items()},
        }


class Journal:
    """What was measured, in one file that is written after each number."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.found: dict[str, Any] = json.loads(path.read_text())
        except (OSError, ValueError):
            self.found = {}

    def get(self, name: str, measure: Callable[[], Any]) -> Any:
        if name not in self.found:
            self.found[name] = measure()
            files.write_json(self.path, self.found)
        return self.found[name]
