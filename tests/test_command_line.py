"""The command line as a person meets it: what it prints, and what it says when something is wrong."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from tests import weights_table
from zoo import registry, shelf
from zoo.family import Branch

ROOT = Path(__file__).parents[1]


def genzoo(*words: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "genzoo", *words]
    env = {**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", str(cwd)), "NO_COLOR": "1", **environment}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, timeout=300, check=False)


def sentence(result: subprocess.CompletedProcess[str]) -> str:
    """The one sentence of a failed command, the last line of what it says."""
    assert result.returncode == 1, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    *told, last = result.stderr.strip().splitlines()
    assert last.startswith("error: "), result.stderr
    assert not [line for line in told if "error" in line.lower()]
    return last


def test_list_json_has_what_was_promised() -> None:
    rows = json.loads(genzoo("list", "--json").stdout)
    keys = {"name", "family", "dataset", "default_steps", "nfe", "parameters", "bytes", "digest", "licence", "teacher"}
    keys |= {"quality", "where"}
    assert all(set(row) == keys for row in rows)
    names = {row["name"] for row in rows}
    assert {"gan", "vae", "glow", "ddpm", "ddpm-pd4", "ddpm-pd2", "ddpm-pd1", "ddpm-cd", "ldm", "lcm"} <= names
    for row in rows:
        assert row["bytes"] <= 8_000_000
        assert row["teacher"] is None or row["teacher"] in names
    assert sum(row["bytes"] for row in rows) <= weights_table.ALL


def test_a_page_of_help_fills_the_lines_of_the_terminal() -> None:
    lines = [line.strip() for line in genzoo("serve", "--help", COLUMNS="80").stdout.splitlines()]
    assert max(map(len, lines)) <= 80
    assert "The embedded Triton is the 24.10 release, older than what is safe on a network" in lines


def test_sample_writes_the_archive_that_was_promised(tmp_path: Path) -> None:
    out = tmp_path / "out.npz"
    result = genzoo("sample", "vae", "--seeds", "3-6", "--class-ids", "0,1", "--runtime", "torch", "-o", str(out))
    assert result.returncode == 0, result.stderr
    with np.load(out) as archive:
        assert archive["images"].shape == (4, 32, 32, 1)
        assert archive["images"].dtype == np.uint8
        assert archive["seeds"].tolist() == [3, 4, 5, 6]
        assert archive["class_id"].tolist() == [0, 1, 0, 1]


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


def test_help_is_there_for_everything_in_five_panels() -> None:
    text = genzoo("--help").stdout
    assert text == genzoo().stdout
    panels = re.findall(r"─ (Look|Make|Serve|Measure|Exchange|Commands) ─", text)
    assert panels == ["Look", "Make", "Serve", "Measure", "Exchange"], "a command stands in no panel of PANELS"
    for command in ("list", "show", "train", "export", "gate", "build", "serve", "sample", "bench", "report", "demo"):
        assert f" {command} " in text


def test_the_version_is_the_project_s() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert genzoo("--version").stdout == f"genzoo {version}\n"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("genzoo sam", ["sample"]),
        ("genzoo sample ddpm-pd", ["ddpm-pd4", "ddpm-pd2", "ddpm-pd1"]),
        ("genzoo bench vq", ["vqvae"]),
        ("genzoo bench ve", ["verify"]),
        ("genzoo bench gan vq", ["vqvae"]),
        ("genzoo bench --qui", ["--quick"]),
        ("genzoo verify no-such", []),
    ],
)
def test_a_shell_completes_commands_and_checkpoints_without_torch(line: str, expected: list[str]) -> None:
    words = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), "_GENZOO_COMPLETE": "complete_bash"}
    script = "import sys; sys.modules['torch'] = None; from genzoo.__main__ import main; main()"
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **words}, timeout=60)
    assert result.stdout.split() == expected
    assert result.stderr == ""


def test_completion_is_silent_where_the_home_is_none() -> None:
    words = {"COMP_WORDS": "genzoo show v", "COMP_CWORD": "2", "_GENZOO_COMPLETE": "complete_bash"}
    result = genzoo(GENZOO_HOME="/dev/null", **words)
    assert (result.returncode, result.stderr) == (0, "")


def test_ctrl_c_ends_with_130_and_without_a_traceback_also_while_modules_are_read() -> None:
    script = "import sys; sys.argv[1:] = ['list']\nfrom genzoo import __main__ as program\n"
    script += "class Interrupts:\n    def find_spec(self, name, *rest):\n"
    script += "        if name == 'export.cli': raise KeyboardInterrupt\n"
    script += "sys.meta_path.insert(0, Interrupts()); program.main()"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")


def test_text_from_outside_is_shown_and_obeyed_by_nobody(tmp_path: Path) -> None:
    """A card whose fields hold markup, an escape sequence, a line break and half a character."""
    config = json.loads((ROOT / "zoo/checkpoints/vae/config.json").read_text())
    for key in ("licence", "paper", "dataset"):
        config[key] = "[/foo] \x1b[31m \n\ud800 é"
    (tmp_path / "checkpoints" / "strange").mkdir(parents=True)
    (tmp_path / "checkpoints" / "strange" / "config.json").write_text(json.dumps(config))
    shutil.copy(ROOT / "zoo/checkpoints/vae/model.safetensors", tmp_path / "checkpoints" / "strange")
    for encoding in ("utf-8", "ascii"):
        environment = {"GENZOO_HOME": str(tmp_path), "GENZOO_CHECKPOINTS": "", "PYTHONIOENCODING": encoding}
        assert "strange" in genzoo("list", **environment).stdout
        shown = genzoo("show", "strange", **environment)
        assert shown.returncode == 0, shown.stderr
        assert "[/foo] \\x1b[31m  \\ud800 " in shown.stdout
        assert json.loads(genzoo("show", "strange", "--json", **environment).stdout)["licence"] == config["licence"]


def test_the_demo_has_something_of_every_branch() -> None:
    systems = [system for name in registry.DEMO for system in registry.entry(name).systems]
    assert {system.branch for system in systems} == set(Branch)
    assert len(registry.DEMO) * 5 < len(registry.names())
    assert all(shelf.is_here(name) for name in registry.DEMO)
