"""The families' pages: prose by hand, numbers by the command, every checkpoint of the tree in one of them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import records
from benchmarks.report import overview, pages, races, summary
from benchmarks.report.family_tree import FamilyTree
from benchmarks.studies import NETS
from genzoo import cli as command_line
from tests.benchmarks.made_up import shipped
from zoo.family import Branch

ROOT = Path(__file__).parents[3]


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the documents."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "README.md", tmp_path / "README.md")
    return tmp_path


def between_marks(path: Path, name: str) -> str:
    return path.read_text().split(f"<!-- {name}:begin -->\n")[1].split(f"\n<!-- {name}:end -->")[0]


def test_the_command_writes_the_readme_its_picture_and_every_page(house: Path, small_tree: FamilyTree) -> None:
    for record in small_tree.records:
        records.append(house / "records.jsonl", record)
    result = CliRunner().invoke(command_line.app, ["tree", str(house), "--records", str(house / "records.jsonl")])
    assert result.exit_code == 0, result.output
    assert between_marks(house / "README.md", "tree") == overview.table(small_tree)
    assert between_marks(house / "docs/systems.md", "systems") == overview.systems(small_tree)
    race = races.of(small_tree.records)
    assert between_marks(house / "README.md", "race") == overview.race_in_short(race, small_tree)
    assert between_marks(house / "docs/race.md", "race") == overview.race_table(race)
    assert between_marks(house / "docs/opinions.md", "opinions") == overview.opinions(small_tree)
    labels = overview.labels(small_tree.places)
    assert (house / overview.PICTURE).read_text() == overview.picture(small_tree, small_tree.places, labels)
    assert (house / overview.FRONT).read_text() == overview.picture(small_tree, overview.best(small_tree), {})
    assert (house / overview.RACE_PICTURE).is_file()
    assert between_marks(house / "docs/families/README.md", "numbers") == pages.index(small_tree)
    for branch in Branch:
        page = house / f"docs/families/{branch.page}.md"
        assert between_marks(page, "numbers") == pages.numbers(branch, small_tree)
    assert "next: genzoo bench vae --tree --samples 100" in result.output

    again = CliRunner().invoke(
        command_line.app, ["tree", str(house), "--records", str(house / "records.jsonl"), "--json"]
    )
    assert len(json.loads(again.output)) == 9 + len(Branch)


def test_every_checkpoint_is_named_in_a_page(house: Path, small_tree: FamilyTree) -> None:
    pages.write(house, small_tree)
    text = "\n".join((house / f"docs/families/{branch.page}.md").read_text() for branch in Branch)
    assert not [each.name for each in shipped() if f"`{each.name}`" not in text]


def test_a_page_has_measured_numbers_beside_reported_ones(small_tree: FamilyTree) -> None:
    text = pages.numbers(Branch.DIFFUSION, small_tree)
    [ddim] = [line for line in text.splitlines() if line.startswith("| `ddpm 50` |")]
    assert ddim.split(" | ")[1] == "DDIM"
    assert "60.0" in ddim
    assert ddim.endswith("| CIFAR-10 FID 4.67 in 50 steps |")
    [ddpm] = [line for line in text.splitlines() if line.startswith("| `ddpm 1000 ddpm` |")]
    assert "not measured: `genzoo bench ddpm --tree --samples 100`" in ddpm
    assert "**Is it so?** It is. (`genzoo study toy`)" in text
    for table in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_the_index_names_the_nearest_of_each_family_by_each_net(small_tree: FamilyTree) -> None:
    lines = pages.index(small_tree).splitlines()
    diffusion = [line for line in lines if "(diffusion-and-flow-matching.md)" in line]
    assert len(diffusion) == 1
    assert f"| {summary.listed(NETS)}: DDIM, `ddpm 50` |" in diffusion[0]
    assert not [line for line in lines if "autoencoders.md" in line], "nothing of them was measured"


@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))],
    ids=lambda page: f"{page.parent.name}-{page.stem}",
)
def test_links_lead_somewhere(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()) if "://" not in link]
    assert not [link for link in links if not (page.parent / link.split("#")[0]).exists()]
