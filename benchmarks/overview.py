"""The README's one table and one picture, from records: what each generator costs and gives, and what it looks like."""

from __future__ import annotations

import base64
import io
import math
from pathlib import Path

from benchmarks import plot
from benchmarks.features import JUDGE, NETS
from benchmarks.report import short, template
from benchmarks.statistics import Estimate
from benchmarks.summary import Row, Section
from benchmarks.workload import WorkloadError
from zoo import files

SIDE = 32  # pixels of a picture in a record's grid
PICTURE = Path("docs/overview.svg")


def replace_marked(path: Path, name: str, text: str) -> None:
    """Put `text` between `<!-- name:begin -->` and `<!-- name:end -->`. Raises WorkloadError where they are missing."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    page = path.read_text()
    if page.count(begin) != 1 or page.count(end) != 1:
        raise WorkloadError(f"{path} needs one {begin} and one {end}: the text goes between them")
    head, rest = page.split(begin)
    with files.atomic(path) as temporary:
        temporary.write_text(f"{head}{begin}\n{text}\n{end}{rest.split(end)[1]}")


def table(section: Section) -> str:
    """A row a generator and number of steps, in Markdown; distances with their intervals, the floor last."""
    head = ["generator", "NFE", f"ms per image ({section.runtime}, p50)"]
    head += [f"FD {net}, n = {section.count:,}" for net in NETS] + ["class accuracy"]
    lines = [_line(head), "|---|" + "--:|" * (len(head) - 1)]
    for row in section.rows:
        p50 = row.percentile(section.runtime) if section.runtime else None
        accuracy = row.metric("accuracy", JUDGE)
        distances = [_interval(row.metric("fd", net)) for net in NETS]
        share = f"{100.0 * accuracy.value:.1f} %" if accuracy else ""
        lines.append(_line([row.title, str(row.nfe), short(p50.value) if p50 else "", *distances, share]))
    for name, words in (("floor", "real images"), ("ceiling", "noise")):
        if metrics := section.baselines.get(name):
            suffix = next(iter(metrics)).split("_")[1]
            distances = [_interval(metrics[f"fd_{suffix}_{net}"]) for net in NETS]
            lines.append(_line([f"*{words}*", "", "", *distances, ""]))
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _interval(found: Estimate | None) -> str:
    return f"{short(found.value)} ({short(found.low)} to {short(found.high)})" if found else ""


def picture(section: Section) -> str:
    """SVG: the latency/quality plot, and beside it one strip of samples a generator, a column for each class."""
    drawn = plot.plots(section)
    best: dict[str, Row] = {}
    for row in section.rows:  # each generator at its best
        distance = row.metric("fd", NETS[0])
        rival = best[row.generator].metric("fd", NETS[0]) if row.generator in best else None
        if distance and (rival is None or distance.value < rival.value):
            best[row.generator] = row
    svg: str = template("overview.svg.j2").render(
        plot=drawn[0],
        strips=[(row.title, strip(row.grid)) for row in best.values()],
        count=section.count,
        left=plot.LEFT,
        right=plot.WIDTH - plot.RIGHT,
        top=plot.TOP,
        bottom=plot.HEIGHT - plot.BOTTOM,
        plot_width=plot.WIDTH,
        height=max(plot.HEIGHT, 40 + 38 * math.ceil(len(best))),
        short=short,
    )
    return svg


def strip(grid: str) -> str:
    """The first row of a record's grid, PNG in base64."""
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(grid))) as image:
        row = image.crop((0, 0, image.width, SIDE))
    buffer = io.BytesIO()
    row.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def write(section: Section, readme: Path) -> None:
    """Write the table into `readme` and the picture beside it."""
    replace_marked(readme, "table", table(section))
    target = readme.parent / PICTURE
    target.parent.mkdir(exist_ok=True)
    with files.atomic(target) as temporary:
        temporary.write_text(picture(section))
