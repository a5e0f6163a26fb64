"""The README's table and picture are made from records and declarations only."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.measure.workload import WorkloadError
from benchmarks.report import overview
from benchmarks.report.family_tree import FamilyTree
from benchmarks.studies import NETS
from serving.images import grid as sheet
from zoo.family import Branch

ROOT = Path(__file__).parents[3]
SVG = "{http://www.w3.org/2000/svg}"


def test_only_what_stands_between_the_marks_is_replaced(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    begin, end = "<!-- ratios:begin -->", "<!-- ratios:end -->"
    readme.write_text(f"# genzoo\n{begin}\nold\n{end}\nafter\n")
    overview.replace_marked(readme, "ratios", "| new |")
    assert readme.read_text() == f"# genzoo\n{begin}\n| new |\n{end}\nafter\n"
    readme.write_text("no marks")
    with pytest.raises(WorkloadError, match="ratios:begin"):
        overview.replace_marked(readme, "ratios", "| new |")
    assert readme.read_text() == "no marks"
    with pytest.raises(WorkloadError, match=r"there is no file .*none\.md"):
        overview.replace_marked(tmp_path / "none.md", "ratios", "| new |")


def test_the_table_has_a_line_for_each_system_measured_or_not(small_tree: FamilyTree) -> None:
    lines = overview.table(small_tree).splitlines()
    width = lines[0].count("|")
    assert all(line.count("|") == width for line in lines)
    for place in small_tree.places:
        [line] = [line for line in lines if f"`{place.title}` |" in line and place.system.title in line]
        assert f"| {place.system.year} | [{place.system.authors}]({place.system.address}) |" in line
        if place.row:
            assert all(str(place.row.metric("fd", net)) in line for net in NETS)
        else:
            assert f"not measured: `genzoo bench {place.checkpoint.name} --tree --samples 100`" in line
    assert lines[-1].startswith("| *real images* |")
    links = [link for line in lines for link in re.findall(r"\]\(([^)]+)\)", line) if "://" not in link]
    assert all((ROOT / link).exists() for link in links)


def test_the_picture_shows_every_system_once_and_samples_of_those_that_were_measured(small_tree: FamilyTree) -> None:
    drawing = ElementTree.fromstring(overview.picture(small_tree))
    texts = " ".join(text.text or "" for text in drawing.iter(f"{SVG}text"))
    measured = [place for place in small_tree.places if place.row]
    for place in small_tree.places:
        note = f"{place.system.year} · {place.nfe:,} call"
        assert note in texts
        assert all(word in texts for word in place.system.title.split())
    assert len(list(drawing.iter(f"{SVG}image"))) == len(measured)
    assert texts.count("not measured") == len(small_tree.places) - len(measured)
    height = float(str(drawing.get("viewBox")).split()[3])
    assert all(float(str(image.get("y"))) + overview.SIDE <= height for image in drawing.iter(f"{SVG}image"))


def test_systems_of_one_name_are_told_apart_by_their_steps(small_tree: FamilyTree) -> None:
    found = overview.labels(small_tree.places)
    assert found["ddpm 50"] == "DDIM"
    assert found["ddpm-pd4 4"] == "Progressive distillation 4"
    assert len(set(found.values())) == len(small_tree.places)


def test_a_strip_is_the_first_row_of_a_grid_of_any_size() -> None:
    for side, channels, columns in ((8, 1, 10), (64, 3, 12)):
        shades = np.arange(4 * columns, dtype=np.uint8)[:, None, None, None]
        images = np.broadcast_to(shades, (4 * columns, side, side, channels))
        grid = io.BytesIO()
        Image.fromarray(sheet(images, columns, gap=0)).save(grid, "PNG")
        strip = overview.first_row(base64.b64encode(grid.getvalue()).decode())
        with Image.open(io.BytesIO(base64.b64decode(strip))) as image:
            pixels = np.asarray(image.convert("L"))
        assert pixels.shape == (side, 10 * side)
        assert pixels[0, ::side].tolist() == list(range(10))


def test_columns_are_as_equal_as_whole_branches_allow() -> None:
    groups = [(branch, [{}] * count) for branch, count in zip(Branch, (3, 4, 2, 8, 12), strict=False)]
    left, right = overview.halves(groups)
    assert [len(strips) for _, strips in left] == [3, 4, 2, 8], "17 of 29 rows are nearer to half than 9"
    assert [*left, *right] == groups
