"""`genzoo tune`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from export.runtimes import Runtime
from zoo import completion

if TYPE_CHECKING:
    from export.bundle import Bundle
    from export.tuning.record import Tuned

app = typer.Typer()

MAX_IN_BATCH = 64


@app.command()
def tune(
    name: Annotated[
        str, typer.Argument(help="A checkpoint, or the folder of its bundle.", autocompletion=completion.checkpoints)
    ],
    batch: Annotated[str, typer.Option(help="Images of an execution to tune for, like 1,16.")] = "1,16",
    tier: Annotated[str, typer.Option(help="The loosest that is tried: exact, 45dB or 40dB.")] = "40dB",
    max_drift: Annotated[
        float | None,
        typer.Option(min=0.0, help="How far the images' statistics may move, in standard deviations; the tier's own."),
    ] = None,
    runtime: Annotated[list[Runtime] | None, typer.Option(help="Only these; repeatable.")] = None,
    rounds: Annotated[int, typer.Option(min=3, max=1000, help="In which the candidates take turns.")] = 11,
    again: Annotated[bool, typer.Option(help="Judge and measure everything anew.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")] = False,
) -> None:
    """Find the fastest executor of this host that is exact enough, for each batch size.

    Runtimes, precisions, loops, threads and parts of a batch are put before the gate; those that it admits take turns.
    `sample`, `serve` and `bench --runtime tuned` then use the fastest of the exact tier, and of a looser one where they
    are asked for it. The record counts for this host, bundle and software only. What is stopped goes on by the same
    command.
    """
    from export.tiers import tier as tier_of
    from export.tuning.tune import Plan, tuning

    plan = Plan(_batches(batch), tier_of(tier), max_drift, rounds)
    bundle = _admitted(name)
    run = tuning(bundle, plan, runtime or (), again=again, tell=_say)
    for absent, reason in run.absent.items():
        _say(f"left out: {absent}: {reason}")
    try:
        found = run.run()
    except KeyboardInterrupt:
        _say("stopped: what was judged and measured is kept, the same command goes on")
        raise
    if as_json:
        typer.echo(json.dumps(found.record))
        return
    typer.echo("\n".join(table(found)))
    typer.echo(f"next: genzoo sample {name} -o grid.png")


def _batches(text: str) -> tuple[int, ...]:
    """Sizes from "1,16". Raises RequestError."""
    from zoo.contract.errors import RequestError, shown

    words = [each.strip() for each in text.split(",")]
    if not all(each.isdecimal() and 1 <= int(each) <= MAX_IN_BATCH for each in words):
        raise RequestError(f"batches {shown(text)}: write sizes of 1 to {MAX_IN_BATCH}, like 1,16")
    return tuple(sorted({int(each) for each in words}))


def _admitted(name: str) -> Bundle:
    """The float32 bundle of a checkpoint, or in a folder, admitted by the gate. Raises GenzooError."""
    from pathlib import Path

    from export.bundle import Bundle
    from export.exporter import export
    from export.gate import require
    from zoo import registry
    from zoo.contract.layout import BUNDLE_MANIFEST

    folder = Path(name)
    in_folder = (folder / BUNDLE_MANIFEST).is_file()
    return require(Bundle.open(folder) if in_folder else export(registry.checkpoint(name)))


def table(found: Tuned) -> Iterator[str]:
    """What was found, for people: a table for each batch size in Markdown."""
    for batch in found.batches:
        yield f"batch {batch}"
        yield ""
        yield "| executor | tier | ms | of the untuned | images, dB | |"
        yield "| --- | --- | --: | --: | --: | --- |"
        for line in found.record["batches"][str(batch)]["lines"]:
            yield f"| {' | '.join(_cells(line))} |"
        yield ""


def _cells(line: dict[str, Any]) -> list[str]:
    mark = "**" if line["kept_for"] else ""
    decibels = f"{line['mean_db']:.1f}, worst {line['worst_db']:.1f}" if "mean_db" in line else ""
    return [
        f"{mark}{line['title']}{mark}",
        line["tier"] or "",
        _quartiles(line["ms"]),
        _quartiles(line["relative"]),
        decibels,
        line["why"],
    ]


def _quartiles(spread: dict[str, float] | None) -> str:
    return "{median:.2f} ({low:.2f} to {high:.2f})".format(**spread) if spread else ""


def _say(text: str) -> None:
    typer.echo(text, err=True)
