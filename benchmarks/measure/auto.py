"""`model: auto` on a real server that is asked for more than it can do, beside every fixed choice at the same load.

`python -m benchmarks.measure.auto [NAMES...] [--readme docs/serving.md]` serves generators of one data set behind a
door, on this host's loopback. What the quickest choice answers in time, of clients that wait for their answers, is the
capacity; then requests come at random, at shares of it, with a deadline: for `auto`, and for each choice that can meet
the deadline at all. What it is worth is the mean Fréchet distance of what was answered in time, of each answer the
geometric mean over the feature nets that `zoo/checkpoints/front.json` has of its point; lower is better.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.measure import started
from benchmarks.measure.open_loop import Answer, Ask, Pool, closed, in_time, offered, quantile
from benchmarks.templates.marks import replace_marked
from export.bundle import Bundle
from export.gate import require
from serving import front
from serving.bundles import prepare_all
from serving.front import Point

USUAL = ("ddpm", "ddpm-pd4", "ddpm-pd2", "ddpm-pd1")
AUTO = "auto"
LOADS = (0.5, 0.8, 1.0, 1.2, 2.0)
CLIENTS, DRAIN_S = 16, 0.5
ENOUGH = 0.9  # of the capacity, in time, at twice the load
ALIKE = 0.99  # of the images in time of `auto`: a choice with so many is held against it


@dataclass(frozen=True)
class Seen:
    """Of one choice at one load: images in time a second, their mean distance, seconds, and what was chosen.

    Of those that `asked` so many were `turned_away` at once.
    """

    goodput: float
    distance: float
    p50: float
    p99: float
    chosen: Mapping[str, int]
    turned_away: int
    asked: int


def points(bundles: Sequence[Bundle]) -> list[Point]:
    """What is known of some generators that are of one data set, the quickest first."""
    weights = {each.name: str(each.manifest["checkpoint"]["sha256"]) for each in bundles}
    fronts = [front_.of(weights) for front_ in front.read().values()]
    known = [each for each in fronts if each.points]
    if len(known) != 1:
        raise typer.BadParameter("name generators of one data set whose points are on the measured front")
    return sorted(known[0].points, key=lambda point: point.ms)


def distance(point: Point) -> float:
    return float(np.exp(np.mean(np.log(list(point.distances.values())))))


def body(choice: Point | None, deadline_s: float) -> dict[str, Any]:
    """What is sent but for the seed; None is `auto`."""
    said: dict[str, Any] = {"model": AUTO, "deadline_ms": round(deadline_s * 1e3)}
    if choice:
        setting = {key: value for key, value in choice.setting.to_json().items() if value is not None}
        if setting.get("guidance_scale") == 1.0:  # which is none, and not every generator takes it
            del setting["guidance_scale"]
        said |= {"model": choice.generator, **setting}
    return said


def asking(pool: Pool, said: Mapping[str, Any]) -> Ask:
    return lambda number: pool.post({**said, "seed": number})


def seen(
    answers: Sequence[Answer], choice: Point | None, known: Mapping[str, Point], seconds: float, deadline_s: float
) -> Seen:
    good = in_time(answers, deadline_s)
    titles = [choice.title if choice else str(each.said["generator"]["chosen"]) for each in good]
    return Seen(
        len(good) / seconds,
        float(np.mean([distance(known[title]) for title in titles])) if titles else float("nan"),
        quantile(answers, 0.5),
        quantile(answers, 0.99),
        Counter(titles),
        sum(each.status == 503 for each in answers),
        len(answers),
    )


async def measured(
    address: str, known: Sequence[Point], deadline_s: float, seconds: float, loads: Sequence[float]
) -> tuple[float, str, dict[tuple[float, str], Seen]]:
    """Images a second in time of the quickest choice, which that is, and what was seen by load and choice."""
    pool = Pool(address, timeout_s=10 * deadline_s + 5.0)
    by_title = {point.title: point for point in known}
    rates: dict[str, float] = {}
    for point in known:  # the first second warms up, and of what cannot be in time alone no more is asked
        ask = asking(pool, body(point, deadline_s))
        warm, _ = await closed(ask, 1, 1.0)
        if in_time(warm, deadline_s):
            answers, took = await closed(ask, CLIENTS, seconds)
            rates[point.title] = len(in_time(answers, deadline_s)) / took
    if not rates:
        raise typer.BadParameter(f"nothing that is served answers within {deadline_s * 1e3:.0f} ms")
    quickest = max(rates, key=lambda title: rates[title])
    capacity = rates[quickest]
    found: dict[tuple[float, str], Seen] = {}
    choices: list[Point | None] = [None, *(by_title[title] for title in rates)]
    for turn, load in enumerate(loads):
        for choice in choices[:: 1 if turn % 2 else -1]:
            answers = await offered(asking(pool, body(choice, deadline_s)), load * capacity, seconds, seed=turn)
            title = choice.title if choice else AUTO
            found[load, title] = seen(answers, choice, by_title, seconds, deadline_s)
            await asyncio.sleep(DRAIN_S)
    await pool.close()
    return capacity, quickest, found


def table(capacity: float, quickest: str, found: Mapping[tuple[float, str], Seen], deadline_s: float) -> list[str]:
    titles = list(dict.fromkeys(title for _, title in found))
    titles = [AUTO, *sorted((t for t in titles if t != AUTO), key=lambda t: _distance(found, t))]
    loads = sorted({load for load, _ in found})
    lines = [f"| | {' | '.join(f'{load:g} of capacity' for load in loads)} |", f"|---|{'---|' * len(loads)}"]
    for title in titles:
        cells = [_cell(found[load, title], capacity) for load in loads]
        lines.append(f"| {f'`{title}`'} | {' | '.join(cells)} |")
    most = max(loads)
    chosen = ", ".join(
        f"at {load:g} " + " and ".join(f"`{title}` {share:.0%}" for title, share in _shares(found[load, AUTO]))
        for load in loads
    )
    return [
        *lines,
        "",
        f"Capacity is {capacity:.0f} images a second in time, of `{quickest}` and {CLIENTS} clients; the deadline "
        f"{deadline_s * 1e3:.0f} ms. `auto` chose {chosen}.",
        "",
        verdict(found, capacity, most),
        _lost(found[most, AUTO], most),
    ]


def verdict(found: Mapping[tuple[float, str], Seen], capacity: float, load: float) -> str:
    """Whether what is claimed of `auto` was seen, in a sentence."""
    auto = found[load, AUTO]
    share = auto.goodput / capacity
    alike = {title: each for (at, title), each in found.items() if at == load and title != AUTO}
    alike = {title: each for title, each in alike.items() if each.goodput >= ALIKE * auto.goodput}
    better = sorted(title for title, each in alike.items() if each.distance < auto.distance)
    said = f"At {load:g} of capacity `auto` has {share:.2f} of capacity in time"
    said += f" ({'at least' if share >= ENOUGH else '**less than**'} {ENOUGH:g})"
    if not alike:
        return f"{said}, and no fixed choice has as many."
    if better:
        return f"{said}; **better images and as many in time** have {', '.join(f'`{title}`' for title in better)}."
    others = ", ".join(f"`{title}` ({each.distance:.2f})" for title, each in alike.items())
    return f"{said}, at a mean distance of {auto.distance:.2f}: no fixed choice with as many is better, of {others}."


def _lost(auto: Seen, load: float) -> str:
    """What became of the others."""
    away, good = auto.turned_away / max(1, auto.asked), sum(auto.chosen.values()) / max(1, auto.asked)
    late = max(0.0, 1.0 - away - good)
    return f"Of its requests at {load:g} it turned {away:.0%} away at once, and {late:.0%} were late."


def _distance(found: Mapping[tuple[float, str], Seen], title: str) -> float:
    every = [each.distance for (_, name), each in found.items() if name == title and not np.isnan(each.distance)]
    return min(every, default=float("inf"))


def _cell(each: Seen, capacity: float) -> str:
    if not each.chosen:
        return "none in time"
    return f"{each.goodput / capacity:.2f}, {each.distance:.2f}; {each.p50 * 1e3:.0f} / {each.p99 * 1e3:.0f} ms"


def _shares(each: Seen) -> list[tuple[str, float]]:
    whole = sum(each.chosen.values())
    return [(title, count / whole) for title, count in Counter(each.chosen).most_common(3)]


def main(
    names: Annotated[
        list[str] | None, typer.Argument(help="Generators of one data set, on the measured front.")
    ] = None,
    deadline_ms: Annotated[float, typer.Option(min=1.0)] = 250.0,
    seconds: Annotated[float, typer.Option(min=0.5, help="Of each load of each choice.")] = 6.0,
    loads: Annotated[list[float] | None, typer.Option("--load", help="Shares of the capacity, repeatable.")] = None,
    slots: Annotated[
        int | None, typer.Option(min=1, help="Requests that `auto` makes at once; the door's own.")
    ] = None,
    readme: Annotated[Path | None, typer.Option(help="Write the table between the marks of this file.")] = None,
) -> None:
    """Measure `model: auto` beside fixed choices under load."""
    bundles = [require(bundle) for bundle in prepare_all(names or USUAL)]
    known = points(bundles)
    options = ("--slots", str(slots)) if slots else ()
    with started.ended_by_sigterm(), started.triton_and_door(*bundles, options=options) as (_, door):
        found = asyncio.run(measured(door.address, known, deadline_ms / 1e3, seconds, sorted(loads or LOADS)))
    lines = "\n".join(table(*found, deadline_ms / 1e3))
    if readme:
        replace_marked(readme, "auto", lines)
    typer.echo(lines)


if __name__ == "__main__":
    typer.run(main)
