"""Records -> tables for a terminal: a caption, columns, and lines of text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from benchmarks.measure import costs
from benchmarks.measure.workload import title_of
from benchmarks.records import Record
from benchmarks.statistics import Estimate, short

WORDS = ("generator", "by", "runtime", "scenario", "flags", "energy", "pays off")  # columns of words
Table = tuple[str, tuple[str, ...], list[list[str]]]


def of(found: Iterable[Record], price: float | None = None) -> Iterator[Table]:
    """`price` is of an hour of the machine, in any currency."""
    by_kind: dict[str, list[Record]] = {}
    for record in found:
        by_kind.setdefault(record["identity"]["kind"], []).append(record)
    if cells := by_kind.get("cell"):
        yield latencies(cells, price)
    if quality := by_kind.get("quality"):
        yield from qualities(quality)
    if cost := by_kind.get("cost"):
        yield of_costs(cost, by_kind.get("cell", []))
    if races := by_kind.get("race"):
        yield of_races(races)


def latencies(cells: Sequence[Record], price: float | None) -> Table:
    columns = ["generator", "runtime", "scenario", "calls", "p50 ms", "p99 ms", "images/s", "of the reference", "flags"]
    if price is not None:
        columns.insert(-1, "of 1,000 images")
    lines = []
    for record in cells:
        cell, timing = record["identity"]["cell"], record["latency"]
        rate = timing["images_per_second"]["value"]
        lines.append(
            [
                title_of(cell),
                cell["runtime"],
                cell["scenario"],
                str(record["nfe"]),
                short(timing["p50"]["value"]),
                short(timing["p99"]["value"]) if timing["p99"] else "",
                short(rate),
                str(Estimate(**timing["relative"])),
                *([] if price is None else [f"{costs.price_per_thousand(price, rate):.2g}"]),
                ", ".join(record["flags"]),
            ]
        )
    alike = {name: lines[0][columns.index(name)] for name in ("runtime", "scenario")}
    alike = {name: value for name, value in alike.items() if all(line[columns.index(name)] == value for line in lines)}
    kept = [index for index, name in enumerate(columns) if name not in alike]
    rounds = cells[0]["identity"]["protocol"]["rounds"]
    about = [*alike.values(), f"{rounds} rounds", f"times of one call, and as a multiple of {cells[0]['reference']}"]
    return "; ".join(about), tuple(columns[i] for i in kept), [[line[i] for i in kept] for line in lines]


def qualities(found: Sequence[Record]) -> Iterator[Table]:
    """A table for each data set and number of images, as no others may be compared; of what nobody judges, none."""
    groups: dict[tuple[str, int], list[Record]] = {}
    for record in (each for each in found if each["metrics"]):
        groups.setdefault((record["identity"].get("dataset", ""), record["count"]), []).append(record)
    for (name, count), group in groups.items():
        whose = f" for {name}" if name else ""
        names = list(dict.fromkeys(name for record in group for name in record["metrics"]))
        names = [
            name
            for name in names
            if name.startswith(("fd_", "accuracy_", "agreement_")) and not name.startswith("fd_inf_")
        ]
        lines = []
        for record in group:
            estimates = {name: Estimate(**value) for name, value in record["metrics"].items()}
            values = [str(estimates[name]) if name in estimates else "" for name in names]
            lines.append([title_of(record["identity"]["quality"]), *values])
        yield (
            f"{count:,} images each{whose}, as {group[0]['identity']['quality']['runtime']} serves them",
            (
                "generator",
                *(name.replace("_", " ") for name in names),
            ),
            lines,
        )


def of_races(found: Sequence[Record]) -> Table:
    """The fastest first; a time that was extrapolated says from how many images."""
    protocol = found[0]["identity"]["protocol"]
    columns = ("generator", "by", "seconds", "counted", "times the reference's speed")
    lines = []
    for record in sorted(found, key=lambda record: record["seconds"]["value"]):
        words, counted = record["identity"]["race"], record["identity"]["protocol"]
        lines.append(
            [
                title_of(words),
                f"{words['runtime']}, {counted['batch']} at a time",
                str(Estimate(**record["seconds"])),
                f"{counted['counted']:,}" if record["extrapolated"] else "all",
                str(Estimate(**record["speedup"])),
            ]
        )
    return f"{protocol['images']:,} images, beside {protocol['reference']}", columns, lines


def of_costs(found: Sequence[Record], cells: Sequence[Record]) -> Table:
    columns = (
        "generator",
        "runtime",
        "cold start s",
        "load s",
        "build s",
        "export s",
        "memory MB",
        "energy",
        "pays off",
    )
    lines = []
    for record in found:
        words, energy = record["identity"]["cost"], record["energy"]
        seconds = (record[name] for name in ("cold_start_s", "load_s", "build_s", "export_s"))
        times = ["" if value is None else short(value) for value in seconds]
        joules = energy["joules_per_image"]
        said = energy["why"] if joules is None else f"{short(joules)} J an image"
        paid = [
            f"{name}: {'never' if count is None else f'after {short(count)} images'}"
            for name, count in costs.paid_off(record, cells).items()
        ]
        lines.append([words["generator"], words["runtime"], *times, short(record["memory_mb"]), said, "; ".join(paid)])
    used = [index for index in range(len(columns)) if any(line[index] for line in lines)]
    kept = [[line[index] for index in used] for line in lines]
    return "what it takes before the first image", tuple(columns[index] for index in used), kept
