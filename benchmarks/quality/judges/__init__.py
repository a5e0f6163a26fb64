"""Who judges the images of a data set: nets that were trained on it; nobody else's images are compared with it.

    benchmarks/quality/judges/<dataset>/
        __init__.py     JUDGES: its nets in the order of tables, what size they know and what their logits tell
        training.py     `train(net, source)` makes one of them and publishes its folder
        <net>/          graph, weights, reference and card, as `benchmarks.quality.features` reads them

Adding a data set's judges is one such folder and one word in JUDGED.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
JUDGED = ("fashion_mnist",)
FIRST = JUDGED[0]  # what a record is of that names no data set: there was no other


@dataclass(frozen=True)
class Net:
    """A net whose features distances are taken in.

    No two data sets have nets of one name, as the names of metrics end in it.
    """

    name: str
    image_shape: tuple[int, int, int]  # HWC; other images it does not know
    tells: str = ""  # the condition of which its logits are; empty: it was trained without labels
    sees: str = ""  # in words, for the report: "what a picture shows"


@dataclass(frozen=True)
class Judges:
    """The nets of a data set; none for one that has no judges."""

    dataset: str
    nets: tuple[Net, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(net.name for net in self.nets)

    @property
    def teller(self) -> Net | None:
        """The first net that tells a condition: it decides whether an image is what was asked for."""
        return next((net for net in self.nets if net.tells), None)

    @property
    def judge(self) -> str:
        """The teller's name; empty without one."""
        return self.teller.name if self.teller else ""

    @property
    def shapes(self) -> str:
        """What sizes the nets know, in words."""
        return " and ".join(dict.fromkeys("x".join(map(str, net.image_shape)) for net in self.nets))

    def know(self, image_shape: tuple[int, ...]) -> bool:
        """Whether there are nets, and all can judge images of that shape, HWC."""
        return bool(self.nets) and all(net.image_shape == image_shape for net in self.nets)


def of(dataset: str) -> Judges:
    """The judges of a data set."""
    if dataset not in JUDGED:
        return Judges(dataset)
    found: Judges = importlib.import_module(f"{__name__}.{dataset}").JUDGES
    return found


def everybody() -> Iterator[tuple[str, Judges]]:
    """Every net by its name, with the judges that it is of."""
    for dataset in JUDGED:
        judges = of(dataset)
        yield from ((name, judges) for name in judges.names)


def dataset_of(name: str) -> str:
    """The data set that a net was trained on. Raises KeyError."""
    return dict(everybody())[name].dataset


def net(name: str) -> Net:
    """Raises KeyError."""
    return next(each for each in dict(everybody())[name].nets if each.name == name)


def training(name: str) -> Any:
    """The module that makes a net; it imports torch. Raises KeyError."""
    return importlib.import_module(f"{__name__}.{dataset_of(name)}.training")


def folder(name: str) -> Path:
    """Where a net lies. Raises KeyError."""
    return FOLDER / dataset_of(name) / name
