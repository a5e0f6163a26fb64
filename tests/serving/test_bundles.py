"""What is served was exported and admitted: one after the other, or side by side where several are not there yet."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from serving.bundles import prepare_all
from zoo import shelf
from zoo.files import HOME_VARIABLE
from zoo.registry import UnknownNameError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))


def test_bundles_that_are_missing_are_made_side_by_side_and_come_in_order() -> None:
    said: list[str] = []
    names = ["vae", "gan", "vae"]
    bundles = prepare_all(names, said.append)
    assert [bundle.name for bundle in bundles] == names
    assert all(bundle.admitted for bundle in bundles)
    assert sorted(said) == ["gan is exported and admitted", "vae is exported and admitted"]
    assert [bundle.digest for bundle in prepare_all(names, said.append)] == [bundle.digest for bundle in bundles]
    assert len(said) == 2, "the second time they are there"


def test_what_goes_wrong_beside_the_others_is_told_as_it_is_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(shelf.TREE_VARIABLE, str(tmp_path / "tree"))
    for name in ("vae", "gan"):
        (tmp_path / "tree" / name).mkdir(parents=True)
        (tmp_path / "tree" / name / "config.json").write_bytes((shelf.TREE / name / "config.json").read_bytes())
        (tmp_path / "tree" / name / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(shelf.StoreError, match=r"model.safetensors has 7 bytes, expected"):
        prepare_all(["vae", "gan"])
    with pytest.raises(UnknownNameError, match="gam"):
        prepare_all(["vae", "gam"])


def exporting(tmp_path: Path) -> tuple[subprocess.Popen[str], list[str]]:
    """A process whose workers are in the middle of an export, and these."""
    words = ["bench", "vae", "gan", "--quick", "--samples", "50", "--records", str(tmp_path / "records.jsonl")]
    process = subprocess.Popen(
        [sys.executable, "-m", "genzoo", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while process.poll() is None and not any(exports(child) for child in children(process.pid)):
        time.sleep(0.05)
    return process, children(process.pid)


def test_ctrl_c_during_exports_is_quiet_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    """To every process of the terminal, in the middle of an export; none is waited for."""
    process, _ = exporting(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (130, "")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()], "a worker went on"
    assert not list(tmp_path.rglob(".fp32.*"))


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    process, workers = exporting(tmp_path)
    process.kill()
    process.communicate(timeout=120)
    assert not [worker for worker in workers if Path(f"/proc/{worker}").exists() and exports(worker)]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()], "a worker went on, or left what it began"


def children(pid: int) -> list[str]:
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [child for found in lists for child in found.read_text().split()]


def exports(pid: str) -> bool:
    """Whether a process has come so far as to load ONNX."""
    return "onnx_cpp2py" in Path(f"/proc/{pid}/maps").read_text()
