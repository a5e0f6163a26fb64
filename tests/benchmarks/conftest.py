"""Real pictures, a home of its own for each test, and a family tree of a few made-up records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks import records
from benchmarks.report.family_tree import FamilyTree
from tests.benchmarks.made_up import made_up, race, real, shipped
from zoo import shelf
from zoo.contract.request import Setting
from zoo.datasets import fashion_mnist


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GENZOO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def pictures() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The first test pictures and their classes: uint8 (600, 32, 32, 1), int64 (600,)."""
    data = fashion_mnist.load("test")
    return data.images[:600], np.asarray(data.conditions["class_id"][:600])


@pytest.fixture
def small_tree() -> FamilyTree:
    """The checkpoints of the tree, four of whose systems are on record, and a study."""

    def measured(name: str, p50: float, shift: float, setting: Setting) -> list[records.Record]:
        weights = shelf.config(name)["weights"]["sha256"]
        same = {"setting": setting, "weights": weights, "reference": "ddpm-pd4 4 on onnxruntime, single-stream"}
        return made_up(name, p50, 100, shift, relative=p50 / 6.0, **same)

    weights = {"ddpm": shelf.config("ddpm")["weights"]["sha256"]}
    study = {"study": "toy", "checkpoints": weights, "settings": {}}
    return FamilyTree.of(
        shipped(),
        [
            real(100),
            *measured("gan", 1.5, 2.0, Setting()),
            *measured("ddpm", 60.0, 1.5, Setting(50, "ddim")),
            *measured("ddpm", 25.0, 3.0, Setting(18, "heun")),
            *measured("ddpm-pd4", 6.0, 2.5, Setting(4, "ddim")),
            records.make("study", study, question="Is it so?", columns=[], rows=[], answer="It is."),
            race("gan", 30.0, 2.0),
            race("ddpm-pd4", 120.0, 2.5, setting=Setting(4, "ddim")),
            race("ddpm", 72_000.0, 1.0, setting=Setting(1000, "ddpm"), counted=500),
        ],
    )
