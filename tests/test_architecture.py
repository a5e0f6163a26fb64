"""The shape of the house: which way imports run, what lives without what, and that the documents tell the truth."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path

import pytest
from typer.testing import CliRunner

from genzoo import cli as command_line
from zoo.contract.conditions import KINDS

ROOT = Path(__file__).parents[1]
ORDER = ("zoo", "export", "serving", "benchmarks", "genzoo")
# The rooms of a package in their order: each imports only what stands above it, wherever in a file an import stands.
ROOMS = {
    "zoo": (
        "errors",  # leaves: errors, the host, atomic files and home(), strict dataclasses, pixels
        "host",
        "files",
        "plain",
        "images",
        "fanout",  # pieces of work, here or on many machines; any package hands it functions of its own
        "untrusted",  # files from outside, looked at before use
        "store",  # artifacts by digest; knows no generator
        "sampling",  # pure functions: noise, schedules, dialects, samplers
        "contract",  # what every generator takes and gives; NumPy only
        "datasets",  # one file a data set
        "family",  # what a family and a checkpoint are
        "index",  # what the zoo says of each checkpoint, without torch and without weights
        "shelf",  # a checkpoint's folder, verified
        "networks",  # parts that families share
        "families",  # one file a family
        "registry",  # names to families and checkpoints
        "completion",  # what a shell completes
        "training",  # one file a kind of training
        "exchange",  # push, pull, import
        "cli",
    ),
    "benchmarks": (
        "templates",
        "statistics",
        "environment",
        "records",
        "quality",  # is it good
        "measure",  # is it fast; cells to records
        "receipts",  # who vouches for records
        "studies",  # one file a question
        "compare",  # two files of records
        "report",  # records to pages
        "transfers",  # the store against other tools
        "verify",  # records, and what was published of them, against themselves
        "cli",
        "bench_commands",  # what `genzoo bench` has beside measuring
    ),
}
# What each heavy dependency may be imported by; everything else must live without it.
OWNERS = {
    "tritonclient": {"serving/client.py"},
    "fastapi": {"benchmarks/measure/peer.py", "serving/doors/openai.py"},
    "prometheus_client": {"serving/doors/metrics.py"},
    "opentelemetry": {"serving/doors/tracing.py"},
    "uvicorn": {"benchmarks/measure/peer.py", "serving/doors/__main__.py", "serving/doors/limits.py"},
    "pydantic": {
        "benchmarks/measure/peer.py",
        *(f"serving/doors/{name}.py" for name in ("auto", "openai", "orders", "schema")),
    },
    "bentoml": {"benchmarks/measure/frameworks/bento.py"},
    "tensorrt": {"export/engine.py"},
    "tensorrt_rtx": {"export/engine.py"},
    "cuda": {"export/cuda.py"},
    "mlperf_loadgen": {"benchmarks/measure/latency.py"},
    "diffusers": {
        "benchmarks/measure/ratios.py",
        "zoo/exchange/importing/comparison.py",
        "zoo/exchange/importing/single_file.py",
        "zoo/families/diffusers_pipeline.py",
        "zoo/families/diffusers_unet.py",
    },
    "openvino": {"export/runtimes/openvino.py"},
    "transformers": {"zoo/families/diffusers_pipeline.py"},
    "huggingface_hub": {"zoo/store/remotes/hf.py"},
    "ray": {"benchmarks/measure/frameworks/ray_serve.py", "zoo/fanout/driver.py", "zoo/fanout/worker.py"},
    "model_signing": {"zoo/store/signing.py"},
}
# Words of one data set, and who may say them: a file or a folder, and why.
OF_ONE_DATA_SET = r"fashion[-_ ]?mnist|clothes|clothing|32, 32, 1\b"
MAY_NAME_A_DATA_SET = {
    "zoo/datasets": "a file is what its data set is",
    "zoo/families": "a table says what each of its checkpoints was trained on, and its size",
    "benchmarks/quality/judges": "a folder is a data set's judges",
    "genzoo/__init__.py": "its example shows what one checkpoint gives",
    "benchmarks/studies": "a study asks about checkpoints by their names",
    "benchmarks/report": "its module of drawings goes by the name of a data set",
    "zoo/training/paired_translation.py": "lines that turn from pencil to ink are a drawing's",
    "zoo/training/bicycle_translation.py": "lines in ink are a drawing's",
    "zoo/training/cycle_translation.py": "the two kinds are scenes by day and by night, and so is their truth",
    "zoo/training/star_translation.py": "what may change, and its truth, are a face's",
    "zoo/training/matching.py": "a wrong word of a caption is wrong by the grammar of portraits",
    "zoo/training/instance_translation.py": "the two kinds of figures, and their truth, are those of scenes",
}
# What takes whatever a generator declares: who names one kind of condition or one size there all the same, and why.
TAKE_ANY_CONDITION = ("zoo/contract", "zoo/sampling", "export", "serving", "benchmarks/measure")
OF_A_CLASS_OR_A_SIZE = r"\bclass[-_ ]?ids?\b|num_classes|\bclasses (in turn|of)\b|fashion|28x28|32x32|\b32, 32\b"
MAY_NAME_A_CLASS = {
    "zoo/contract/conditions": "a file is what its kind of condition is",
    "serving/cli.py": "--class-ids is the short form of --set class_id=VALUE",
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


@cache
def imported(path: Path) -> tuple[str, ...]:
    """The modules that a file imports, by their whole names: ruff's TID252 refuses relative ones."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
    return tuple(found)


@pytest.mark.parametrize("package", ORDER)
def test_imports_run_one_way(package: str) -> None:
    above = {*ORDER[ORDER.index(package) + 1 :], "tests"}
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(package)
        for name in imported(path)
        if name.split(".")[0] in above
    ]
    assert not wrong


def modules() -> dict[str, Path]:
    """Every module of the packages by its dotted name."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for package in ORDER
        for path in sources(package)
    }


def arrows() -> Iterator[tuple[str, str]]:
    """(importer, imported) between modules; a name that is itself a module counts as that module."""
    known = modules()
    for name, path in known.items():
        for node in ast.walk(ast.parse(path.read_text())):
            found: list[str] = []
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                found = [f"{node.module}.{alias.name}" for alias in node.names]
                found = [each if each in known else str(node.module) for each in found]
            yield from ((name, each) for each in found if each in known and each != name)


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_import_only_what_stands_before_them(package: str) -> None:
    order = {f"{package}.{room}": place for place, room in enumerate(ROOMS[package])}
    inside = {name: ".".join(name.split(".")[:2]) for name in modules() if name.startswith(f"{package}.")}
    assert set(inside.values()) == set(order), "a room that ROOMS does not list, or lists in vain"
    wrong = [
        f"{importer} imports {imported}"
        for importer, imported in arrows()
        if importer in inside and imported in inside and order[inside[importer]] < order[inside[imported]]
    ]
    assert not wrong


def test_no_modules_import_each_other() -> None:
    """No circle, however long, not even through imports inside functions."""
    waiting: dict[str, set[str]] = {}
    for importer, imported in arrows():
        waiting.setdefault(importer, set()).add(imported)
    while free := {each for found in waiting.values() for each in found} - set(waiting):
        waiting = {name: left for name, found in waiting.items() if (left := found - free)}
    assert not waiting, f"among these is a circle: {sorted(waiting)}"


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


def words_outside(words: str, allowed: Mapping[str, str], rooms: Sequence[str] = ORDER) -> list[str]:
    """The lines of sources and templates in which a regular expression matches, but in the files and folders allowed.

    Each of `allowed`, with its reason, has to be in use: a stale exception is told too.
    """
    pattern, found = re.compile(words, re.IGNORECASE), []
    unused = set(allowed)
    for path in (path for room in rooms for path in (ROOT / room).rglob("*") if path.suffix in (".py", ".j2")):
        name = path.relative_to(ROOT)
        lines = [line.strip() for line in path.read_text().splitlines() if pattern.search(line)]
        places = [place for place in allowed if name.is_relative_to(place)]
        unused -= set(places if lines else ())
        found += [f"{name}: {line}" for line in lines if not places]
    return found + [f"{place} says no such word, yet may" for place in sorted(unused)]


def test_no_file_but_a_data_set_s_own_knows_a_data_set() -> None:
    from zoo.datasets import DATASETS

    names = "|".join(rf"\b{name}\b" for name in DATASETS)
    assert not words_outside(f"{names}|{OF_ONE_DATA_SET}", MAY_NAME_A_DATA_SET)


def test_what_takes_any_condition_names_no_class_and_no_size() -> None:
    assert not words_outside(OF_A_CLASS_OR_A_SIZE, MAY_NAME_A_CLASS, TAKE_ANY_CONDITION)


def test_a_word_outside_its_place_is_found() -> None:
    [defined, stale] = words_outside("^DATASETS = ", {"zoo/errors.py": "it never says it"})
    assert defined.startswith("zoo/datasets/__init__.py: DATASETS = ")
    assert stale == "zoo/errors.py says no such word, yet may"


def test_the_command_line_and_serving_live_without_torch() -> None:
    modules = [
        "genzoo.cli",
        *(f"serving.{path.stem}" for path in (ROOT / "serving").glob("*.py") if path.stem != "__init__"),
    ]
    modules += [f"zoo.contract.conditions.{name}" for name in KINDS]
    modules += ["zoo.contract.generator", "zoo.registry", "zoo.shelf", "export.bundle", "export.runners"]
    modules += [
        "zoo.exchange.pull",
        "zoo.exchange.publish",
        "zoo.store.signing",
        "zoo.store.remotes.oci",
        "zoo.store.remotes.hf",
        "zoo.exchange.importing",
    ]
    blocked = {
        "torch",
        "openvino",
        "onnxscript",
        "diffusers",
        "tensorrt",
        "tensorrt_rtx",
        "matplotlib",
        "mlperf_loadgen",
    }
    blocked |= {"ray", "huggingface_hub", "model_signing", "cryptography", "tokenizers", "PIL"}
    script = SERVING_ONLY.format(blocked=blocked, modules=modules)
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


def documented_commands() -> list[str]:
    """Every `genzoo ...` of README, CONTRIBUTING and the pages of docs/, in a shell block or in a sentence."""
    commands = []
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")):
        text = page.read_text()
        commands += re.findall(r"`(genzoo [^`\n]+)`", text)
        for block in re.findall(r"```(?:sh|bash)\n(.*?)```", text, re.DOTALL):
            lines = block.replace("\\\n", " ").splitlines()
            commands += [line.split("#")[0].strip() for line in lines if line.startswith("genzoo ")]
    return sorted(set(commands))


@lru_cache
def help_of(*words: str) -> str:
    result = CliRunner().invoke(command_line.app, [*words, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("command", documented_commands())
def test_documented_commands_exist_with_their_options(command: str) -> None:
    words = shlex.split(command)[1:]
    named = [word for word in words[: 2 if words[:2] in command_words() else 1] if not word.startswith("-")]
    for option in (word.split("=")[0] for word in words if re.match("-[-a-z]", word)):
        assert option in help_of(*named), f"{' '.join(named)} has no option {option}"
    assert help_of(*named)


def command_words() -> list[list[str]]:
    """What each command is called by, those of groups too."""
    inner = {str(each.name): each.typer_instance for each in command_line.app.registered_groups}
    groups = [((), command_line.app), *(((name,), group) for name, group in inner.items() if group)]
    return [
        [*above, command.name or command.callback.__name__.replace("_", "-")]  # type: ignore[union-attr]
        for above, group in groups
        for command in group.registered_commands
    ]


@pytest.mark.parametrize("words", command_words(), ids=" ".join)
def test_every_command_takes_json(words: list[str]) -> None:
    assert "--json" in help_of(*words)


def test_make_targets_of_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z]+)", (ROOT / "README.md").read_text(), re.MULTILINE)) <= targets
