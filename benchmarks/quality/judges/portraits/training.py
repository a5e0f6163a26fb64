"""How the judges of portraits were trained."""

from __future__ import annotations

from pathlib import Path

from benchmarks.quality.judges import captioned_training
from benchmarks.quality.judges.captioned_training import pair, reader
from benchmarks.quality.judges.portraits import CAPTIONED
from zoo.family import Recipe

DATASET = "more_portraits"
DESIGNS = {
    "attributes": reader(
        Recipe("reading", images=108_000, learning_rate=2e-3, ema_images=10_000, seed=13, minutes=5.0)
    ),
    "pair": pair(Recipe("agreement", images=126_000, learning_rate=2e-3, ema_images=10_000, seed=14, minutes=6.0)),
}


def train(name: str, source: str | None = None) -> Path:
    """Train one by its recipe and publish it; its folder."""
    return captioned_training.train(CAPTIONED, name, DESIGNS[name], DATASET, source)
