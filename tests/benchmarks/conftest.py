"""Real pictures, and a bundle of a toy generator that replays them: quality as good as it can be, at any latency."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from zoo.datasets import fashion_mnist


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GENZOO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def pictures() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The first test pictures and their classes: uint8 (600, 32, 32, 1), int64 (600,)."""
    images, class_ids = fashion_mnist.load("test")
    return images[:600], class_ids[:600]
