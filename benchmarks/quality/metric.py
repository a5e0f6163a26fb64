"""What a metric is: a line of a table, and a function of what the judges see in a sample."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from benchmarks.quality import features
from benchmarks.quality.features import Reference, View
from benchmarks.quality.judges import Judges, Net
from benchmarks.statistics import Jackknifed, groups
from zoo.datasets import dataset

Made = TypeVar("Made")


@dataclass(frozen=True)
class Sample:
    """The images that are judged, as one net sees them.

    `images` are uint8 (N, H, W, C), or None where only the net's view is at hand (real pictures, of which the shipped
    references have no pixels); `asked` has (N, ...) by the name of a condition, empty for an unconditional generator.
    """

    judges: Judges
    net: Net
    view: View
    images: np.ndarray | None = None
    asked: Mapping[str, np.ndarray] = field(default_factory=dict)

    _kept: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, name: str, make: Callable[[], Made]) -> Made:
        """What several metrics need of a sample, made by the first that asks."""
        if name not in self._kept:
            self._kept[name] = make()
        found: Made = self._kept[name]
        return found

    def __len__(self) -> int:
        return len(self.view.features)

    @cached_property
    def groups(self) -> np.ndarray:
        """(N,) int64, as `statistics.groups`."""
        return groups(len(self))

    @property
    def reference(self) -> Reference:
        """What the net saw in real pictures."""
        return features.reference(self.net.name, self.judges.dataset)

    @property
    def labels(self) -> int:
        """How many values the condition has that the net tells."""
        return len(dataset(self.judges.dataset).labels[self.net.tells])

    def has(self, need: str) -> bool:
        """Whether a metric that needs it can be calculated."""
        return {
            FEATURES: True,
            TOLD: self.net == self.judges.teller and self.view.predicted is not None,
            LOGITS: self.net == self.judges.teller and self.view.logits is not None,
            ASKED: self.net.tells in self.asked,
            IMAGES: self.images is not None,
        }[need]


FEATURES = "features"  # of the net; every net
TOLD = "told"  # `predicted` of the net that tells a condition, and of no other
LOGITS = "logits"  # of that net; the shipped references of real pictures have none
ASKED = "asked"  # what the images were asked for, of the condition that the net tells
IMAGES = "images"  # the pixels


@dataclass(frozen=True)
class Metric:
    """`compute(sample)` is called once for each net for which the sample has all of `needs`, and gives the metric's
    value, or None where it has none (too few images, a data set that is not at hand).

    `by` stands in the metric's name in place of the net's where no net of the judges decides it: "pixels". Then it is
    called once.
    """

    kind: str  # the first word of its name, `fd` of `fd_2k_critic`
    lower_is_better: bool
    needs: tuple[str, ...]
    compute: Callable[[Sample], Jackknifed | None]
    by: str = ""


def metric_name(kind: str, count: int, net: str) -> str:
    """`fd_2k_critic`, `kd_500_classifier`."""
    return f"{kind}_{f'{count // 1000}k' if count % 1000 == 0 else count}_{net}"


def net_of(name: str) -> str:
    """By whom a metric of that name is: `design_pair` of `agreement_2k_design_pair`."""
    found = re.fullmatch(r"[a-z0-9_]+?_\d+k?_(.+)", name)
    return found[1] if found else ""
