"""The commands of export: long work says what it does on standard error, and only where there is work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from export.exporter import export, up_to_date
from export.variant import Variant
from genzoo import cli
from zoo import shelf
from zoo.family import Checkpoint
from zoo.files import HOME_VARIABLE


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[list[str], list[str]]:
    """The lines of standard output and of standard error."""
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    out, err = capsys.readouterr()
    assert left.value.code == 0, err
    return out.splitlines(), err.splitlines()


def test_long_work_says_what_it_does_and_only_where_it_is_done(
    toy_one_shot: Checkpoint,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    for told in (["exporting toy-linear", "toy-linear goes before the gate"], []):
        out, err = run(capsys, "gate", "toy-linear", "--json")
        assert err == told
        assert json.loads(out[0])["admitted"]
    assert run(capsys, "export", "toy-linear")[1] == []
    out, err = run(capsys, "export", "toy-linear", "--precision", "fp16", "--json")
    assert err == ["exporting toy-linear fp16"]
    made = json.loads(out[0])
    assert made["weight_bytes"] == (Path(made["path"]) / "model.safetensors").stat().st_size
    assert made["peak_bytes"] > 100 * made["weight_bytes"], "the interpreter alone is more than a toy's weights"
    out, _ = run(capsys, "export", "toy-linear", "--precision", "fp16", "--json")
    assert "peak_bytes" not in json.loads(out[0]), "nothing was exported"


def test_engines_are_built_in_the_buckets_that_are_named(
    toy_one_shot: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorrt_rtx")
    bundle = export(toy_one_shot)
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    out, _ = run(capsys, "build", str(bundle.path), "--buckets", "batch=1,16", "--json")
    assert list(json.loads(out[0])["inputs"]["profiles"]) == ["batch 1", "batch 2-16", "batch 17-64"]
    out, _ = run(capsys, "build", str(bundle.path), "--buckets", "batch=16", "--why", "--json")
    assert json.loads(out[0])["state"] == "out of date"
    with pytest.raises(SystemExit):
        cli.main(("build", str(bundle.path), "--buckets", "batch=sixteen"))
    assert "write an axis and where its buckets end, like batch=1,16, or one" in capsys.readouterr().err


def test_all_are_those_that_are_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wheel has a part of them, and the first that it lacks ended the command."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.delenv(shelf.TREE_VARIABLE, raising=False)  # of the toys
    shutil.copytree(shelf.TREE / "vae", tmp_path / "tree" / "vae")
    monkeypatch.setattr(shelf, "TREE", tmp_path / "tree")
    out, _ = run(capsys, "export", "--why", "--json")
    assert [json.loads(line)["name"] for line in out] == ["vae"]


def test_what_is_up_to_date_is_known_without_its_network(
    toy_one_shot: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second run imports no torch: what would is not asked."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    assert up_to_date("toy-linear", Variant()) is None
    made = export(toy_one_shot)
    found = up_to_date("toy-linear", Variant())
    assert found
    assert found.digest == made.digest
    assert up_to_date("no-such", Variant()) is None
    manifest = made.path / "manifest.json"
    changed = json.loads(manifest.read_text())
    changed["inputs"]["versions"]["onnx"] = "1.0"
    manifest.write_text(json.dumps(changed))
    assert up_to_date("toy-linear", Variant()) is None
