"""Two files of records side by side: what was measured otherwise, what came out otherwise, and whether that is chance.

Latency is compared by what the runs of a cell were in the mean, on a log scale, as far as runs differ from each other
(Welch 1947): the calls of one run say nothing of how another run would be. Quality is compared by what metrics are
without each group of images, in pairs where both drew the same seeds. Of many comparisons a few are "significant" by
chance alone, so p-values are adjusted for their number (Holm 1979).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks import records
from benchmarks.measure import rounds
from benchmarks.measure.workload import OFFLINE
from benchmarks.quality.metrics import LOWER_IS_BETTER
from benchmarks.receipts import FAILED, described
from benchmarks.records import Record
from benchmarks.statistics import ALIKE, BETTER, CONFIDENCE, GROUPS, WORSE, Estimate, Jackknifed, between_runs
from zoo.errors import GenzooError

LEVEL = 1.0 - CONFIDENCE
CLOSE = 0.03  # how far apart two ratios may be that should be the same
COMPARED = ("artifact", "nets", "protocol", "machine", "software")  # of an identity
TIME, RELATIVE = "time", "relative"


class CompareError(GenzooError):
    """Two files of records that have nothing in common."""


@dataclass(frozen=True)
class Change:
    """Something that identities differ in, and in how many pairs of records."""

    what: str
    before: Any
    after: Any
    records: int


@dataclass(frozen=True)
class Difference:
    """One number before and after. `estimate` is the ratio of a latency, or the difference of a metric.

    `p` is that of no difference, two-sided; `adjusted` for all that were compared of its kind. `worse` is positive
    where the later one is worse; `loss` is the one-sided p of a loss of more than the margin.
    """

    title: str
    column: str
    before: float
    after: float
    estimate: Estimate
    p: float
    adjusted: float
    worse: float
    loss: float
    paired: bool = False  # of a metric: both drew the same seeds
    overlap: bool = True  # of a latency: the intervals that the two files print

    @property
    def word(self) -> str:
        """ "better", "worse" or "indistinguishable", beyond what chance does to one of so many."""
        return ALIKE if self.adjusted >= LEVEL else WORSE if self.worse > 0 else BETTER


@dataclass(frozen=True)
class Comparison:
    """All that can be said of two files. `agreement` are shares of the cells: None where none is in both."""

    changes: list[Change]
    only_before: list[str]
    only_after: list[str]
    latency: list[Difference]
    quality: list[Difference]
    flagged: list[str]  # of what is in both, what only the later one is not sound of
    same_machine: bool
    agreement: dict[str, float | None]

    def losses(self, margin: float = 0.0) -> list[str]:
        """A sentence for each significant loss; absolute times count where one machine measured both."""
        tested = [each for each in self.latency if self.same_machine or each.column == RELATIVE]
        tested += self.quality
        found = list(self.flagged)
        for each, p in zip(tested, holm([each.loss for each in tested]), strict=True):
            if p < LEVEL:
                beyond = f", more than {margin:.0%} worse" if each in self.latency else ""
                change = f"{each.before:.4g} -> {each.after:.4g}"
                found.append(f"{each.title}: {each.column} {change}{beyond} (p = {p:.2g}, adjusted)")
        return found


def compare(before: Iterable[Record], after: Iterable[Record], margin: float = 0.0) -> Comparison:
    """`margin` is how much slower a cell may be without counting as a loss. Raises CompareError."""
    old, new = _by_subject(before), _by_subject(after)
    shared = [key for key in old if key in new]
    if not shared:
        raise CompareError(
            f"the two files have nothing in common: {len(old)} cells and rows in the first, {len(new)} in the second; "
            "`genzoo bench` with the same names measures the same"
        )
    pairs = [(old[key], new[key]) for key in shared]
    latency = _adjusted([each for pair in pairs if _kind(pair[0]) == "cell" for each in _latencies(*pair, margin)])
    quality = _adjusted([each for pair in pairs if _kind(pair[0]) != "cell" for each in _metrics(*pair)])
    return Comparison(
        changes=_changes(pairs),
        only_before=[described(old[key]) for key in old if key not in new],
        only_after=[described(new[key]) for key in new if key not in old],
        latency=latency,
        quality=quality,
        flagged=[sentence for pair in pairs for sentence in _flagged(*pair)],
        same_machine=all(_part(a, "machine") == _part(b, "machine") for a, b in pairs),
        agreement=_agreement(latency),
    )


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted for their number: at any level, some true hypothesis is rejected with at most that chance."""
    order = np.argsort(p, kind="stable")
    scaled = np.array(p, dtype=np.float64)[order] * np.arange(len(p), 0, -1)
    found = np.empty(len(p))
    found[order] = np.maximum.accumulate(scaled).clip(max=1.0) if len(p) else scaled
    return [float(each) for each in found]


def _by_subject(found: Iterable[Record]) -> dict[bytes, Record]:
    """The newest record of each cell, each row's quality and each baseline, whatever measured it."""
    kinds = ("cell", "quality", "baseline")
    return {
        records.canonical([_kind(each), each["identity"].get("dataset"), each["identity"][_kind(each)]]): each
        for each in found
        if _kind(each) in kinds
    }


def _kind(record: Record) -> str:
    return str(record["identity"]["kind"])


def _part(record: Record, name: str) -> Any:
    return record["identity"].get(name)


def _changes(pairs: Iterable[tuple[Record, Record]]) -> list[Change]:
    """What identities differ in, what is different most often first."""
    found: Counter[tuple[str, bytes, bytes]] = Counter()
    for a, b in pairs:
        for part in COMPARED:
            one, other = dict(_flat(_part(a, part), part)), dict(_flat(_part(b, part), part))
            for path in dict.fromkeys((*one, *other)):
                if one.get(path) != other.get(path):
                    found[path, records.canonical(one.get(path)), records.canonical(other.get(path))] += 1
    return [
        Change(path, json.loads(before), json.loads(after), count)
        for (path, before, after), count in found.most_common()
    ]


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every plain value with its dotted path."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}")
    elif value is not None:
        yield path, value


def _flagged(before: Record, after: Record) -> Iterator[str]:
    for flag in sorted((FAILED & set(after.get("flags", ()))) - set(before.get("flags", ()))):
        yield f"{described(after)}: it is flagged {flag!r}, and was not"


def _latencies(before: Record, after: Record, margin: float) -> Iterator[Difference]:
    """A cell's milliseconds an image or a query, and its ratio to the reference of the same rounds."""
    scenario = str(before["identity"]["cell"]["scenario"])
    for column in (TIME, RELATIVE):
        a, b = (per_run(each["runs"], scenario, column) for each in (before, after))
        if len(a) < 2 or len(b) < 2:
            continue
        ratio, error, degrees = welch(np.log(a), np.log(b))
        one, other = between_runs(a), between_runs(b)
        half = _quantile(degrees) * error
        yield Difference(
            title=described(after),
            column=column,
            before=one.value,
            after=other.value,
            estimate=Estimate(*(float(np.exp(each)) for each in (ratio, ratio - half, ratio + half))),
            p=_two_sided(ratio, error, degrees),
            adjusted=1.0,
            worse=ratio,
            loss=_above(ratio - float(np.log1p(margin)), error, degrees),
            overlap=one.low <= other.high and other.low <= one.high,
        )


def per_run(runs: Iterable[Mapping[str, Any]], scenario: str, column: str) -> np.ndarray:
    """One positive value a run, (R,): milliseconds of the median query, offline of an image; or by the reference's.

    Without the runs that have no such value.
    """
    return np.array([value for run in runs if (value := _of_run(run, scenario, column)) is not None])


def _of_run(run: Mapping[str, Any], scenario: str, column: str) -> float | None:
    if column == RELATIVE:
        return rounds.relative(scenario, run) if run.get("reference") else None
    return float(1000.0 * run["seconds"] / run["images"] if scenario == OFFLINE else np.median(run["latencies_ms"]))


def welch(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """The mean of b less that of a, its standard error, and its degrees of freedom."""
    parts = np.array([each.var(ddof=1) / len(each) for each in (a, b)])
    error = float(np.sqrt(parts.sum()))
    below = float((parts**2 / [len(a) - 1, len(b) - 1]).sum())
    return float(b.mean() - a.mean()), error, float(parts.sum() ** 2 / below) if below else float(len(a) + len(b) - 2)


def _metrics(before: Record, after: Record) -> Iterator[Difference]:
    paired = all(_drawn(before)[key] == _drawn(after)[key] for key in ("judged", "first_seed", "groups", "conditions"))
    for name in before["left_out"]:
        if name not in after["left_out"] or name not in before["metrics"] or name not in after["metrics"]:
            continue
        a, b = (
            Jackknifed(each["metrics"][name]["value"], np.array(each["left_out"][name])) for each in (before, after)
        )
        difference = b.value - a.value
        if paired:
            error, degrees = Jackknifed(difference, b.left_out - a.left_out).error, GROUPS - 1.0
        else:
            error, degrees = float(np.hypot(a.error, b.error)), _satterthwaite(a.error, b.error)
        half = _quantile(degrees) * error
        worse = difference if LOWER_IS_BETTER[kind_of(name)] else -difference
        yield Difference(
            title=described(after),
            column=name,
            before=a.value,
            after=b.value,
            estimate=Estimate(difference, difference - half, difference + half),
            p=_two_sided(difference, error, degrees),
            adjusted=1.0,
            worse=worse,
            loss=_above(worse, error, degrees),
            paired=paired,
        )


def _drawn(record: Record) -> dict[str, Any]:
    """Which images were judged."""
    protocol = record["identity"].get("protocol") or {}
    return {key: protocol.get(key) for key in ("judged", "first_seed", "groups", "conditions")}


def _satterthwaite(a: float, b: float) -> float:
    total = a**4 + b**4
    return float((GROUPS - 1) * (a**2 + b**2) ** 2 / total) if total else float(GROUPS - 1)


def kind_of(name: str) -> str:
    """The kind of a metric by its name: `fd` of `fd_2k_critic`."""
    return max((kind for kind in LOWER_IS_BETTER if name.startswith(f"{kind}_")), key=len)


def _adjusted(found: Sequence[Difference]) -> list[Difference]:
    """With p-values for all that were compared in one column of latency, or of quality together."""
    groups: dict[str, list[int]] = {}
    for index, each in enumerate(found):
        groups.setdefault(each.column if each.column in (TIME, RELATIVE) else "", []).append(index)
    adjusted: dict[int, float] = {}
    for indices in groups.values():
        adjusted |= dict(zip(indices, holm([found[index].p for index in indices]), strict=True))
    return [replace(each, adjusted=adjusted[index]) for index, each in enumerate(found)]


def _agreement(latency: Sequence[Difference]) -> dict[str, float | None]:
    """Shares of the cells: whose difference is within the interval that the runs promise, 95 % if all is well; whose
    printed intervals overlap, nearly all then; and whose ratios to the reference are within CLOSE."""
    found: dict[str, float | None] = {}
    for column in (TIME, RELATIVE):
        mine = [each for each in latency if each.column == column]
        found[column] = _share([each.estimate.low <= 1.0 <= each.estimate.high for each in mine])
        found[f"{column}_overlap"] = _share([each.overlap for each in mine])
    found["close"] = _share([abs(each.estimate.value - 1.0) <= CLOSE for each in latency if each.column == RELATIVE])
    return found


def _share(found: Sequence[bool]) -> float | None:
    return sum(found) / len(found) if found else None


def _quantile(degrees: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.5 * (1.0 + CONFIDENCE)))


def _above(value: float, error: float, degrees: float) -> float:
    """The chance of a value as high where the true one is 0."""
    from scipy.special import stdtr

    if error == 0.0:
        return 0.0 if value > 0.0 else 1.0
    return float(stdtr(degrees, -value / error))


def _two_sided(value: float, error: float, degrees: float) -> float:
    return 1.0 if value == 0.0 else min(1.0, 2.0 * _above(abs(value), error, degrees))
