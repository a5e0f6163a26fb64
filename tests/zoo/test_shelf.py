"""Checkpoints on disk: what is published loads, what was altered is refused with a sentence."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

from genzoo import cli as command_line
from zoo import files, registry, shelf
from zoo.contract.assets import NO_ASSETS
from zoo.contract.layout import CONFIG, WEIGHTS
from zoo.errors import GenzooError
from zoo.files import HOME_VARIABLE, home


def test_atomic_leaves_the_old_file_and_no_new_one_when_the_block_fails(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")

    def write() -> None:
        with files.atomic(target) as temporary:
            temporary.write_text("half")
            raise OSError(errno.ENOSPC, "no space left")

    with pytest.raises(OSError, match="no space"):
        write()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_home_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    assert home() == tmp_path
    monkeypatch.delenv(HOME_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert home() == tmp_path / "cache" / "genzoo"


def test_a_missing_checkpoint_says_what_makes_it() -> None:
    with pytest.raises(shelf.StoreError, match="genzoo train nothing"):
        shelf.config("nothing")


@pytest.mark.parametrize("variable", [True, False], ids=["variable", "home"])
def test_what_is_trained_lies_in_the_user_s_own_tree_and_comes_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: bool
) -> None:
    torch = pytest.importorskip("torch")
    entry = registry.checkpoint("vae")
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.setenv(shelf.TREE_VARIABLE, str(tmp_path / "own") if variable else "")
    monkeypatch.setattr(shelf, "TREE", tmp_path / "shipped")
    shipped = shelf.save(entry, {"weight": torch.ones(2)}, {}, publish=True)
    assert shipped == shelf.directory("vae") == tmp_path / "shipped" / "vae"
    own = shelf.save(entry, {"weight": torch.zeros(2)}, {})
    assert (
        own == shelf.directory("vae") == (tmp_path / "own" if variable else tmp_path / "home" / "checkpoints") / "vae"
    )
    assert shelf.load_tensors("vae")["weight"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "config",
    [
        *(None, [1], "x", 5, {}),
        *({"weights": weights} for weights in (None, "x", [], {"sha256": 5, "bytes": 1}, {"sha256": "0"})),
        *({"weights": {"sha256": "0", "bytes": count}} for count in ("\x1b[31m", -1, 1e300, True)),
        *({"weights": {"sha256": "0", "bytes": 1}, "training": training} for training in ("x", [1])),
        *(
            {"weights": {"sha256": "0", "bytes": 1}, "assets": assets}
            for assets in ("x", {"../a.json": "0"}, {"a.json": 0})
        ),
        *(
            {"weights": {"sha256": "0", "bytes": 1}, "base": base}
            for base in ("x", {"name": "../up", "sha256": "0"}, {"name": "vae", "sha256": 5})
        ),
    ],
    ids=repr,
)
def test_a_config_of_the_wrong_shape_is_left_out_of_the_list(
    config: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(shelf.TREE_VARIABLE, str(tmp_path))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / CONFIG).write_text(json.dumps(config))
    with pytest.raises(shelf.StoreError, match=r"is no object|training|sha256 and the bytes|assets|has a base"):
        shelf.config("other")
    for words in (["list"], ["show", "other"], ["verify", "other"]):
        result = CliRunner().invoke(command_line.app, words)
        assert result.exception is None or isinstance(result.exception, SystemExit | GenzooError), words
        assert "other: " in f"{result.output}{result.stderr}{result.exception}"


def test_what_was_trained_before_is_set_aside_and_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(shelf.TREE_VARIABLE, str(tmp_path))
    assert shelf.set_aside("mine") is None
    for run in ("long", "short", "long"):
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / CONFIG).write_text(json.dumps({"training": run}))
        kept = shelf.set_aside("mine")
        assert kept is not None
        assert json.loads((kept / CONFIG).read_text()) == {"training": run}
        assert not (tmp_path / "mine").exists()
    assert len(list((tmp_path / shelf.ASIDE).iterdir())) == 2
    assert shelf.folders() == sorted(path.parent.name for path in shelf.TREE.glob("*/config.json"))


@pytest.mark.parametrize("publish", [False, True])
def test_what_is_saved_is_seen_whole_or_not_at_all(
    publish: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights and config are of one checkpoint, also where the second of them could not be written."""
    torch = pytest.importorskip("torch")
    entry = registry.checkpoint("vae")
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.setenv(shelf.TREE_VARIABLE, str(tmp_path / "own"))
    monkeypatch.setattr(shelf, "TREE", tmp_path / "shipped")
    before = shelf.save(entry, {"weight": torch.ones(2)}, {}, publish=True)
    (before / "README.md").write_text("# A card\n")
    kept = {path.name: path.read_bytes() for path in before.iterdir()}

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patch:
        patch.setattr(shelf, "write_json", full)
        with pytest.raises(OSError, match="no space"):
            shelf.save(entry, {"weight": torch.zeros(2)}, {}, publish=publish)
    assert {path.name: path.read_bytes() for path in before.iterdir()} == kept
    assert not list((tmp_path / "own").glob("*"))

    after = shelf.save(entry, {"weight": torch.zeros(2)}, {}, publish=publish)
    assert shelf.verified_weights("vae").parent == after
    assert sorted(path.name for path in after.parent.iterdir()) == ["vae"]
    assert (before / "README.md").is_file()


def test_what_stands_on_a_base_keeps_what_differs_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch, entry = pytest.importorskip("torch"), registry.checkpoint("vae")
    monkeypatch.setenv(shelf.TREE_VARIABLE, str(tmp_path))
    monkeypatch.setattr(shelf, "TREE", tmp_path / "shipped")
    state = {"same": torch.ones(2), "changed": torch.zeros(3)}
    tuned = dataclasses.replace(entry, spec=dataclasses.replace(entry.spec, name="tuned"), base="vae")
    shelf.save(entry, state, {})
    folder = shelf.save(tuned, {**state, "changed": torch.ones(3), "added": torch.ones(1)}, {})
    assert sorted(load_file(folder / WEIGHTS)) == ["added", "changed"]
    assert shelf.config("tuned")["parameters"] == 6
    found = shelf.load_tensors("tuned")
    assert {name: each.tolist() for name, each in found.items()} == {
        "same": [1.0, 1.0],
        "changed": [1.0, 1.0, 1.0],
        "added": [1.0],
    }
    shelf.save(entry, {**state, "same": torch.zeros(2)}, {})
    with pytest.raises(shelf.StoreError, match=r"tuned stands on the weights \w{12} of vae, and here it has \w{12};"):
        shelf.load_tensors("tuned")
    shutil.rmtree(tmp_path / "vae")
    with pytest.raises(shelf.StoreError, match=r"weights of vae, which are not here; .*genzoo"):
        shelf.load_tensors("tuned")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own tree, and nothing else."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.setenv(shelf.TREE_VARIABLE, str(tmp_path / "own"))
    return tmp_path / "own"


def saved_with(**assets: bytes) -> Path:
    torch = pytest.importorskip("torch")
    files = {f"{name}.json": content for name, content in assets.items()}
    return shelf.save(registry.checkpoint("vae"), {"weight": torch.ones(2)}, {}, assets=files)


def test_assets_are_recorded_by_digest_and_read_back(own: Path) -> None:
    folder = saved_with(examples=b'{"prompt": ["red"]}')
    recorded = shelf.config("vae")["assets"]
    assert recorded == {"examples.json": files.sha256(folder / "examples.json")}
    assert shelf.assets("vae").examples == {"prompt": ["red"]}
    assert "assets" not in json.loads((saved_with() / CONFIG).read_text())
    assert shelf.assets("vae") == NO_ASSETS
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG, WEIGHTS]


def test_what_is_trained_again_takes_the_place_of_its_assets_too(own: Path) -> None:
    folder = saved_with(examples=b"{}", words=b"{}")
    (folder / "notes.json").write_text("{}")
    saved_with(words=b'{"a": 1}')
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG, WEIGHTS, "notes.json", "words.json"]
    assert (folder / "words.json").read_bytes() == b'{"a": 1}'
    shelf.assets("vae")


@pytest.mark.parametrize("name", ["config", "manifest", "gate", "../other"])
def test_an_asset_has_a_name_of_its_own(own: Path, name: str) -> None:
    with pytest.raises(shelf.StoreError, match=rf"vae cannot ship '{name}.json': name it like tokenizer.json"):
        saved_with(**{name: b"{}"})
    assert not list(own.iterdir())


@pytest.mark.parametrize("harm", ["altered", "missing", "linked"])
def test_damaged_assets_are_refused(own: Path, harm: str) -> None:
    path = saved_with(examples=b'{"prompt": ["red"]}') / "examples.json"
    if harm == "altered":
        path.write_bytes(b'{"prompt": ["rad"]}')
    else:
        path.rename(path.with_name("other.json"))
    if harm == "linked":
        path.symlink_to("other.json")
    sentence = "has sha256 .*, expected .*; it was altered" if harm == "altered" else "is missing or not a plain file"
    with pytest.raises(shelf.StoreError, match=rf"vae: .*examples.json {sentence}"):
        shelf.assets("vae")
    result = CliRunner().invoke(command_line.app, ["verify", "vae"])
    assert result.exit_code == 1
    assert "examples.json" in result.output
