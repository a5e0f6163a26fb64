"""Data sets of the tests' own: a file each, written where a test wants it and known while the test lasts."""

from __future__ import annotations

from pathlib import Path

import pytest

import zoo.datasets

STRIPES = '''
"""Noisy stripes, drawn here: the class is their period."""
import numpy as np

from zoo.datasets import Data, Dataset

SHAPE, CLASSES, COUNT = {shape}, {classes}, 100


def load(split, source=None):
    generator = np.random.default_rng(split == "test")
    class_ids = np.arange(COUNT) % CLASSES
    light = (np.arange(SHAPE[0]) // (class_ids[:, None] + 1)) % 2 * 128
    noise = generator.integers(0, 128, (COUNT, *SHAPE), np.uint8)
    return Data((light[:, :, None, None] + noise).astype(np.uint8), {{"class_id": class_ids}})


DATASET = Dataset(
    name="{name}",
    title="Stripes",
    licence="CC0",
    credit="genzoo's tests",
    shows="stripes of %d periods" % CLASSES,
    prepared="drawn as they are",
    verified="by nothing",
    image_shape=SHAPE,
    counts={{"train": COUNT, "test": COUNT}},
    load=load,
    labels={{"class_id": tuple("period %d" % (2 * k + 2) for k in range(CLASSES))}},
)
'''


def stripes(
    patch: pytest.MonkeyPatch,
    folder: Path,
    name: str = "stripes",
    shape: tuple[int, int, int] = (32, 32, 1),
    classes: int = 10,
) -> str:
    """The name of a data set of 100 striped pictures a split, known while `patch` lasts."""
    (folder / f"{name}.py").write_text(STRIPES.format(name=name, shape=shape, classes=classes))
    patch.setattr(zoo.datasets, "__path__", [*zoo.datasets.__path__, str(folder)])
    patch.setattr(zoo.datasets, "DATASETS", (*zoo.datasets.DATASETS, name))
    return name
