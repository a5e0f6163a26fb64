"""How the judges of designs are trained."""

from __future__ import annotations

from pathlib import Path

from benchmarks.quality.judges import captioned_training
from benchmarks.quality.judges.captioned_training import pair, reader
from benchmarks.quality.judges.designs import CAPTIONED
from zoo.family import Recipe

DATASET = "more_designs"
DESIGNS = {
    "design_attributes": reader(
        Recipe("reading", images=140_000, learning_rate=2e-3, ema_images=10_000, seed=43, minutes=6.0)
    ),
    "design_pair": pair(
        Recipe("agreement", images=180_000, learning_rate=2e-3, ema_images=10_000, seed=44, minutes=8.0)
    ),
}


def train(name: str, source: str | None = None) -> Path:
    """Train one by its recipe and publish it; its folder."""
    return captioned_training.train(CAPTIONED, name, DESIGNS[name], DATASET, source)
