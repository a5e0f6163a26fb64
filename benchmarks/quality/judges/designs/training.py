"""How the judges of designs are trained."""

from __future__ import annotations

from pathlib import Path

from benchmarks.quality.judges import captioned_training, feature_training
from benchmarks.quality.judges.captioned_training import pair, reader
from benchmarks.quality.judges.designs import CAPTIONED
from benchmarks.quality.judges.feature_training import Comparison, Contrastive
from benchmarks.quality.judges.parts import conv
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
NETS = {
    "design_contrastive": feature_training.Design(
        lambda: Contrastive(conv(3, 32, 5, 2), (32, 48, 64, 64)),
        Comparison,
        lambda pixels: pixels,
        Recipe(
            "comparison", images=240_000, batch_size=200, learning_rate=2e-3, ema_images=10_000, seed=45, minutes=5.0
        ),
        "Tells which two windows were cut from one picture, mirrored and lighter or darker as they may be (SimCLR, "
        "Chen et al. 2020), and was taught nothing else: neither words nor faults. It saw the twelve designs in "
        "pictures of all combinations that no generator saw. Nothing is resampled, blurred or given other colours in "
        "its training, so it need not overlook sharpness or colour. A convolutional network; the features are the "
        "channel means of its last depth, and the maps of all four depths are what perceptual distances compare.",
        "It overlooks light and contrast, where in a picture something is, and weak noise: up to a standard deviation "
        "of a tenth of the range the Fréchet distance does not grow (1.48 of 500 intact pictures, 1.29 with it, 3.25 "
        "with twice as much), though precision falls from 0.92 to 0.76. It never saw a landscape or an emoji.",
    ),
}


def train(name: str, source: str | None = None) -> Path:
    """Train one by its recipe and publish it; its folder."""
    if name in NETS:
        return feature_training.train(name, NETS[name], DATASET, source)
    return captioned_training.train(CAPTIONED, name, DESIGNS[name], DATASET, source)
