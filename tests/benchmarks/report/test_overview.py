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

from benchmarks import records
from benchmarks.report import overview, races, summary
from benchmarks.report.family_tree import FamilyTree
from benchmarks.studies import NETS
from benchmarks.templates.marks import MarkError, replace_marked
from serving.images import grid as sheet
from tests.benchmarks.made_up import cell, in_colour, made_up, quality, real, shipped
from zoo import registry, shelf
from zoo.contract.request import Setting
from zoo.family import Branch

ROOT = Path(__file__).parents[3]
SVG = "{http://www.w3.org/2000/svg}"


def test_only_what_stands_between_the_marks_is_replaced(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    begin, end = "<!-- ratios:begin -->", "<!-- ratios:end -->"
    readme.write_text(f"# genzoo\n{begin}\nold\n{end}\nafter\n")
    replace_marked(readme, "ratios", "| new |")
    assert readme.read_text() == f"# genzoo\n{begin}\n| new |\n{end}\nafter\n"
    readme.write_text("no marks")
    with pytest.raises(MarkError, match="ratios:begin"):
        replace_marked(readme, "ratios", "| new |")
    assert readme.read_text() == "no marks"
    with pytest.raises(MarkError, match=r"there is no file .*none\.md"):
        replace_marked(tmp_path / "none.md", "ratios", "| new |")


def test_the_readme_has_the_best_of_each_branch_and_the_best_at_half_its_time(small_tree: FamilyTree) -> None:
    lines = overview.table(small_tree).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert [place.title for place in overview.best(small_tree)] == ["gan", "ddpm 50", "ddpm 18 heun", "ddpm-pd4 4"]
    [gan] = [line for line in lines if "`gan` |" in line]
    assert "| 0.25 (0.24 to 0.26) |" in gan, "its time by the reference's"
    assert gan.endswith("| better |")
    [reference] = [line for line in lines if "`ddpm-pd4 4` | 2022" in line]
    assert reference.endswith("|  |"), "nothing is compared with itself"
    assert "time ÷ that of `ddpm-pd4 4`" in lines[0]
    assert lines[-1].startswith("| *real images* |")
    assert all((ROOT / link).exists() for link in links(lines))


def links(lines: list[str]) -> list[str]:
    return [link for line in lines for link in re.findall(r"\]\(([^)]+)\)", line) if "://" not in link]


def test_the_whole_tree_has_a_line_for_each_system_measured_or_not(small_tree: FamilyTree) -> None:
    lines = overview.systems(small_tree).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    numbers = overview.numbered(small_tree)
    for place in small_tree.places:
        [line] = [line for line in lines if f"`{place.title}` |" in line and place.system.title in line]
        assert f"| {place.system.year} | [{place.system.authors}]({place.system.address})" in line
        if place.row:
            assert line.startswith(f"| {numbers[place.title]} |")
            assert all(str(place.row.metric("fd", net)) in line for net in NETS)
        else:
            assert f"not measured: `genzoo bench {place.checkpoint.name} --tree --samples 100`" in line
    assert lines[-1].startswith("|  | *real images* |")
    assert all((ROOT / "docs" / link).exists() for link in links(lines))


def test_a_time_that_was_flagged_says_so_wherever_it_stands() -> None:
    found = made_up("gan", 1.0, 100, 1.0, flags=("invalid", "noisy"), relative=0.5)
    [section] = summary.sections(found)
    assert overview.cost(section.rows[0], section)[1] == "0.50 (0.49 to 0.51), *INVALID, noisy*"


def test_without_a_reference_times_are_milliseconds() -> None:
    [section] = summary.sections(made_up("gan", 1.0, 100, 1.0))
    assert overview.timed(section) == "ms per image (onnxruntime, p50)"
    assert overview.cost(section.rows[0], section)[1] == "1.00 (0.90 to 1.10)"


def test_the_picture_shows_every_system_once_and_samples_of_those_that_were_measured(small_tree: FamilyTree) -> None:
    drawing = ElementTree.fromstring(overview.picture(small_tree, small_tree.places, {}))
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


def test_the_readme_s_picture_has_all_points_and_samples_of_the_best(small_tree: FamilyTree) -> None:
    best = overview.best(small_tree)[:2]
    drawing = ElementTree.fromstring(overview.picture(small_tree, best, {}))
    titles = [title.text for title in drawing.iter(f"{SVG}title")]
    assert len(titles) == len(overview.numbered(small_tree)) == 4
    assert len(list(drawing.iter(f"{SVG}image"))) == 2


def test_the_race_marks_what_was_extrapolated_and_gives_it_no_verdict(small_tree: FamilyTree) -> None:
    race = races.of(small_tree.records)
    assert race is not None
    lines = overview.race_table(race).splitlines()
    cells = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in lines[2:5]}
    assert list(cells) == ["`gan`", "`ddpm-pd4 4`", "`ddpm 1000 ddpm`"], "the fastest first"
    assert cells["`gan`"][1:4] == ["30.0 s (29.4 to 30.6)", "33.3 (32.3 to 34.3)", "50,000"]
    assert cells["`gan`"][-1] == "better"
    assert cells["`ddpm 1000 ddpm`"][1:4] == ["≈ 20.0 h (19.6 to 20.4)", "0.014 (0.013 to 0.014)", "500"]
    assert cells["`ddpm 1000 ddpm`"][-1] == ""
    assert lines[0].endswith("| images against `ddpm-pd4 4` |"), "the slowest that ran the whole race"
    assert lines[-1].startswith("≈: extrapolated")
    drawing = overview.race_picture(race)
    assert drawing.count("hollow") - drawing.count(".hollow") == 2, "in the title and of one point"
    assert overview.race_table(None) == "Nobody ran yet: `genzoo race` runs it."


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


def coloured(name: str, dataset: str, shift: float) -> list[records.Record]:
    """What is on record of a generator in colour at its first system's setting."""
    entry = registry.checkpoint(name)
    same = {
        "setting": entry.systems[0].setting.resolved(entry.spec) if entry.systems else Setting(),
        "weights": shelf.config(name)["weights"]["sha256"],
        "dataset": dataset,
    }
    return [cell(name, 2.0, **same), in_colour(quality(name, 100, shift, **same))]


def test_distances_to_two_data_sets_are_in_no_column_together(small_tree: FamilyTree) -> None:
    mine = [*coloured("stylegan", "critters", 3.0), *coloured("t2i-base", "designs", 5.0)]
    tree = FamilyTree.of(shipped(), [*small_tree.records, *mine])
    main, *others = overview.systems(tree).split("\n\n")
    nets = len(tree.section.opinions)
    for name in ("stylegan", "t2i-base 20 g3"):
        [line] = [line for line in main.splitlines() if f"`{name}` |" in line]
        assert [each.strip() for each in line.split("|")[7 : 7 + nets]] == [""] * nets, "no distance to clothes"
    titles, tables = others[::2], [table.splitlines() for table in others[1::2]]
    assert [title.split(" (")[0] for title in titles] == [
        "Critters, one design of the portraits",
        "Portraits in twelve designs",
    ]
    for table, name, other in zip(tables, ("stylegan", "t2i-base 20 g3"), ("t2i-base", "stylegan"), strict=True):
        assert "FD design_contrastive" in table[0]
        assert "as asked, says design_attributes" in table[0]
        [line] = table[2:]
        place = next(place for place in tree.places if place.title == name)
        assert place.row
        assert f"| {place.row.metric('fd', 'design_contrastive')} |" in line
        assert line.startswith(f"| `{name}` |")
        assert other not in line
    assert overview.opinions(tree).endswith(overview.systems(tree).split("\n\n", 1)[1])


def test_two_data_sets_that_one_net_judges_stay_apart() -> None:
    floor = in_colour(real(100))
    identity = {key: value for key, value in floor["identity"].items() if key not in ("format", "kind")}
    content = {key: value for key, value in floor.items() if key not in ("id", "time", "digest", "identity")}
    floors = [records.make("baseline", {**identity, "dataset": name}, **content) for name in ("critters", "designs")]
    mine = [*coloured("stylegan", "critters", 3.0), *coloured("gigagan", "critters", 2.0)]
    tree = FamilyTree.of(shipped(), [*mine, *coloured("t2i-base", "designs", 5.0), *floors])
    assert tree.section.dataset == "critters"
    main, _, table = overview.systems(tree).split("\n\n")
    distance = tree.others[0].rows[0].metric("fd", "design_contrastive")
    assert distance
    assert str(distance) not in main
    assert str(distance) in table
    assert table.splitlines()[-1].startswith("| *real images* |")
