"""Who judges the images of a data set: those that know such pictures; nobody else's images are compared with it.

    benchmarks/quality/judges/<dataset>/
        __init__.py     JUDGES: its nets in the order of tables, what size they know and what their logits tell; or a
                        reader, for what a net's one label cannot say
        training.py     `train(judge, source)` makes one of them and publishes its folder
        <net>/          graph, weights, references and card, as `benchmarks.quality.features` reads them

Adding a data set's judges is one such folder and one word in JUDGED. A data set of pictures that another's judges know
says so in its record, `judged_by`: of it each net has a reference of its own, so that distances are taken to what a
generator was shown; whoever reads what was asked for judges it too where its values mean the same.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from zoo import datasets

FOLDER = Path(__file__).parent
JUDGED = ("fashion_mnist", "portraits", "designs")
FIRST = "fashion_mnist"  # what a record is of that names no data set: there was no other


@dataclass(frozen=True)
class Net:
    """A net whose features distances are taken in.

    No two folders have nets of one name, as the names of metrics end in it.
    """

    name: str
    image_shape: tuple[int, int, int]  # HWC; other images it does not know
    tells: str = ""  # the condition of which its logits are; empty: it was trained without labels
    sees: str = ""  # in words, for the report: "what a picture shows"
    depths: int = 0  # of which its graph also gives the maps: perceptual distances and linear probes are in such a net

    @property
    def outputs(self) -> tuple[str, ...]:
        """Of its graph, in order."""
        return ("features", *(("logits",) if self.tells else ()), *(f"maps_{depth}" for depth in range(self.depths)))


@dataclass(frozen=True)
class Reader:
    """Who says whether an image is what was asked for, where no net's logits can: of a prompt, for one."""

    name: str
    image_shape: tuple[int, int, int]  # HWC
    reads: str  # the condition
    right: Callable[[np.ndarray, np.ndarray], np.ndarray]  # uint8 (N, H, W, C), (N, ...) as asked -> bool (N,)
    also: tuple[str, ...] = ()  # other data sets whose values of that condition mean the same


@dataclass(frozen=True)
class Pair:
    """Who embeds images and what they were asked for side by side, to say how well they agree."""

    name: str
    image_shape: tuple[int, int, int]  # HWC
    reads: str  # the condition
    embed: Callable[
        [np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]
    ]  # uint8 (N, H, W, C), (N, ...) -> (N, D) * 2
    also: tuple[str, ...] = ()  # as a reader's


@dataclass(frozen=True)
class Judges:
    """The judges of a data set; none for one that has no such folder."""

    dataset: str
    nets: tuple[Net, ...] = ()
    reader: Reader | None = None
    pair: Pair | None = None
    unique: bool = True  # pictures: one that is as a training picture is a copy, not another of the same few parts

    def of_others(self, dataset: str) -> Judges:
        """Those of them that judge the pictures of another data set, whose record says so."""
        reader = self.reader if self.reader and dataset in self.reader.also else None
        pair = self.pair if self.pair and dataset in self.pair.also else None
        return replace(self, dataset=dataset, reader=reader, pair=pair)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the nets, in whose features distances are taken."""
        return tuple(net.name for net in self.nets)

    @property
    def everybody(self) -> tuple[Net | Reader | Pair, ...]:
        return (*self.nets, *(each for each in (self.reader, self.pair) if each))

    @property
    def prober(self) -> Net | None:
        """The net whose maps and features other comparisons than distances are made in."""
        return next((net for net in self.nets if net.depths), None)

    @property
    def teller(self) -> Net | None:
        """The first net that tells a condition: it decides whether an image is what was asked for, without a reader."""
        return next((net for net in self.nets if net.tells), None)

    @property
    def judge(self) -> str:
        """Who decides whether an image is what was asked for; empty for nobody."""
        found = self.reader or self.teller
        return found.name if found else ""

    @property
    def shapes(self) -> str:
        """What sizes they know, in words."""
        return " and ".join(dict.fromkeys("x".join(map(str, each.image_shape)) for each in self.everybody))

    def know(self, image_shape: tuple[int, ...]) -> bool:
        """Whether there are judges, and all know images of that shape, HWC."""
        return bool(self.everybody) and all(each.image_shape == image_shape for each in self.everybody)


def of(dataset: str) -> Judges:
    """The judges of a data set: its own, else those of the one that its record names."""
    known = datasets.known(dataset)
    whose = dataset if dataset in JUDGED or known is None else known.judged_by
    if whose not in JUDGED:
        return Judges(dataset)
    found: Judges = importlib.import_module(f"{__name__}.{whose}").JUDGES
    return found if whose == dataset else found.of_others(dataset)


def judged_with(dataset: str) -> tuple[str, ...]:
    """The data sets that the judges of one judge, itself the first."""
    others = (name for name in datasets.DATASETS if name not in JUDGED)
    return (dataset, *(name for name in others if datasets.dataset(name).judged_by == dataset))


def everybody() -> Iterator[tuple[str, Judges]]:
    """Every judge by its name, with those that it is one of."""
    for dataset in JUDGED:
        judges = of(dataset)
        yield from ((each.name, judges) for each in judges.everybody)


def dataset_of(name: str) -> str:
    """The data set whose folder a judge is in. Raises KeyError."""
    return dict(everybody())[name].dataset


def net(name: str) -> Net:
    """Raises KeyError."""
    return next(each for each in dict(everybody())[name].nets if each.name == name)


def training(name: str) -> Any:
    """The module that makes a judge; it imports torch. Raises KeyError."""
    return importlib.import_module(f"{__name__}.{dataset_of(name)}.training")


def folder(name: str) -> Path:
    """Where a judge lies. Raises KeyError."""
    return FOLDER / dataset_of(name) / name
