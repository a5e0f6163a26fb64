"""TensorRT's timings, as far as a host without a GPU can tell: a stand-in for the builder's part of it measures."""

from __future__ import annotations

from pathlib import Path

import pytest

from export import timings
from tests.stand_ins import IBuilderConfig
from zoo.files import HOME_VARIABLE


def measured(config: IBuilderConfig, *kernels: str) -> list[str]:
    """What a build has to measure of the kernels that it tries."""
    return [kernel for kernel in kernels if config.measure(kernel)]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    return timings.place("tensorrt", "10.9.0.34", "sm89")


def built(path: Path, *kernels: str, gpu: str = "sm89") -> list[str]:
    config = IBuilderConfig(gpu)
    timings.give(config, path)
    found = measured(config, *kernels)
    timings.keep(config, path)
    return found


def test_what_was_measured_is_not_measured_again(path: Path) -> None:
    assert built(path, "a", "b") == ["a", "b"]
    assert built(path, "b", "c") == ["c"], "what is new is added"
    assert built(path, "a", "b", "c") == []


def test_it_is_kept_for_each_library_release_and_generation(path: Path) -> None:
    built(path, "a")
    others = [("tensorrt", "10.9.0.34", "sm86"), ("tensorrt", "11.0.0", "sm89"), ("other", "10.9.0.34", "sm89")]
    for other in others:
        assert built(timings.place(*other), "a") == ["a"]
    assert len(list(path.parent.iterdir())) == 4


@pytest.mark.parametrize("damage", ["", "cut", "altered", "as it was kept before"])
def test_what_is_damaged_is_not_shown_to_the_library_and_measured_anew(path: Path, damage: str) -> None:
    built(path, "a", "b")
    kept = path.read_bytes()
    path.write_bytes({"": b"", "cut": kept[:-1], "altered": kept[:-3] + b"xyz"}.get(damage, kept[32:]))
    config = IBuilderConfig("sm89")
    timings.give(config, path)
    assert config.shown == [b""]
    assert built(path, "a", "b") == ["a", "b"]
    assert built(path, "a", "b") == []


def test_what_the_library_refuses_is_measured_anew(path: Path) -> None:
    """Of another GPU under this one's name, and what it cannot read."""
    built(path, "a")
    assert built(path, "a", gpu="sm90") == ["a"]
    config = IBuilderConfig("sm90")
    config.format = 2
    timings.give(config, path)
    assert measured(config, "a") == ["a"]
