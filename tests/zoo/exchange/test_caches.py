"""`genzoo gc` takes what was made here and nobody asks for, and nothing that a record may name."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from genzoo import cli
from zoo import shelf
from zoo.files import HOME_VARIABLE
from zoo.host import installed

TORCH = installed(("torch",)).get("torch", "2.11.0")
DAY_S = 86400.0


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    return tmp_path


def aged(path: Path, days: float) -> Path:
    then = time.time() - days * DAY_S
    for each in (*path.rglob("*"), path):
        os.utime(each, (then, then))
    return path


def package(home: Path, key: str, days: float = 1.0, name: str = "gan", **changes: str) -> Path:
    folder = home / "packages" / name / key
    folder.mkdir(parents=True)
    made_from = {"checkpoint": shelf.config("gan")["weights"]["sha256"], "torch": TORCH, **changes}
    (folder / "package.json").write_text(json.dumps({"inputs": made_from}))
    (folder / "generator.pt2").write_bytes(bytes(1000))
    return aged(folder, days)


def entry(home: Path, path: str, days: float) -> Path:
    (home / path).parent.mkdir(parents=True, exist_ok=True)
    (home / path).write_text("{}")
    return aged(home / path, days)


def collected(*words: str) -> dict[str, str]:
    result = CliRunner().invoke(cli.app, ["gc", *words, "--json"])
    assert result.exit_code == 0, result.output
    return {each["path"]: each["why"] for each in json.loads(result.stdout)["made_here"]}


def test_packages_of_no_use_go_and_the_others_stay(home: Path) -> None:
    of_use = package(home, "0")
    other, old = package(home, "1", checkpoint="0" * 64), package(home, "2", torch="1.0")
    nobody, young = package(home, "3", name="nobody", checkpoint="1" * 64), package(home, "4", days=0.0, torch="1.0")
    expected = {
        "packages/gan/1": "made for weights of gan that are not here",
        "packages/gan/2": f"made for torch 1.0, here is {TORCH}",
        "packages/nobody/3": "made for weights of nobody that are not here",
    }
    assert collected("--dry-run") == expected
    assert other.is_dir()
    assert collected() == expected
    assert not any(path.exists() for path in (other, old, nobody))
    assert of_use.is_dir()
    assert young.is_dir(), "it may be on its way"
    assert not list(home.rglob(".*")), "nothing half removed"
    assert collected() == {}


def test_a_package_of_a_bundle_that_is_here_is_of_use(home: Path) -> None:
    manifest = home / "bundles" / "pulled" / "fp32" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"checkpoint": {"sha256": "1" * 64}}))
    kept = package(home, "0", name="pulled", checkpoint="1" * 64)
    assert collected() == {}
    assert kept.is_dir()


def test_what_nobody_has_read_for_so_long_goes_but_what_a_tuning_may_name(home: Path) -> None:
    old, tuned = package(home, "0", days=40), package(home, "1", days=40, name="vae")
    config = json.loads((tuned / "package.json").read_text())
    config["inputs"]["checkpoint"] = shelf.config("vae")["weights"]["sha256"]
    (tuned / "package.json").write_text(json.dumps(config))
    aged(tuned, 40)
    entry(home, "tuned/vae.json", 50).write_text(json.dumps({"versions": {"torch": TORCH}}))
    search, recent = entry(home, "searches/gan-1.json", 40), entry(home, "searches/gan-2.json", 20)
    read = entry(home, "samples/a.npy", 40)
    os.utime(read, (time.time() - 2 * DAY_S, read.stat().st_mtime))
    training, engine = entry(home, "training/gan/1/state.safetensors", 400), entry(home, "engines/gan/a.plan", 400)
    assert collected() == {}
    assert set(collected("--max-age", "30d")) == {"packages/gan/0", "searches/gan-1.json"}
    assert not old.exists()
    assert not search.exists()
    assert all(path.exists() for path in (tuned, recent, read, training, engine))
    assert set(collected("--max-age", "10d")) == {"searches/gan-2.json"}
