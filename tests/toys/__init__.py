"""Toys with every kind of condition: a family, its data set and its training, a file each, as the house wants them."""

from __future__ import annotations

from pathlib import Path

import pytest

import zoo.datasets
import zoo.families
import zoo.training
from zoo import registry


def known(patch: pytest.MonkeyPatch) -> None:
    """The toys are in the zoo while `patch` lasts: their names, and the folder where their files lie."""
    for package in (zoo.datasets, zoo.families, zoo.training):
        patch.setattr(package, "__path__", [*package.__path__, str(Path(__file__).parent)])
    patch.setattr(registry, "FAMILIES", (*registry.FAMILIES, "toy_scenes"))
    patch.setattr(zoo.datasets, "DATASETS", (*zoo.datasets.DATASETS, "toy_shapes"))
