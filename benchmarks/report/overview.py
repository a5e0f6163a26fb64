"""Tables and pictures of README and docs: what each system of the family tree costs, gives, and looks like."""

from __future__ import annotations

import base64
import io
import math
import textwrap
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.measure.samples import GRID_ROWS
from benchmarks.report import drawings, own_checks, plot, races, students
from benchmarks.report.comparison import Comparison
from benchmarks.report.family_tree import FamilyTree, Place
from benchmarks.report.palette import look
from benchmarks.report.plot import Plot
from benchmarks.report.races import Race
from benchmarks.report.summary import ALONE, Baseline, Row, Section, warned
from benchmarks.statistics import Estimate, short
from benchmarks.templates import template
from benchmarks.templates.marks import replace_marked
from zoo import datasets, files
from zoo.family import Branch

README, SYSTEMS, RACE = Path("README.md"), Path("docs/systems.md"), Path("docs/race.md")
OPINIONS = Path("docs/opinions.md")
FRONT, PICTURE, RACE_PICTURE = Path("docs/front.svg"), Path("docs/family-tree.svg"), Path("docs/race.svg")
FRAME = plot.Frame(width=1000, height=440)
COLUMN, HEADING, STRIP, SIDE, COLUMNS = 500, 26, 40, 32, 10  # pixels; pictures of a strip
LETTERS = 23  # of a line beside a strip
BASELINES = (("floor", "real images"), ("ceiling", "noise"))
OF_NETS = ("fd", "kd", "precision", "recall", "density", "coverage")
KINDS = dict(zip(OF_NETS, ("FD", "KD × 1000", "precision", "recall", "density", "coverage"), strict=True)) | {
    "accuracy": "as asked, says",
    "agreement": "agreement, by",
}
SHARES = ("precision", "recall", "coverage", "accuracy")
FASTER = 2.0  # times: what a branch's second row must be, beside its best


def write(root: Path, tree: FamilyTree) -> list[Path]:
    """Write tables and pictures into README and docs below `root`; their paths. Raises MarkError."""
    race = races.of(tree.records)
    replace_marked(root / README, "tree", table(tree))
    replace_marked(root / README, "race", race_in_short(race, tree))
    replace_marked(root / SYSTEMS, "systems", systems(tree))
    replace_marked(root / SYSTEMS, "checks", checks(tree))
    replace_marked(root / RACE, "race", race_table(race))
    replace_marked(root / OPINIONS, "opinions", opinions(tree))
    drawn = {FRONT: picture(tree, best(tree), {}), PICTURE: picture(tree, tree.places, labels(tree.places))}
    if race:
        drawn[RACE_PICTURE] = race_picture(race)
    for path, text in drawn.items():
        with files.atomic(root / path) as temporary:
            temporary.write_text(text)
    return [root / path for path in (README, SYSTEMS, RACE, OPINIONS, *drawn)]


def best(tree: FamilyTree) -> list[Place]:
    """Of each branch the system that is nearest to real images by the mean rank of all opinions, and the nearest of
    those that are at least twice as fast, if there are any."""
    section = tree.section
    measured = [place for place in tree.places if place.row and place.row.dataset == section.dataset]
    ranks = mean_ranks([place.row for place in measured if place.row], section)
    chosen = []
    for branch in Branch:
        mine = [place for place in measured if place.system.branch == branch and place.title in ranks]
        if not mine:
            continue
        first = min(mine, key=lambda place: ranks[place.title])
        faster = [place for place in mine if _times(first, place, section) >= FASTER]
        chosen += [first, *([min(faster, key=lambda place: ranks[place.title])] if faster else [])]
    return chosen


def mean_ranks(rows: Sequence[Row], section: Section) -> dict[str, float]:
    """By title, of the rows that every opinion judged: 1.0 is the first before all of them."""
    judged = [row for row in rows if section.opinions and all(row.metric("fd", net) for net in section.opinions)]
    places = {row.title: 0.0 for row in judged}
    for net in section.opinions:
        ordered = sorted(judged, key=lambda row: found.value if (found := row.metric("fd", net)) else math.inf)
        for place, row in enumerate(ordered, 1):
            places[row.title] += place / len(section.opinions)
    return places


def _times(one: Place, other: Place, section: Section) -> float:
    """How many times as fast the other is; 0 where one of them was not timed."""
    if one.row is None or other.row is None or section.runtime is None:
        return 0.0
    found = students.speed(other.row, one.row, section.runtime)
    return found.value if found else 0.0


def table(tree: FamilyTree) -> str:
    """The README's table: the best of each branch, and what real pictures score."""
    section, verdicts = tree.section, against(tree)
    head = ["system", "year", "network calls", timed(section), *(f"FD {net}" for net in section.opinions)]
    head += [compared(section)]
    rows = []
    for place in best(tree):
        assert place.row is not None
        cells = [_named(place), str(place.system.year), *cost(place.row, section), *distances(place.row, section)]
        rows.append([*cells, verdicts.get(place.title, "")])
    rows += [[f"*{words}*", "", "", "", *of, ""] for words, of in baselines(section)[:1]]
    return markdown(head, rows, words=2)


def timed(section: Section) -> str:
    """A table's heading of times: by the reference cell where there is one."""
    if section.timed_by and any(row.relative(section.runtime or "") for row in section.rows):
        return f"time ÷ that of `{section.timed_by[0]}`"
    return f"ms per image ({section.runtime}, p50)"


def compared(section: Section) -> str:
    return f"images against `{section.reference.title}`" if section.reference else "images compared"


def against(tree: FamilyTree) -> dict[str, str]:
    """By the title of a row of the tree's section, what all opinions say of it against the reference."""
    section = tree.section
    words = Comparison(section.rows, section.opinions).against(section.reference)
    return {row.title: word for row, word in zip(section.rows, words, strict=True)}


def systems(tree: FamilyTree) -> str:
    """The family tree in Markdown: a line a system, by branch and year; the floor and the ceiling last."""
    section, verdicts, numbers = tree.section, against(tree), numbered(tree)
    head = ["#", "system", "year", "paper", "network calls", timed(section)]
    head += [f"FD {net}, n = {section.count:,}" for net in section.opinions]
    head += ["class accuracy", compared(section)]
    rows = []
    for branch, places in groupby(tree.places, key=_branch):
        rows.append(["", f"**[{branch}](families/{branch.page}.md)**", *[""] * (len(head) - 2)])
        for place in places:
            system = place.system
            cells = [str(numbers.get(place.title, "")), _named(place, "../"), str(system.year)]
            cells += [f"[{system.authors}]({system.address})"]
            if place.row is None:
                blank = [f"not measured: `{tree.command(place)}`", *[""] * (len(section.opinions) + 2)]
                rows.append([*cells, f"{place.nfe:,}", *blank])
                continue
            cells += [*cost(place.row, section), *distances(place.row, section), accuracy(place.row)]
            rows.append([*cells, verdicts.get(place.title, "")])
    rows += [["", f"*{words}*", "", "", "", "", *of, "", ""] for words, of in baselines(section)]
    return "\n\n".join([markdown(head, rows, words=4), *elsewhere(tree, tree.places)])


def checks(tree: FamilyTree) -> str:
    """What each system has to show beside quality and time, in Markdown."""
    head = ["system", "asked as", "its own check", "found", "by"]
    lines = [[*cells, found or "not on record", by] for *cells, found, by in own_checks.rows(tree)]
    return markdown(head, lines, words=5)


def _branch(place: Place) -> Branch:
    return place.system.branch


def _named(place: Place, root: str = "") -> str:
    return f"[{place.system.title}]({root}zoo/checkpoints/{place.checkpoint.name}/) `{place.title}`"


def numbered(tree: FamilyTree) -> dict[str, int]:
    """The systems that were measured in the tree's section, by title: what stands for their names on the picture."""
    shown = [place.title for place in tree.places if place.row and place.row.dataset == tree.section.dataset]
    return {title: number for number, title in enumerate(dict.fromkeys(shown), 1)}


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> str:
    """A table whose first `words` columns are text, the others numbers."""
    lines = [head, ["---"] * words + ["--:"] * (len(head) - words), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cost(row: Row, section: Section) -> list[str]:
    """Network calls, and the time of one image by that of the reference cell, else in milliseconds; with its flags.

    On another runtime than the section's, its name too.
    """
    for runtime in (section.runtime, *row.runtimes):
        if runtime and (p50 := row.percentile(runtime)):
            relative = row.relative(runtime)
            words = [str(relative) if relative else f"{p50} ms" if _relative(section) else str(p50)]
            words += [f"on {runtime}"] if runtime != section.runtime else []
            words += [f"*{flags}*"] if (flags := warned(row.flags(runtime, ALONE))) else []
            return [f"{row.nfe:,}", ", ".join(words)]
    return [f"{row.nfe:,}", ""]


def _relative(section: Section) -> bool:
    return "÷" in timed(section)


def distances(row: Row, section: Section) -> list[str]:
    """In the features of each of the section's opinions; nothing to another data set than the section's."""
    return [_shown(row.metric("fd", net)) if row.dataset == section.dataset else "" for net in section.opinions]


def accuracy(row: Row) -> str:
    """By whoever judges images of its own data set."""
    return percent(row.metric("accuracy", row.quality["judge"]) if row.quality else None)


def percent(found: Estimate | None) -> str:
    return f"{100.0 * found.value:.1f} %" if found else ""


def _shown(found: Estimate | None) -> str:
    return str(found) if found else ""


def baselines(section: Section) -> list[tuple[str, list[str]]]:
    """The distances of real images and of noise, as far as they are on record."""
    rows = []
    for name, words in BASELINES:
        if found := section.baselines.get(name):
            words += f", n = {found.count:,}" if found.count != section.count else ""
            rows.append((words, [_shown(found.metric("fd", net)) for net in section.opinions]))
    return rows


def opinions(tree: FamilyTree) -> str:
    """What every judge says of each branch's best and of real images, in Markdown: where they agree, and where not.

    The last two: how well a classifier tells the images from real ones, and what one learns from them alone.
    """
    section = tree.section
    tests = [(name, net) for name in ("c2st", "cas") for net in section.opinions if _any_has(section, name, net)]
    head = ["asked as", *(f"FD {net}" for net in section.opinions), *(f"{name} {net}" for name, net in tests)]
    rows = [
        [f"`{place.title}`", *distances(place.row, section), *(_shown(place.row.metric(*each)) for each in tests)]
        for place in best(tree)
        if place.row
    ]
    if floor := section.baselines.get("floor"):
        asked = [*(("fd", net) for net in section.opinions), *tests]
        rows.append(["*real images*", *(_shown(floor.metric(*each)) for each in asked)])
    return "\n\n".join(
        [f"{section.count:,} images each:", markdown(head, rows, words=1), *elsewhere(tree, tree.places)]
    )


def elsewhere(tree: FamilyTree, places: Sequence[Place]) -> list[str]:
    """Of every other data set a sentence and a table, as distances to two sets are not of one scale; none is left out.

    A line for each of `places` that somebody judged, by each kind of judge; the floor and the ceiling last.
    """
    return [text for section in tree.others for text in _of_another(section, places)]


def _of_another(section: Section, places: Sequence[Place]) -> list[str]:
    mine = [(place, place.row) for place in places if place.row and place.row.dataset == section.dataset]
    mine = [(place, row) for place, row in mine if row.metrics and row.count == section.count]
    told = [*((kind, net) for net in section.opinions for kind in OF_NETS), *readings(section)]
    told = [each for each in told if any(row.metric(*each) for _, row in mine)]
    if not told:
        return []
    head = ["asked as", "system", "network calls", timed(section), *(f"{KINDS[kind]} {net}" for kind, net in told)]
    rows = [[f"`{place.title}`", place.system.title, *cost(row, section), *_each(row, told)] for place, row in mine]
    for name, words in BASELINES:
        if found := section.baselines.get(name):
            rows.append([f"*{words}*", "", "", "", *_each(found, told)])
    known = datasets.known(section.dataset)
    title = known.title if known else section.dataset
    return [f"{title} (`{section.dataset}`), {section.count:,} images each:", markdown(head, rows, words=2)]


def readings(section: Section) -> list[tuple[str, str]]:
    """Who says whether images are as they were asked for, and who how well they agree with it."""
    judges = section.judges
    return [("accuracy", judges.judge), *([("agreement", judges.pair.name)] if judges.pair else [])]


def _each(found: Row | Baseline, told: Sequence[tuple[str, str]]) -> list[str]:
    return [(percent if kind in SHARES else _shown)(found.metric(kind, net)) for kind, net in told]


def _any_has(section: Section, name: str, net: str) -> bool:
    return any(row.metric(name, net) for row in section.rows)


def race_table(race: Race | None, shown: Collection[str] | None = None) -> str:
    """In Markdown, the fastest first; only the systems of the titles in `shown`, where that is given."""
    if race is None:
        return "Nobody ran yet: `genzoo race` runs it."
    head = ["system", "on", f"time for {race.images:,} images", f"speed-up over `{race.slowest}`", "images made"]
    against = [f"images against `{race.reference}`"] if race.reference else []  # nobody made all of them
    head += [*(f"FD {net}, n → ∞" for net in race.nets), *against]
    rows = []
    for each in race.runners:
        if shown is not None and each.title not in shown:
            continue
        cells = [f"`{each.title}`", each.runtime, each.took, _shown(each.speedup), f"{each.counted:,}"]
        distances = [_shown(each.distances.get(net)) for net in race.nets]
        rows.append([*cells, *distances, *([each.verdict] if against else [])])
    words = "extrapolated from the images that were made, on which quality is judged, and without a verdict"
    note = f"\n\n≈: {words}." if _guessed(race, shown) else ""
    return markdown(head, rows, words=2) + note


def _guessed(race: Race, shown: Collection[str] | None) -> bool:
    return any(each.extrapolated for each in race.runners if shown is None or each.title in shown)


def race_in_short(race: Race | None, tree: FamilyTree) -> str:
    """For the README: the picture, and the best of each branch, with the slowest and the fastest of all."""
    if race is None:
        return race_table(race)
    titles = {place.title for place in best(tree)} | {race.runners[0].title, race.runners[-1].title}
    words = f"Time for {race.images:,} images against the distance to real images"
    return f"![{words}]({RACE_PICTURE})\n\n{race_table(race, titles)}"


def race_picture(race: Race) -> str:
    drawn = races.drawn(race, FRAME)
    title = (
        f"Fréchet distance ({race.nets[0]}, n → ∞) against the time for {race.images:,} images; hollow: extrapolated"
    )
    svg: str = template("picture.svg.j2").render(
        plot=drawn,
        looks=drawn.looks if drawn else [],
        title=title,
        x_words="seconds",
        frame=FRAME,
        blocks=[],
        height=FRAME.height + _key_height(drawn),
    )
    return svg


Group = tuple[Branch, list[dict[str, Any]]]


def picture(tree: FamilyTree, places: Sequence[Place], names: Mapping[str, str]) -> str:
    """SVG: the latency/quality plot of all systems, labelled by `names`, and below it samples of each of `places`."""
    section, numbers = tree.section, numbered(tree)
    rows = {place.title: place.row for place in tree.places if place.row and place.title in numbers}
    shown = replace(section, rows=[rows[title] for title in numbers])
    drawn = drawings.front(shown, Comparison(shown.rows, section.opinions), FRAME, names)
    groups = [(branch, [_strip(place, tree, numbers) for place in group]) for branch, group in groupby(places, _branch)]
    left, right = halves(groups)
    top = FRAME.height + _key_height(drawn)
    net = section.opinions[0] if section.opinions else ""
    svg: str = template("picture.svg.j2").render(
        plot=drawn,
        looks=list(
            {each.family: each for each in (look(place.checkpoint.spec.family) for place in tree.places)}.values()
        ),
        title=f"Fréchet distance ({net}, n = {section.count:,}) against latency: stairs join what none beats in both, "
        "grey is beaten under every opinion",
        x_words=f"ms for one image, {section.runtime}, p50",
        frame=FRAME,
        blocks=[*_blocks(left, 0), *_blocks(right, COLUMN)],
        heading=HEADING,
        strip=STRIP,
        side=SIDE,
        columns=COLUMNS,
        top=top + 28,
        height=top + 38 + max(_height(left), _height(right)),
    )
    return svg


def _key_height(drawn: Plot | None) -> int:
    return int(max(y for _, y, _ in drawn.key())) + 26 if drawn else 0


def labels(places: Sequence[Place]) -> dict[str, str]:
    """A label for each setting's title: its system, with the number of steps where another is called the same."""
    often = Counter(place.system.title for place in places)
    return {
        place.title: place.system.title + (f" {place.setting.num_steps}" if often[place.system.title] > 1 else "")
        for place in places
    }


def _strip(place: Place, tree: FamilyTree, numbers: Mapping[str, int]) -> dict[str, Any]:
    """What the picture shows of a system: number, mark, lines of text, and samples where it was measured."""
    calls = f"{place.nfe:,} call{'s' if place.nfe > 1 else ''}"
    runtime = tree.section.runtime
    p50 = place.row.percentile(runtime) if place.row and runtime else None
    spent = _milliseconds(p50.value) if p50 else "not timed" if place.row else "not measured"
    return {
        "look": look(place.checkpoint.spec.family),
        "lines": textwrap.wrap(f"{numbers.get(place.title, '')} {place.system.title}".strip(), LETTERS),
        "note": f"{place.system.year} · {calls} · {spent}",
        "samples": first_row(place.row.grid) if place.row and place.row.grid else None,
    }


def _milliseconds(value: float) -> str:
    return f"{short(value)} ms" if value < 1000.0 else f"{short(value / 1000.0)} s"


def halves(groups: Sequence[Group]) -> tuple[Sequence[Group], Sequence[Group]]:
    """Two columns of whole branches, as equal as they can be."""
    cut = min(range(len(groups) + 1), key=lambda cut: max(_height(groups[:cut]), _height(groups[cut:])))
    return groups[:cut], groups[cut:]


def _height(groups: Sequence[Group]) -> int:
    return sum(HEADING + STRIP * len(strips) for _, strips in groups)


def _blocks(groups: Sequence[Group], x: int) -> Iterator[tuple[int, int, Branch, list[dict[str, Any]]]]:
    """Each branch with its place, (x, y), below the plot."""
    for index, (branch, strips) in enumerate(groups):
        yield x, _height(groups[:index]), branch, strips


def first_row(grid: str) -> str:
    """The first images of a record's grid, of whatever size: PNG in base64, in and out."""
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(grid))) as image:
        side = image.height // GRID_ROWS
        row = image.crop((0, 0, min(image.width, COLUMNS * side), side))
    buffer = io.BytesIO()
    row.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
