"""What the zoo says of its checkpoints, without torch and without their weights."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from zoo import index, registry, shelf
from zoo.contract.layout import CONFIG
from zoo.family import Checkpoint

NAMES = list(index.records())


def test_the_index_is_what_tables_and_folders_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Red after an edit of a table or a folder: `genzoo index` writes it."""
    before = index.PATH.read_bytes()
    monkeypatch.setattr(index, "PATH", tmp_path / "index.json")
    shutil.copy(index.TREE / "index.json", index.PATH)
    assert index.write(registry.checkpoints(), {}).read_bytes() == before


def test_what_a_wheel_left_behind_stays_in_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "PATH", tmp_path / "index.json")
    monkeypatch.setattr(index, "TREE", tmp_path)
    shutil.copy(shelf.TREE / "index.json", index.PATH)
    shutil.copytree(shelf.TREE / "gan", tmp_path / "gan")
    before = index.PATH.read_bytes()
    assert index.write(registry.checkpoints(), {}).read_bytes() == before


@pytest.mark.parametrize("changed", [{}, {"sampling": None}, {"weights": {"sha256": "0", "bytes": 1}}], ids=repr)
def test_a_quality_stays_with_the_weights_and_the_setting_that_it_is_of(
    changed: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "PATH", tmp_path / "index.json")
    monkeypatch.setattr(index, "TREE", tmp_path)
    shutil.copy(shelf.TREE / "index.json", index.PATH)
    config = json.loads((shelf.TREE / "ddpm" / CONFIG).read_text())
    (tmp_path / "ddpm").mkdir()
    (tmp_path / "ddpm" / CONFIG).write_text(json.dumps(config | changed))
    written = json.loads(index.write(registry.checkpoints(), {}).read_text())["checkpoints"]["ddpm"]
    assert bool(written["quality"]) is not bool(changed)
    index.records.cache_clear()


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_is_its_table_s(name: str) -> None:
    entry, checkpoint = registry.entry(name), registry.checkpoint(name)
    assert isinstance(checkpoint, Checkpoint)
    for field in ("spec", "dataset", "licence", "teacher", "description", "faults", "systems"):
        assert getattr(entry, field) == getattr(checkpoint, field), field


def test_a_look_up_of_one_name_imports_one_family_and_a_list_none() -> None:
    script = """
import json, sys
from zoo import registry
found = [registry.entry(name).spec.name for name in registry.names()]
without = sorted(name for name in sys.modules if name.split(".")[0] == "torch" or name.startswith("zoo.families."))
registry.checkpoint("gan")
families = sorted(name for name in sys.modules if name.startswith("zoo.families."))
print(json.dumps([found, without, families]))
"""
    output = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=shelf.TREE.parents[1]
    )
    found, without, families = json.loads(output.stdout)
    assert set(NAMES) <= set(found)
    assert without == []
    assert families == ["zoo.families.gan"]


def test_what_is_not_here_is_known_and_the_pull_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a host that has the package without this checkpoint's weights."""
    monkeypatch.setattr(shelf, "TREE", tmp_path)
    assert registry.entry("fm").spec == registry.checkpoint("fm").spec
    with pytest.raises(shelf.StoreError, match=r"`genzoo pull fm` fetches it, --from or \$GENZOO_REMOTE say where"):
        shelf.verified_weights("fm")


def test_a_damaged_index_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "PATH", tmp_path / "index.json")
    index.PATH.write_text('{"format": "genzoo-index/9", "checkpoints": {}}')
    index.records.cache_clear()
    try:
        with pytest.raises(shelf.StoreError, match="its format is 'genzoo-index/9', expected 'genzoo-index/1'"):
            index.records()
    finally:
        index.records.cache_clear()


def test_the_first_of_each_family_stands_for_it() -> None:
    assert registry.first_of_each_family(["ddpm-pd4", "gan", "ddpm", "gan-u", "vae"]) == ["ddpm-pd4", "gan", "vae"]
