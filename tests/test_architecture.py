"""The shape of the house: which way imports run, what lives without what, and that the documents tell the truth."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import genzoo

ROOT = Path(__file__).parents[1]
ORDER = ("zoo", "export", "serving", "benchmarks")
# What each heavy dependency may be imported by; everything else must live without it.
OWNERS = {
    "tritonclient": {"serving/client.py"},
    "tensorrt": {"export/engine.py", "export/runners.py"},
    "tensorrt_rtx": {"export/engine.py", "export/runners.py"},
    "mlperf_loadgen": {"benchmarks/latency.py"},
    "diffusers": {"benchmarks/ratios.py", "zoo/families/diffusers_unet.py"},
    "huggingface_hub": {"zoo/remotes/hf.py"},
    "model_signing": {"zoo/signing.py"},
}
SERVING_ONLY = """
import sys, importlib, pkgutil
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError("blocked: " + name, name=name)
sys.meta_path.insert(0, Blocker())
for name in {modules!r}:
    importlib.import_module(name)
"""


def sources(package: str) -> Iterator[Path]:
    yield from (path for path in (ROOT / package).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("package", ORDER)
def test_imports_run_one_way(package: str) -> None:
    above = set(ORDER[ORDER.index(package) + 1 :])
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(package)
        for name in imported(path)
        if name.split(".")[0] in above
    ]
    assert not wrong


@pytest.mark.parametrize("dependency", OWNERS)
def test_a_heavy_dependency_has_one_owner(dependency: str) -> None:
    users = {
        str(path.relative_to(ROOT))
        for package in ORDER
        for path in sources(package)
        if any(name.split(".")[0] == dependency for name in imported(path))
    }
    assert users <= OWNERS[dependency]


def test_no_file_but_a_family_s_own_asks_for_a_family() -> None:
    """Nothing in export, serving or benchmarks may compare a family's name; a study names its checkpoints."""
    from zoo.registry import FAMILIES

    quoted = re.compile("|".join(f"[\"']{name}[\"']" for name in FAMILIES))
    wrong = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for package in ORDER[1:]
        for path in sources(package)
        if path.parent.name != "studies"
        for line in path.read_text().splitlines()
        if quoted.search(line)
    ]
    assert not wrong


def test_the_command_line_and_serving_live_without_torch() -> None:
    modules = [
        "genzoo",
        *(f"serving.{path.stem}" for path in (ROOT / "serving").glob("*.py") if path.stem != "__init__"),
    ]
    modules += ["zoo.generator", "zoo.registry", "zoo.store", "export.bundle", "export.runners"]
    modules += ["zoo.pull", "zoo.publish", "zoo.signing", "zoo.remotes.oci", "zoo.remotes.hf", "zoo.importing"]
    blocked = {"torch", "onnxscript", "diffusers", "tensorrt", "tensorrt_rtx", "matplotlib", "mlperf_loadgen"}
    blocked |= {"huggingface_hub", "model_signing", "cryptography"}
    script = SERVING_ONLY.format(blocked=blocked, modules=modules)
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


def documented_commands() -> list[str]:
    """Every `genzoo ...` line of a shell block in the README and in CONTRIBUTING."""
    commands = []
    for name in ("README.md", "CONTRIBUTING.md"):
        for block in re.findall(r"```(?:sh|bash)\n(.*?)```", (ROOT / name).read_text(), re.DOTALL):
            commands += [line.split("#")[0].strip() for line in block.splitlines() if line.startswith("genzoo ")]
    return commands


@pytest.mark.parametrize("command", documented_commands())
def test_documented_commands_exist_with_their_options(command: str) -> None:
    words = shlex.split(command)[1:]
    help_text = CliRunner().invoke(genzoo.app, [words[0], "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert help_text.exit_code == 0, help_text.output
    for option in (word.split("=")[0] for word in words[1:] if re.match("-[-a-z]", word)):
        assert option in help_text.output, f"{words[0]} has no option {option}"


def test_every_command_takes_json() -> None:
    for command in genzoo.app.registered_commands:
        name = command.name or command.callback.__name__.replace("_", "-")  # type: ignore[union-attr]
        result = CliRunner().invoke(genzoo.app, [name, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
        assert "--json" in result.output, name


def test_make_targets_of_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z]+)", (ROOT / "README.md").read_text(), re.MULTILINE)) <= targets
