"""Data sets: a file each, with a record of what the set is and where it comes from; a look-up imports one of them.

A checkpoint names its data set, and training, the judges of quality and the cards obey: nothing else says what it
shows, under which licence, or how its classes are called.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from zoo.contract.errors import nearest
from zoo.errors import GenzooError

DATASETS = (
    "altered_designs",
    "critters",
    "critters_and_plants",
    "day_and_night",
    "designs",
    "drawings",
    "emoji",
    "faces",
    "fashion_mnist",
    "illustrations",
    "inked_designs",
    "more_designs",
    "more_portraits",
    "one_person",
    "one_picture",
    "openmoji",
    "portraits",
    "same_people",
    "scene_boxes",
    "scene_maps",
    "scenes",
)


class DatasetError(GenzooError):
    """A data set is missing, a file of it is not the published one, or it lacks what is asked of it."""


class UnknownDatasetError(DatasetError, LookupError):
    """A data set of which there is no file; the message gives the nearest ones."""


@dataclass(frozen=True)
class Data:
    """Pictures, uint8 (N, H, W, C) in [0, 255], and what is known of each: N values a condition, by its name.

    Class ids are int64 (N,), a prompt is N strings; a picture, a mask, boxes and the like are arrays (N, ...).
    """

    images: np.ndarray
    conditions: Mapping[str, np.ndarray | Sequence[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Dataset:
    """What is known of a data set without loading it; `load(split, source)` gives "train" or "test".

    `source` is a directory, a file or a URL, as the data set's own file says; None is its usual place. Loading raises
    DatasetError where a file is missing or is not the published one.
    """

    name: str  # of its file, and in every checkpoint that was trained on it
    title: str
    licence: str  # as its publisher calls it: "MIT", "CC BY-SA 4.0"
    credit: str  # whose it is, and where it is described
    shows: str  # what a generator of it knows, in words: "ten kinds of clothes as 28x28 grey pictures, padded to 32x32"
    prepared: str  # what was done to its pictures: "padded to 32x32"
    verified: str  # how it is known that they are the published ones, in words: "by digest"
    image_shape: tuple[int, int, int]  # HWC
    counts: Mapping[str, int]  # pictures a split
    load: Callable[[str, str | None], Data]
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # of the values of a condition, by its name
    judged_by: str = ""  # the data set whose judges know such pictures, where there are none of its own
    asks: tuple[str, ...] = ()  # the conditions in which held-out pictures ask, together, for a picture of the set


def dataset(name: str) -> Dataset:
    """The data set in `zoo/datasets/<name>.py`. Raises UnknownDatasetError."""
    if name not in DATASETS:
        raise UnknownDatasetError(
            f"unknown data set {name!r}: {nearest(name, DATASETS)}; a new one is a file in zoo/datasets"
        )
    found: Dataset = importlib.import_module(f"zoo.datasets.{name}").DATASET
    return found


def known(name: str) -> Dataset | None:
    """The same; None for a name that is no data set's here, as that of an import."""
    return dataset(name) if name in DATASETS else None
