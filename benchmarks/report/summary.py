"""Records -> what tables and plots show: one row a generator, number of steps and precision, on one machine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from benchmarks import records
from benchmarks.measure.workload import RUNTIMES, title
from benchmarks.quality import judges
from benchmarks.quality.judges import Judges
from benchmarks.quality.metrics import metric_name
from benchmarks.records import Record, RecordError
from benchmarks.statistics import Estimate
from zoo.contract.request import Setting


@dataclass
class Row:
    """The cells of one generator at one setting: latency by runtime and scenario, quality once."""

    dataset: str
    generator: str
    family: str
    setting: Setting
    precision: str
    nfe: int
    count: int
    metrics: dict[str, Estimate]
    grid: str
    interpolation: str
    cells: dict[tuple[str, str], Record] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return title(self.generator, self.setting, self.precision)

    def metric(self, kind: str, net: str) -> Estimate | None:
        """None where nobody judges such images."""
        return self.metrics.get(metric_name(kind, self.count, net))

    def percentile(self, runtime: str, name: str = "p50") -> Estimate | None:
        record = self.cells.get((runtime, "single-stream"))
        return Estimate(**record["latency"][name]) if record else None

    def images_per_second(self, runtime: str) -> float | None:
        record = self.cells.get((runtime, "offline"))
        return float(record["latency"]["images_per_second"]) if record else None

    @property
    def runtimes(self) -> list[str]:
        return [runtime for runtime in RUNTIMES if (runtime, "single-stream") in self.cells]

    @property
    def weights(self) -> str:
        """The digest of the checkpoint that was measured."""
        return _weights(next(iter(self.cells.values())))

    @property
    def noisy(self) -> bool:
        """Whether other processes or a changing clock disturbed a measurement."""
        return any(record["noise"]["noisy"] for record in self.cells.values())


@dataclass(frozen=True)
class Section:
    """Rows that may be compared: one data set, one machine, one number of judged images, its floor and its ceiling."""

    dataset: str
    machine: dict[str, Any]
    count: int
    rows: list[Row]
    baselines: dict[str, dict[str, Estimate]]

    @property
    def judges(self) -> Judges:
        return judges.of(self.dataset)

    @property
    def runtime(self) -> str | None:
        """The runtime on which most rows were timed, the one nearest to production first."""
        runtimes = [runtime for row in self.rows for runtime in row.runtimes]
        return max(RUNTIMES, key=runtimes.count) if runtimes else None


def sections(found: Iterable[Record]) -> list[Section]:
    """The latest records of every cell of each generator's latest weights, the section with the most rows first."""
    latest = records.latest(found)
    weights = {_generator(record): _weights(record) for record in latest if record["identity"]["kind"] == "cell"}
    groups: dict[bytes, list[Record]] = {}
    for record in latest:
        if record["identity"]["kind"] == "cell" and _weights(record) == weights[_generator(record)]:
            identity = record["identity"]
            key = records.canonical([_dataset(record), identity["machine"], identity["protocol"]["judged"]])
            groups.setdefault(key, []).append(record)
    made = [_section(group, latest) for group in groups.values()]
    return sorted(made, key=lambda section: -len(section.rows))


def main(found: Iterable[Record]) -> Section:
    """The section with the most rows. Raises RecordError where no cell is on record."""
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


def beside(main: Section, made: Iterable[Section]) -> list[Row]:
    """The rows of a section, and those of other data sets on its machine: latencies compare, distances do not."""
    mine = [main, *(section for section in made if section.machine == main.machine)]
    return [row for section in by_dataset(mine) for row in section.rows]


def _generator(record: Record) -> str:
    return str(record["identity"]["cell"]["generator"])


def _dataset(record: Record) -> str:
    return str(record["identity"].get("dataset", judges.FIRST))


def _weights(record: Record) -> str:
    return str(record["identity"]["artifact"]["checkpoint"])


def _section(cells: list[Record], latest: list[Record]) -> Section:
    dataset, count = _dataset(cells[0]), cells[0]["identity"]["protocol"]["judged"]
    baselines = {
        record["identity"]["baseline"]: estimates(record["quality"])
        for record in latest
        if record["identity"]["kind"] == "baseline"
        and record["identity"]["judged"] == count
        and _dataset(record) == dataset
    }
    rows: dict[tuple[str, Setting, str], Row] = {}
    for record in cells:
        cell = record["identity"]["cell"]
        setting = Setting(cell["num_steps"], cell["sampler"], cell["guidance_scale"])
        key = (cell["generator"], setting, cell["precision"])
        measured = rows[key].cells if key in rows else {}
        measured[cell["runtime"], cell["scenario"]] = record
        rows[key] = Row(
            dataset=dataset,
            generator=cell["generator"],
            setting=setting,
            precision=cell["precision"],
            **{name: record[name] for name in ("family", "nfe", "grid", "interpolation")},
            count=count,
            metrics=estimates(record["quality"]),
            cells=measured,
        )
    ordered = sorted(rows.values(), key=lambda row: (row.family, row.generator, row.setting.num_steps or 0, row.title))
    return Section(dataset, cells[0]["identity"]["machine"], count, ordered, baselines)


def estimates(quality: dict[str, Any] | None) -> dict[str, Estimate]:
    return {name: Estimate(**value) for name, value in quality["metrics"].items()} if quality else {}


@dataclass(frozen=True)
class Disagreement:
    """Two rows that the feature nets put in opposite order, each by more than chance."""

    better: dict[str, Row]  # net -> the row that it prefers


def disagreements(rows: Iterable[Row], kind: str = "fd") -> list[Disagreement]:
    """Pairs of a data set's rows whose intervals are apart in all nets, in not one order."""
    found = []
    for a, b in combinations(rows, 2):
        order, nets = {}, judges.of(a.dataset).names
        for net in nets if b.dataset == a.dataset else ():
            one, other = a.metric(kind, net), b.metric(kind, net)
            if one and other and (one.high < other.low or other.high < one.low):
                order[net] = a if one.value < other.value else b
        if len(order) == len(nets) and len({row.title for row in order.values()}) > 1:
            found.append(Disagreement(order))
    return found
