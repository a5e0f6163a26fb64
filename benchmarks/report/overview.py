"""The README's one table and one picture: what each system of the family tree costs, gives, and looks like."""

from __future__ import annotations

import base64
import io
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.measure.samples import GRID_ROWS
from benchmarks.measure.workload import WorkloadError
from benchmarks.report import plot
from benchmarks.report.family_tree import FamilyTree, Place
from benchmarks.report.summary import Row, Section
from benchmarks.statistics import Estimate, short
from benchmarks.templates import template
from zoo import files
from zoo.family import Branch

README, PICTURE, MARK = Path("README.md"), Path("docs/family-tree.svg"), "tree"
FRAME = plot.Frame(width=1000, height=440, letter=6.8, line=14.0)
COLUMN, HEADING, STRIP, SIDE, COLUMNS = 500, 26, 40, 32, 10  # pixels; pictures of a strip
LETTERS = 25  # of a line beside a strip


def replace_marked(path: Path, name: str, text: str) -> None:
    """Put `text` between `<!-- name:begin -->` and `<!-- name:end -->`. Raises WorkloadError where they are missing."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    if not path.is_file():
        raise WorkloadError(
            f"there is no file {path}: the text goes between {begin} and {end} of a checkout's README.md"
        )
    page = path.read_text()
    if page.count(begin) != 1 or page.count(end) != 1:
        raise WorkloadError(f"{path} needs one {begin} and one {end}: the text goes between them")
    head, rest = page.split(begin)
    with files.atomic(path) as temporary:
        temporary.write_text(f"{head}{begin}\n{text}\n{end}{rest.split(end)[1]}")


def write(root: Path, tree: FamilyTree) -> list[Path]:
    """Write the table into the README below `root`, and the picture; both paths. Raises WorkloadError."""
    replace_marked(root / README, MARK, table(tree))
    target = root / PICTURE
    target.parent.mkdir(exist_ok=True)
    with files.atomic(target) as temporary:
        temporary.write_text(picture(tree))
    return [root / README, target]


def table(tree: FamilyTree) -> str:
    """The family tree in Markdown: a line a system, by branch and year; the floor and the ceiling last."""
    head = ["system", "year", "paper", "NFE", f"ms per image ({tree.section.runtime}, p50)"]
    head += [f"FD {net}, n = {tree.section.count:,}" for net in tree.section.judges.names] + ["class accuracy"]
    rows = []
    for branch, places in groupby(tree.places, key=_branch):
        rows.append([f"**[{branch}](docs/families/{branch.page}.md)**", *[""] * (len(head) - 1)])
        rows += [_line(place, tree) for place in places]
    rows += [[f"*{words}*", "", "", "", "", *of, ""] for words, of in baselines(tree.section)]
    return markdown(head, rows, words=3)


def _branch(place: Place) -> Branch:
    return place.system.branch


def _line(place: Place, tree: FamilyTree) -> list[str]:
    system, folder = place.system, f"zoo/checkpoints/{place.checkpoint.name}/"
    cells = [f"[{system.title}]({folder}) `{place.title}`", str(system.year), f"[{system.authors}]({system.address})"]
    if place.row is None:
        return [
            *cells,
            f"{place.nfe:,}",
            f"not measured: `{tree.command(place)}`",
            *[""] * (len(tree.section.judges.nets) + 1),
        ]
    return [
        *cells,
        *cost(place.row, tree.section),
        *distances(place.row, tree.section),
        accuracy(place.row, tree.section),
    ]


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> str:
    """A table whose first `words` columns are text, the others numbers."""
    lines = [head, ["---"] * words + ["--:"] * (len(head) - words), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cost(row: Row, section: Section) -> list[str]:
    """Network calls, and milliseconds for one image at p50; on another runtime than the section's, its name too."""
    for runtime in (section.runtime, *row.runtimes):
        if runtime and (p50 := row.percentile(runtime)):
            return [f"{row.nfe:,}", short(p50.value) + ("" if runtime == section.runtime else f" ({runtime})")]
    return [f"{row.nfe:,}", ""]


def distances(row: Row, section: Section) -> list[str]:
    """In the features of each of the section's judges; nothing where others judged it."""
    return [_shown(row.metric("fd", net)) for net in section.judges.names]


def accuracy(row: Row, section: Section) -> str:
    return percent(row.metric("accuracy", section.judges.judge))


def percent(found: Estimate | None) -> str:
    return f"{100.0 * found.value:.1f} %" if found else ""


def _shown(found: Estimate | None) -> str:
    return str(found) if found else ""


def baselines(section: Section) -> list[tuple[str, list[str]]]:
    """The distances of real images and of noise, as far as they are on record."""
    rows = []
    for name, words in (("floor", "real images"), ("ceiling", "noise")):
        if metrics := section.baselines.get(name):
            suffix = next(iter(metrics)).split("_")[1]
            rows.append((words, [str(metrics[f"fd_{suffix}_{net}"]) for net in section.judges.names]))
    return rows


Group = tuple[Branch, list[dict[str, Any]]]


def picture(tree: FamilyTree) -> str:
    """SVG: the latency/quality plot of the systems, and below it a strip of samples each, a column for each class."""
    shown = {place.title: place.row for place in tree.places if place.row}
    drawn = plot.plots(replace(tree.section, rows=list(shown.values())), FRAME, labels(tree.places))
    groups = [(branch, [_strip(place, tree) for place in places]) for branch, places in groupby(tree.places, _branch)]
    left, right = halves(groups)
    svg: str = template("family-tree.svg.j2").render(
        plot=drawn[0] if drawn else None,
        frame=FRAME,
        blocks=[*_blocks(left, 0), *_blocks(right, COLUMN)],
        heading=HEADING,
        strip=STRIP,
        side=SIDE,
        columns=COLUMNS,
        top=FRAME.height + 44,
        height=FRAME.height + 54 + max(_height(left), _height(right)),
        count=tree.section.count,
    )
    return svg


def labels(places: Sequence[Place]) -> dict[str, str]:
    """A label for each setting's title: its system, with the number of steps where another is called the same."""
    often = Counter(place.system.title for place in places)
    return {
        place.title: place.system.title + (f" {place.setting.num_steps}" if often[place.system.title] > 1 else "")
        for place in places
    }


def _strip(place: Place, tree: FamilyTree) -> dict[str, Any]:
    """What the picture shows of a system: lines of text, and samples where it was measured."""
    calls = f"{place.nfe:,} call{'s' if place.nfe > 1 else ''}"
    spent = f"{cost(place.row, tree.section)[1]} ms" if place.row else "not measured"
    return {
        "lines": textwrap.wrap(place.system.title, LETTERS),
        "note": f"{place.system.year} · {calls} · {spent}",
        "samples": first_row(place.row.grid) if place.row else None,
    }


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
