"""The command line as a person meets it: what it prints, and what it says when something is wrong."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


def genzoo(*words: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "genzoo", *words]
    env = {**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", str(cwd)), "NO_COLOR": "1", **environment}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, timeout=300, check=False)


def sentence(result: subprocess.CompletedProcess[str]) -> str:
    """The one line that a failed command prints."""
    assert result.returncode == 1, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


def test_list_json_has_what_was_promised() -> None:
    rows = json.loads(genzoo("list", "--json").stdout)
    keys = {"name", "family", "dataset", "default_steps", "nfe", "parameters", "bytes", "digest", "licence", "teacher"}
    keys |= {"quality", "where"}
    assert all(set(row) == keys for row in rows)
    names = {row["name"] for row in rows}
    assert {"gan", "vae", "glow", "ddpm", "ddpm-pd4", "ddpm-pd2", "ddpm-pd1", "ddpm-cd", "ldm", "lcm"} <= names
    for row in rows:
        assert row["bytes"] <= 6_000_000
        assert row["teacher"] is None or row["teacher"] in names
    assert sum(row["bytes"] for row in rows) <= 90_000_000


def test_sample_writes_the_archive_that_was_promised(tmp_path: Path) -> None:
    out = tmp_path / "out.npz"
    result = genzoo("sample", "vae", "--seeds", "3-6", "--class-ids", "0,1", "--runtime", "torch", "-o", str(out))
    assert result.returncode == 0, result.stderr
    with np.load(out) as archive:
        assert archive["images"].shape == (4, 32, 32, 1)
        assert archive["images"].dtype == np.uint8
        assert archive["seeds"].tolist() == [3, 4, 5, 6]
        assert archive["class_ids"].tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("sample", "ddpm-pd5", "--seeds", "0"), "did you mean"),
        (("sample", "vae", "--seeds", "0", "--class-ids", "12"), "class 12 is outside 0 to 9"),
        (("sample", "vae", "--seeds", "18446744073709551616"), "outside 0 to 2**64 - 1"),
        (("sample", "vae", "--seeds", "x"), "write one seed, a range or a list"),
        (("sample", "vae", "--seeds", "0", "--steps", "4"), "in one call"),
        (("sample", "ddpm-pd4", "--seeds", "0", "--steps", "3"), "trained for 4 steps, not 3"),
        (("sample", "ddpm", "--seeds", "0", "--sampler", "huen"), "did you mean heun"),
        (("export", "nothing"), "unknown checkpoint"),
        (("train", "vae", "--data", "/nonexistent"), "dataset-fashion-mnist"),
    ],
)
def test_bad_input_is_one_sentence(words: tuple[str, ...], expected: str, tmp_path: Path) -> None:
    extra = ("-o", str(tmp_path / "out.npz"), "--runtime", "torch") if words[0] == "sample" else ()
    assert expected in sentence(genzoo(*words, *extra))
    assert os.listdir(tmp_path) == []


@pytest.fixture
def copy_of_the_tree(tmp_path: Path) -> Path:
    """The packages with their checkpoints, to damage."""
    for name in ("genzoo", "zoo", "export", "serving", "benchmarks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda data: data[:-100], "truncated or altered"),
        (lambda data: data[:5000] + bytes([data[5000] ^ 1]) + data[5001:], "it was altered"),
    ],
    ids=["truncated", "one bit"],
)
def test_a_damaged_checkpoint_is_refused(copy_of_the_tree: Path, damage, expected: str) -> None:  # type: ignore[no-untyped-def]
    weights = copy_of_the_tree / "zoo" / "checkpoints" / "vae" / "model.safetensors"
    weights.write_bytes(damage(weights.read_bytes()))
    for words in (("export", "vae"), ("show", "vae")):
        result = genzoo(*words, cwd=copy_of_the_tree, GENZOO_HOME=str(copy_of_the_tree / "home"))
        assert expected in sentence(result)
    assert not list((copy_of_the_tree / "home").rglob("*.onnx"))


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    """A limit on the size of files fails a write as a full disk does, without a disk."""
    out = tmp_path / "out.npz"
    command = [sys.executable, "-m", "genzoo", "sample", "vae", "--seeds", "0-31", "--runtime", "torch", "-o", str(out)]
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )
    assert "nothing half-written" in sentence(result)
    assert os.listdir(tmp_path) == []


def test_help_is_there_for_everything() -> None:
    text = genzoo("--help").stdout
    for command in ("list", "show", "train", "export", "gate", "build", "serve", "sample", "bench", "report", "demo"):
        assert f" {command} " in text
