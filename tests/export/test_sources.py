"""A bundle is out of date once any code changes that its bytes depend on."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from export import sources

ROOT = Path(__file__).parents[2]
VAE = ("export.exporter", "zoo.families.vae")


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the sources, to change."""
    for package in ("zoo", "export"):
        kept = shutil.ignore_patterns("__pycache__", "checkpoints")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=kept)
    return tmp_path


def digests(house: Path, *roots: str) -> dict[str, str]:
    """By a process of its own, which imports those sources; it needs no torch."""
    script = "import json, sys; sys.modules['torch'] = None; from export import sources; "
    script += f"print(json.dumps(sources.digests(*{roots})))"
    command = [sys.executable, "-c", script]
    return dict(json.loads(subprocess.run(command, cwd=house, check=True, capture_output=True, text=True).stdout))


def test_what_an_export_runs_is_told_by_its_path() -> None:
    found = sources.digests(*VAE)
    assert {"export/compose.py", "export/exporter.py", "zoo/families/vae.py", "zoo/family.py"} <= set(found)
    assert {"zoo/networks/convolutional.py", "zoo/contract/graph.py", "zoo/contract/request.py"} <= set(found)
    assert {"zoo/sampling/parameterization.py", "zoo/sampling/schedules.py"} <= set(found)
    assert not [path for path in found if path.startswith(("zoo/store", "zoo/exchange", "zoo/training"))]


def test_a_change_of_any_of_it_shows_and_nothing_shadows_it(house: Path) -> None:
    before = digests(house, *VAE)
    changed = ("zoo/family.py", "zoo/networks/convolutional.py", "zoo/sampling/schedules.py", "export/compose.py")
    for path in changed:
        with (house / path).open("a") as file:
            file.write("\n# another line\n")
    helper = house / "zoo" / "networks" / "vae.py"  # the stem of the family's own file
    helper.write_text("SIZE = 1\n")
    family = house / "zoo" / "families" / "vae.py"
    family.write_text("from zoo.networks.vae import SIZE\n" + family.read_text().replace("from __future__", "# "))
    after = digests(house, *VAE)
    assert {path for path in before if before[path] != after[path]} == {*changed, "zoo/families/vae.py"}
    assert set(after) - set(before) == {"zoo/networks/vae.py"}
    helper.write_text("SIZE = 2\n")
    last = digests(house, *VAE)
    assert {path for path in last if last[path] != after[path]} == {"zoo/networks/vae.py"}


def test_diffusers_counts_where_a_family_imports_it() -> None:
    assert sources.packages("export.exporter", "zoo.families.diffusers_unet") == ("diffusers",)
    assert sources.packages(*VAE) == ()
