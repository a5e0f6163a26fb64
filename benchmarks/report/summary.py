"""Records -> what tables and plots show: one row a generator, setting and precision, on one machine.

What was timed (cells), what images are worth (quality) and what it costs to begin (cost) are records of their own; a
row joins those of the same generator, setting, precision and weights.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks import records
from benchmarks.measure.workload import RUNTIMES, SCENARIOS, title
from benchmarks.quality import judges
from benchmarks.quality.judges import Judges
from benchmarks.quality.metric import metric_name, net_of
from benchmarks.records import Record, RecordError
from benchmarks.statistics import ALIKE, BETTER, WORSE, Estimate, Jackknifed
from zoo.contract.request import Setting

ALONE = "single-stream"  # one request at a time: what a latency is, where nothing else is said
FLAGS = {
    "invalid": "INVALID: LoadGen holds a run of this timing for invalid",
    "noisy": "noisy: other processes or a changing clock disturbed this timing; measure it again on a quiet machine",
    "few-queries": "few queries: too few for LoadGen's rule at this percentile",
    "served-differs": "served differs: the images that were served are not those that the bundle makes",
    "cached": "cached: a repeated request was answered faster than a new one",
}
DISPUTED = "disputed"


def named(metrics: Iterable[str], kind: str, net: str) -> str:
    """What a metric is called in a record, of however many images it is; empty where it is not there."""
    return next((name for name in metrics if re.fullmatch(rf"{kind}_\d+k?_{re.escape(net)}", name)), "")


@dataclass
class Row:
    """One generator at one setting: its cells by runtime and scenario, and its quality once, where it was judged."""

    dataset: str
    generator: str
    family: str
    setting: Setting
    precision: str
    nfe: int
    weights: str  # the digest of the checkpoint that was measured
    quality: Record | None = None
    cells: dict[tuple[str, str], Record] = field(default_factory=dict)
    costs: dict[str, Record] = field(default_factory=dict)  # by runtime

    @property
    def title(self) -> str:
        return title(self.generator, self.setting, self.precision)

    @property
    def count(self) -> int:
        """How many images were judged; 0: none."""
        return int(self.quality["count"]) if self.quality else 0

    @property
    def metrics(self) -> dict[str, Estimate]:
        return estimates(self.quality)

    @property
    def copies(self) -> dict[str, Any] | None:
        """`count` images looked at, the `share` taken for copies, and how well that is known; None: not looked for."""
        found = self.quality and self.quality.get("copies")
        if not found:
            return None
        return {**found, "share": self.metrics[metric_name("copies", found["count"], "pixels")]}

    @property
    def grid(self) -> str:
        """PNG in base64; empty where its images are not on record."""
        return str(self.quality["grid"]) if self.quality else ""

    @property
    def interpolation(self) -> str:
        """The same; empty too for a generator without noise, whose seeds have nothing between them."""
        return str(self.quality.get("interpolation", "")) if self.quality else ""

    def metric(self, kind: str, net: str) -> Estimate | None:
        """None where nobody judges such images."""
        return self.metrics.get(named(self.metrics, kind, net))

    def jackknifed(self, kind: str, net: str) -> Jackknifed | None:
        """A metric with its values without each group of images: what pairs of rows are compared by."""
        name = named(self.quality["left_out"], kind, net) if self.quality else ""
        if not self.quality or not name:
            return None
        return Jackknifed(self.metrics[name].value, np.array(self.quality["left_out"][name]))

    def percentile(self, runtime: str, name: str = "p50", scenario: str = ALONE) -> Estimate | None:
        """Of one image's milliseconds; None where it was not measured, or of too few queries."""
        return self._latency(runtime, name, scenario)

    def images_per_second(self, runtime: str, scenario: str = "offline") -> Estimate | None:
        return self._latency(runtime, "images_per_second", scenario)

    def relative(self, runtime: str, scenario: str = ALONE) -> Estimate | None:
        """Its time by that of the reference cell in the same rounds."""
        return self._latency(runtime, "relative", scenario)

    def _latency(self, runtime: str, name: str, scenario: str) -> Estimate | None:
        record = self.cells.get((runtime, scenario))
        found = record["latency"].get(name) if record else None
        return Estimate(**found) if found else None

    @property
    def runtimes(self) -> list[str]:
        return [runtime for runtime in RUNTIMES if (runtime, ALONE) in self.cells]

    def flags(self, runtime: str | None = None, scenario: str | None = None) -> list[str]:
        """What to know before its timing is quoted, of one runtime and scenario or of any, in the order of FLAGS."""
        raised = {
            flag
            for (on, under), record in self.cells.items()
            if runtime in (None, on) and scenario in (None, under)
            for flag in record["flags"]
        }
        return [flag for flag in FLAGS if flag in raised] + sorted(raised - set(FLAGS))


def warned(flags: Iterable[str]) -> str:
    """Flags as a table's cell shows them: `INVALID, noisy`; nothing where there are none."""
    return ", ".join("INVALID" if flag == "invalid" else flag.replace("-", " ") for flag in flags)


@dataclass(frozen=True)
class Baseline:
    """What real pictures or noise score: of as many images as the rows, or of all that there are."""

    count: int
    metrics: dict[str, Estimate]

    def metric(self, kind: str, net: str) -> Estimate | None:
        return self.metrics.get(named(self.metrics, kind, net))


@dataclass(frozen=True)
class Section:
    """Rows that may be compared: one data set, one machine, one number of judged images, its floor and its ceiling."""

    dataset: str
    machine: dict[str, Any]
    count: int
    rows: list[Row]
    baselines: dict[str, Baseline]  # "floor", "ceiling"

    @property
    def judges(self) -> Judges:
        return judges.of(self.dataset)

    @property
    def opinions(self) -> tuple[str, ...]:
        """The nets that judged at least one row: those of the data set, then those from files that somebody has."""
        found = {net_of(name) for row in self.rows for name in row.metrics if name.startswith("fd_")}
        ours = [net for net in self.judges.names if net in found]
        return (*ours, *sorted(found - set(ours)))

    @property
    def runtimes(self) -> list[str]:
        """On which rows were timed: those of the zoo in their order, then others by name."""
        found = {runtime for row in self.rows for runtime, _ in row.cells}
        return [runtime for runtime in RUNTIMES if runtime in found] + sorted(found - set(RUNTIMES))

    @property
    def scenarios(self) -> list[str]:
        found = {scenario for row in self.rows for _, scenario in row.cells}
        return [scenario for scenario in SCENARIOS if scenario in found] + sorted(found - set(SCENARIOS))

    @property
    def runtime(self) -> str | None:
        """The runtime on which most rows were timed, the one nearest to production first."""
        timed = [runtime for row in self.rows for runtime, scenario in row.cells if scenario == ALONE]
        return max(self.runtimes, key=timed.count) if timed else None

    @property
    def timed_by(self) -> list[str]:
        """The titles of the rows by whose time others are told, which need not be among these rows."""
        cells = (record for row in self.rows for record in row.cells.values() if record["reference"])
        return list(dict.fromkeys(record["reference"].split(" on ")[0] for record in cells))

    @property
    def reference(self) -> Row | None:
        """The row that others are compared with: the one of the reference cell, else the first that was judged."""
        titles = {row.title: row for row in self.rows}
        found = (titles[title] for title in self.timed_by if title in titles)
        return next(found, next((row for row in self.rows if row.quality), None))


def opinion(words: Mapping[str, str]) -> str:
    """What the verdicts of several nets come to; empty where none says anything.

    A word where all agree, "disputed" where one holds for better what another holds for worse, and "better, says the
    classifier" where the rest see no difference.
    """
    found = {net: word for net, word in words.items() if word}
    said = set(found.values())
    if len(said) <= 1:
        return next(iter(said), "")
    if {BETTER, WORSE} <= said:
        return DISPUTED
    [word] = said - {ALIKE}
    return f"{word}, says the {listed([net for net in found if found[net] == word])}"


def listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def sections(found: Iterable[Record]) -> list[Section]:
    """The latest records of each generator's latest weights, joined; the section with the most rows first."""
    kept = _newest(records.latest(found))
    baselines = [record for record in kept if record["identity"]["kind"] == "baseline"]
    qualities = [record for record in kept if record["identity"]["kind"] == "quality"]
    costs = [record for record in kept if record["identity"]["kind"] == "cost"]
    groups: dict[bytes, list[Record]] = {}
    for record in kept:
        if record["identity"]["kind"] == "cell":
            key = records.canonical([_dataset(record), _host(record["identity"]["machine"])])
            groups.setdefault(key, []).append(record)
    made = []
    for cells in groups.values():
        here, anywhere = set(map(_key, cells)), {_key(each) for group in groups.values() for each in group}
        mine = [each for each in qualities if _dataset(each) == _dataset(cells[0])]
        made += _sections(
            cells, [each for each in mine if _key(each) in here or _key(each) not in anywhere], costs, baselines
        )
    timed = {_dataset(cells[0]) for cells in groups.values()}
    for dataset in dict.fromkeys(map(_dataset, qualities)):
        if dataset not in timed:
            made += _sections([], [each for each in qualities if _dataset(each) == dataset], [], baselines)
    return sorted(made, key=lambda section: (-len(section.rows), -section.count))


def _newest(latest: list[Record]) -> list[Record]:
    """Without the cells, qualities and costs of weights that were measured before others of the same generator."""
    weights = {_named(record)["generator"]: _weights(record) for record in latest if _named(record)}
    return [
        record for record in latest if not _named(record) or _weights(record) == weights[_named(record)["generator"]]
    ]


def main(found: Iterable[Record]) -> Section:
    """The section with the most rows. Raises RecordError where nothing of a generator is on record."""
    made = sections(found)
    if not made:
        raise RecordError("no cell is on record: `genzoo bench` measures some")
    return made[0]


def by_dataset(made: Iterable[Section]) -> list[Section]:
    """The first section of each data set."""
    found: dict[str, Section] = {}
    for section in made:
        found.setdefault(section.dataset, section)
    return list(found.values())


def beside(main: Section, made: Iterable[Section]) -> list[Section]:
    """A section, and one of each other data set on its machine: latencies compare, distances do not."""
    return by_dataset([main, *(section for section in made if section.machine == main.machine)])


def _named(record: Record) -> Mapping[str, Any]:
    """The generator and setting that a record is of; empty for one of something else."""
    identity = record["identity"]
    kind = identity["kind"]
    found: Mapping[str, Any] = identity[kind] if kind in ("cell", "quality", "cost") else {}
    return found


def _dataset(record: Record) -> str:
    return str(record["identity"].get("dataset", judges.FIRST))


def _weights(record: Record) -> str:
    return str(record["identity"]["artifact"]["checkpoint"])


def _host(machine: Mapping[str, Any]) -> dict[str, Any]:
    """A machine with or without its GPU: both are one machine's columns."""
    return {name: value for name, value in machine.items() if name != "gpu"}


Key = tuple[str, Setting, str, str]  # generator, setting, precision, weights


def _key(record: Record) -> Key:
    of = _named(record)
    return of["generator"], setting(of), of["precision"], _weights(record)


def setting(of: Mapping[str, Any]) -> Setting:
    """What `Setting.to_json` wrote, out of an identity."""
    found = {each.name: _tuples(of[each.name]) for each in dataclasses.fields(Setting) if each.name in of}
    return Setting(**found)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _sections(
    cells: list[Record], qualities: list[Record], costs: list[Record], baselines: list[Record]
) -> list[Section]:
    """Of one data set on one machine, a section for each number of judged images; the first has what was not judged."""
    dataset = _dataset((cells or qualities)[0])
    timed: dict[Key, dict[tuple[str, str], Record]] = {}
    for record in cells:
        cell = record["identity"]["cell"]
        timed.setdefault(_key(record), {})[cell["runtime"], cell["scenario"]] = record
    judged: dict[int, dict[Key, Record]] = {}
    for record in qualities:
        judged.setdefault(record["count"], {})[_key(record)] = record
    looks = judged.pop(0, {})  # pictures of what nobody judges
    unjudged = [key for key in {**looks, **timed} if not any(key in found for found in judged.values())]
    machine = _host((cells[0]["identity"] if cells else qualities[0]["environment"])["machine"])
    spent = [record for record in costs if _host(record["identity"]["machine"]) == machine]
    made: list[Section] = []
    for count in sorted(judged, key=lambda count: (-len(judged[count]), -count)) or [0]:
        found = judged.get(count, {})
        keys = dict.fromkeys([*found, *(unjudged if not made else [])])
        rows = [_row(dataset, key, timed.get(key, {}), found.get(key) or looks.get(key), spent) for key in keys]
        rows.sort(key=lambda row: (row.family, row.generator, row.setting.num_steps or 0, row.title))
        made.append(Section(dataset, machine, count, rows, _baselines(baselines, dataset, count)))
    return made


def _row(
    dataset: str, key: Key, cells: dict[tuple[str, str], Record], quality: Record | None, costs: list[Record]
) -> Row:
    generator, setting, precision, weights = key
    told = quality or next(iter(cells.values()))
    mine = {
        of["runtime"]: record
        for record in costs
        if (of := _named(record))
        and (of["generator"], of["precision"], _weights(record)) == (generator, precision, weights)
    }
    return Row(dataset, generator, told["family"], setting, precision, told["nfe"], weights, quality, cells, mine)


def _baselines(baselines: list[Record], dataset: str, count: int) -> dict[str, Baseline]:
    return {
        record["identity"]["baseline"]: Baseline(record["count"], estimates(record))
        for record in baselines
        if record["identity"]["protocol"]["judged"] == count and _dataset(record) == dataset
    }


def estimates(quality: Mapping[str, Any] | None) -> dict[str, Estimate]:
    return {name: Estimate(**value) for name, value in quality["metrics"].items()} if quality else {}
