"""The judges of the twelve designs: which words of a caption a picture shows, how well both agree, and a net."""

from __future__ import annotations

from pathlib import Path

from benchmarks.quality.judges import Net
from benchmarks.quality.judges.captioned import SHAPE, Captioned
from zoo.datasets.design_styles import DESIGNS, WORDS
from zoo.datasets.designs import understood

CAPTIONED = Captioned(
    "designs", Path(__file__).parent, DESIGNS, WORDS, 11, understood, "design_attributes", "design_pair"
)
JUDGES = CAPTIONED.judges(
    Net("design_contrastive", SHAPE, sees="what makes one picture another", depths=4), also=("critters",)
)
