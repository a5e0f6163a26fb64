"""The judges of portraits: which words of a caption a picture shows, and how well both agree."""

from __future__ import annotations

from pathlib import Path

from benchmarks.quality.judges.captioned import Captioned
from zoo.datasets.portrait_styles import STYLES, WORDS
from zoo.datasets.portraits import read

CAPTIONED = Captioned("portraits", Path(__file__).parent, STYLES, WORDS, 8, read)
JUDGES = CAPTIONED.judges()
