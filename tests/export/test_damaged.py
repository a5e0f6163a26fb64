"""Damaged input of export and build: one sentence that names the file, exit code 1, and nothing written."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from export.bundle import Bundle
from export.engine import Library, Target, deserialize, plan_path
from export.engine_build import build
from genzoo import cli
from zoo import shelf
from zoo.family import Checkpoint
from zoo.files import HOME_VARIABLE

Damage = Callable[[Path], object]
needs_rtx = pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed")


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The last line of a command that fails, without what came before it."""
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    out, err = capsys.readouterr()
    assert left.value.code == 1
    assert out == ""
    assert "Traceback" not in err
    return err.splitlines()[-1]


def edited(name: str, change: Callable[[dict[str, Any]], object]) -> Damage:
    """Damage to a JSON file of a folder."""

    def damage(folder: Path) -> None:
        found = json.loads((folder / name).read_text())
        change(found)
        (folder / name).write_text(json.dumps(found))

    return damage


def shortened(name: str) -> Damage:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-8])


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors is missing or not a plain file"),
        (shortened("model.safetensors"), "it is truncated or altered"),
        (shortened("config.json"), "config.json could not be read"),
        (edited("config.json", lambda found: found.pop("weights")), "does not tell the sha256 and the bytes"),
        (edited("config.json", lambda found: found["weights"].update(sha256="0" * 64)), "expected 000000000000"),
        (edited("config.json", lambda found: found.update(weights=[])), "does not tell the sha256 and the bytes"),
    ],
)
def test_a_damaged_checkpoint_is_not_exported(
    toy_one_shot: Checkpoint,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    damage: Damage,
    expected: str,
) -> None:
    shutil.copytree(shelf.directory("toy-linear"), tmp_path / "tree" / "toy-linear")
    damage(tmp_path / "tree" / "toy-linear")
    monkeypatch.setenv(shelf.TREE_VARIABLE, str(tmp_path / "tree"))
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    assert expected in said(capsys, "export", "toy-linear")
    assert not list((tmp_path / "home").rglob("*.onnx"))


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors is missing or not a plain file"),
        (lambda folder: os.symlink("/etc/hostname", folder / "x.onnx"), None),
        (shortened("model.safetensors"), "it was altered, export the bundle again"),
        (shortened("manifest.json"), "is not a bundle"),
        (
            edited("manifest.json", lambda found: found["graphs"]["sampler"].update(file="../sampler.onnx")),
            "it must lie in the bundle's own folder",
        ),
        (
            edited("manifest.json", lambda found: found["spec"]["sampling"].update(samplers=["dpm_plus"])),
            "dpm_plus",
        ),
        (edited("manifest.json", lambda found: found["spec"]["sampling"].update(schedule="linea")), "linea"),
        (edited("manifest.json", lambda found: found["graphs"].pop("sampler")), "sampler"),
    ],
)
@needs_rtx
def test_a_damaged_bundle_is_not_built(
    toy_bundles: Mapping[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    damage: Damage,
    expected: str | None,
) -> None:
    shutil.copytree(toy_bundles["toy-student"], tmp_path / "bundle")
    damage(tmp_path / "bundle")
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    if expected is None:  # a file that nothing names decides nothing
        assert build(Bundle.open(tmp_path / "bundle"), "sampler").record["bytes"]
        return
    assert expected in said(capsys, "build", str(tmp_path / "bundle"))
    assert not list((tmp_path / "home").rglob("*.plan"))


@needs_rtx
def test_a_foreign_plan_in_an_engine_s_place_is_built_over_and_not_loaded(
    toy_bundles: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    bundle = Bundle.open(toy_bundles["toy-student"])
    path = plan_path(bundle, "sampler", Target.PORTABLE, Library.RTX)
    engine = build(bundle, "sampler")
    path.write_bytes(b"native code of somebody else")
    with pytest.raises(Exception, match="is not the plan that its record describes"):
        deserialize(engine)
    assert build(bundle, "sampler").path.stat().st_size > 1000
