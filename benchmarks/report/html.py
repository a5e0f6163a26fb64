"""The HTML report: one file that opens offline, made of records and of nothing else.

What the page's script needs is data in the page; without script the same rows are a picture and tables.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality import metrics
from benchmarks.quality.metric import net_of
from benchmarks.quality.metrics import LOWER_IS_BETTER
from benchmarks.records import Record
from benchmarks.report import drawings, races, spending, students, summary
from benchmarks.report.comparison import Comparison
from benchmarks.report.palette import look
from benchmarks.report.summary import FLAGS, Section
from benchmarks.statistics import Estimate, short
from benchmarks.templates import FOLDER, VENDOR, script, template, vendored
from zoo import datasets, files

QUANTILES = 101  # of a cell's pooled latencies, in the page
KINDS = {
    "fd": "Fréchet distance",
    "fd_inf": "Fréchet distance, n → ∞",
    "kd": "kernel distance × 1000",
    "is": "Inception Score",
    "agreement": "agreement of image and prompt, 0 to 100",
    "c2st": "told from real by a classifier, 50 % is perfect",
    "cas": "accuracy of who learns from it",
}
SHARES = ("precision", "recall", "coverage", "accuracy", "copies", "c2st", "cas")


@dataclass(frozen=True)
class Measure:
    """One metric by one net, as a column or an axis."""

    kind: str
    net: str

    @property
    def key(self) -> str:
        return f"{self.kind}_{self.net}"

    @property
    def words(self) -> str:
        return f"{KINDS.get(self.kind, self.kind.replace('_', ' '))}, {self.net}"

    @property
    def lower(self) -> bool:
        return LOWER_IS_BETTER[self.kind]

    @property
    def share(self) -> bool:
        return self.kind in SHARES


def measures(section: Section) -> list[Measure]:
    """What a section's rows were judged by: kind by kind, the opinions in their order."""
    names = set(chain.from_iterable(row.metrics for row in section.rows))
    nets = list(dict.fromkeys([*section.opinions, *sorted(map(net_of, names))]))
    return [Measure(kind, net) for kind in LOWER_IS_BETTER for net in nets if summary.named(names, kind, net)]


def render(found: Iterable[Record], price: float | None = None) -> str:
    """The page; `price` is of an hour of the machine, in any currency.

    Raises RecordError where nothing of a generator is on record.
    """
    found = list(found)
    main = summary.main(found)
    sections = [main, *(section for section in summary.sections(found)[1:])]
    newest = max(_measured(sections), key=lambda record: str(record["time"]))
    pictures = _pictures(sections)
    ratios = [record for record in found if record["identity"]["kind"] == "ratio"][-1:]
    comparison = Comparison(main.rows, main.opinions)
    raced = races.of(found)
    scripts = [script(VENDOR / each["file"]) for each in vendored()] + [script(FOLDER / "report.js")]
    looks = {row.family: look(row.family) for section in sections for row in section.rows}
    page: str = template("report.html.j2").render(
        sections=sections,
        main=main,
        data=_json({"flags": FLAGS, "price": price, "sections": [_section(section, pictures) for section in sections]}),
        scripts=scripts,
        style=(FOLDER / "report.css").read_text(),
        vendored=vendored(),
        looks=list(looks.values()),
        look=look,
        plot=drawings.front(main, comparison),
        race=raced,
        race_plot=races.drawn(raced),
        comparison=comparison,
        verdicts=[_verdicts(section) for section in sections],
        measures=measures,
        pictures=pictures,
        picture_of=lambda row: pictures.get(row.grid),
        students=students.pairs(sections),
        ratios=ratios,
        spent=[each for section in summary.by_dataset(sections) for each in spending.of(section)],
        generators=len({row.generator for section in sections for row in section.rows}),
        rows=sum(len(section.rows) for section in sections),
        records=len(found),
        measured=newest["time"][:10],
        facts=_facts(newest),
        protocol=newest["identity"]["protocol"],
        nets=main.judges.nets,
        judge=main.judges.judge,
        dataset=datasets.known(main.dataset),
        held_out=metrics.held_out,
        titled=_titled,
        warned=summary.warned,
        flags=FLAGS,
        short=short,
        number=number,
        machine=drawings.machine,
    )
    return page


def write(found: Iterable[Record], path: Path, price: float | None = None) -> Path:
    page = render(found, price)
    with files.atomic(path) as temporary:
        temporary.write_text(page)
    return path


def number(estimate: Estimate | None, share: bool = False) -> dict[str, str]:
    """The words of a table's cell: the value, and below it the interval."""
    if estimate is None:
        return {"value": "", "interval": ""}
    if share:
        low, high = 100.0 * estimate.low, 100.0 * estimate.high
        return {"value": f"{100.0 * estimate.value:.1f} %", "interval": f"{low:.1f} to {high:.1f}"}
    return {"value": short(estimate.value), "interval": f"{short(estimate.low)} to {short(estimate.high)}"}


def _measured(sections: Sequence[Section]) -> Iterable[Record]:
    for section in sections:
        for row in section.rows:
            yield from (*row.cells.values(), *([row.quality] if row.quality else []))


def _verdicts(section: Section) -> list[str]:
    return Comparison(section.rows, section.opinions).against(section.reference)


def _pictures(sections: Sequence[Section]) -> dict[str, dict[str, Any]]:
    """Each grid once, by its text: a place in the page, and its size."""
    found: dict[str, dict[str, Any]] = {}
    for section in sections:
        for row in section.rows:
            if row.grid and row.grid not in found:
                width, height = drawings.size(row.grid)
                found[row.grid] = {"id": f"grid-{len(found)}", "width": width, "height": height}
    return found


def _json(data: Any) -> str:
    """As the inside of a script element: no text in it ends that element or begins a comment."""
    plain = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return plain.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _section(section: Section, pictures: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Everything that the script draws and sorts of a section."""
    wanted = measures(section)
    letters = {each.key: Comparison(section.rows, (each.net,), each.kind).letters(each.net) for each in wanted}
    floor = section.baselines.get("floor")
    teachers = {row.generator: students.teacher(row.generator) for row in section.rows}
    names = [row.generator for row in section.rows]
    return {
        "title": f"{_titled(section)}, {section.count:,} images judged, {drawings.machine(section.machine)}",
        "runtime": section.runtime,
        "runtimes": section.runtimes,
        "scenarios": section.scenarios,
        "opinions": section.opinions,
        "reference": next((index for index, row in enumerate(section.rows) if row is section.reference), None),
        "measures": [
            {
                "key": each.key,
                "kind": each.kind,
                "net": each.net,
                "words": each.words,
                "lower": each.lower,
                "share": each.share,
                "floor": _triple(floor.metric(each.kind, each.net) if floor else None),
            }
            for each in wanted
        ],
        "families": [
            {"name": name, "words": look(name).words, "id": look(name).id, "mark": look(name).mark}
            for name in dict.fromkeys(row.family for row in section.rows)
        ],
        "rows": [
            {
                "title": row.title,
                "generator": row.generator,
                "family": row.family,
                "precision": row.precision,
                "nfe": row.nfe,
                "student": f"student-{row.generator}" if teachers[row.generator] in names else None,
                "picture": pictures.get(row.grid),
                "metrics": {
                    each.key: triple
                    for each in wanted
                    if (triple := _triple(row.metric(each.kind, each.net))) is not None
                },
                "verdicts": {each.key: letters[each.key][index] for each in wanted},
                "timing": {f"{on}|{under}": _timing(record) for (on, under), record in row.cells.items()},
            }
            for index, row in enumerate(section.rows)
        ],
    }


def _triple(estimate: Estimate | None) -> list[float] | None:
    return [float(f"{value:.4g}") for value in (estimate.value, estimate.low, estimate.high)] if estimate else None


def _timing(record: Record) -> dict[str, Any]:
    """A cell's latencies: estimates, each run's median, quantiles of all runs together, and what to know before."""
    runs = [run["latencies_ms"] for run in record["runs"] if run["latencies_ms"]]
    pooled = np.quantile(np.concatenate(runs), np.linspace(0.0, 1.0, QUANTILES)) if runs else np.empty(0)
    told = {
        name: _triple(Estimate(**found)) if (found := record["latency"].get(name)) else None
        for name in ("p50", "p90", "p99", "images_per_second", "relative")
    }
    return {
        **told,
        "reference": record["reference"],
        "runs": [float(f"{np.median(run):.4g}") for run in runs],
        "queries": sum(map(len, runs)),
        "quantiles": [float(f"{value:.4g}") for value in pooled],
        "flags": list(record["flags"]),
        "why": sorted({reason for run in record["runs"] for reason in run["invalid_because"]}),
    }


def _titled(section: Section) -> str:
    """What a section's data set is called."""
    known = datasets.known(section.dataset)
    return known.title if known else section.dataset or "unknown data"


def _facts(record: Record) -> dict[str, Any]:
    environment = record["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    return {"system": environment["os"], "revision": environment["revision"] or "unknown", "versions": versions}
