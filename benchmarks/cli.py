"""`genzoo bench`, `genzoo report`, `genzoo tree`, `genzoo ratios`, `genzoo card`, `genzoo train-features`."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from zoo import completion

app = typer.Typer()

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Names = Annotated[
    list[str] | None,
    typer.Argument(help="Checkpoints; all that are trained by default.", autocompletion=completion.checkpoints),
]
Ray = Annotated[str | None, typer.Option("--ray", help="Do it on the Ray cluster whose head is at this host:port.")]
Records = Annotated[Path, typer.Option("--records", help="The file of records.")]
RECORDS = Path("results/records.jsonl")
REPORT = Path("results/report.html")


@app.command()
def bench(
    names: Names = None,
    runtime: Annotated[list[str] | None, typer.Option(help="torch, onnxruntime, tensorrt, triton; repeatable.")] = None,
    scenario: Annotated[list[str] | None, typer.Option(help="single-stream or offline; repeatable.")] = None,
    steps: Annotated[list[int] | None, typer.Option(min=1, help="Numbers of steps; repeatable.")] = None,
    samples: Annotated[int, typer.Option(min=50, max=5000, help="Images judged for quality.")] = 2000,
    tree: Annotated[bool, typer.Option(help="Only the settings that the family tree shows.")] = False,
    quick: Annotated[
        bool, typer.Option(help="Single-stream, shorter runs, at most 100 network calls an image.")
    ] = False,
    again: Annotated[bool, typer.Option(help="Measure also what is on record.")] = False,
    records: Records = RECORDS,
    as_json: Json = False,
) -> None:
    """Measure latency and quality, one record a cell; what is on record is not measured again."""
    from benchmarks.measure import sweep
    from benchmarks.measure.workload import RUNTIMES, SCENARIOS, Load, WorkloadError
    from export.runtimes import Runtime, check
    from zoo.contract.errors import RequestError, nearest

    runtimes = runtime or ["onnxruntime", "triton"]
    scenarios = scenario or (["single-stream"] if quick else list(SCENARIOS))
    for value, choices in [*((r, RUNTIMES) for r in runtimes), *((s, SCENARIOS) for s in scenarios)]:
        if value not in choices:
            raise RequestError(f"unknown {value!r}: {nearest(value, choices)}")
    for value in runtimes:
        check(Runtime(value))
    loads = [Load(name, queries=64, seconds=0.5) if quick else Load(name) for name in scenarios]
    tell: Callable[[str], None] = (lambda _: None) if as_json else typer.echo
    choice = sweep.Choice(tuple(steps or ()), tree, sweep.QUICK_CALLS if quick else None)
    bundles = _bundles(names or _measurable(choice), tell)
    wanted = sweep.cells(bundles, runtimes, loads, samples, choice)
    if left := sweep.left_out(bundles, choice):
        tell(f"left to a run without --quick, more than {choice.calls} calls an image: {', '.join(left)}")
    if not wanted:
        raise WorkloadError("there is nothing to measure: no checkpoint has such a setting")
    found = [*sweep.baselines(wanted, records), *sweep.run(wanted, records, again=again, told=tell)]
    if as_json:
        typer.echo(json.dumps(found))
        return
    _print_table(found)
    typer.echo(f"\n{len(found)} records are in {records}; next: {_reporting(records)}")


def _reporting(records: Path) -> str:
    return "genzoo report" + ("" if records == RECORDS else f" --records {shlex.quote(str(records))}")


@app.command()
def demo(
    samples: Annotated[int, typer.Option(min=50, max=5000, help="Images judged for quality.")] = 500,
    records: Records = RECORDS,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = REPORT,
    as_json: Json = False,
) -> None:
    """Run the main job: the family tree through export, gate, Triton and measurement, to one report."""
    bench(runtime=["triton"], samples=samples, tree=True, quick=True, records=records, as_json=as_json)
    report(records, output, as_json=as_json)
    if not as_json:
        typer.echo(f"\nrecords  {records}\nreport   {output}")
        activate = ". .venv/bin/activate, then " if Path(sys.prefix) == Path.cwd() / ".venv" else ""  # by `make demo`
        typer.echo(f"next: {activate}genzoo sample ddpm-pd4 -o grid.png or genzoo serve ddpm-pd4 gan")


def _trained() -> list[str]:
    from benchmarks.report import family_tree

    return [checkpoint.name for checkpoint in family_tree.trained()]


def _measurable(choice: Any) -> list[str]:
    """The trained checkpoints of which a choice measures something: no other need be exported."""
    from benchmarks.report import family_tree

    return [each.name for each in family_tree.trained() if choice.settings(each.spec, each.systems)]


def _bundles(names: list[str], tell: Callable[[str], None] = lambda _: None) -> list[Any]:
    """Exported and admitted by the gate, in the registry's order."""
    from export import gate
    from serving.bundles import prepare_all

    return [gate.require(bundle) for bundle in prepare_all(names, tell)]


def _print_table(found: list[Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from benchmarks.report import summary
    from benchmarks.statistics import short

    for section in summary.sections(found):
        table = Table(box=None, header_style="bold")
        nets = section.judges.names
        columns = ["generator", "NFE", "p50 ms", "images/s", *(f"fd {net}" for net in nets), "accuracy"]
        for column in columns:
            table.add_column(column, justify="left" if column == "generator" else "right")
        for row in section.rows:
            p50 = row.percentile(section.runtime) if section.runtime else None
            rate = row.images_per_second(section.runtime) if section.runtime else None
            distances = [short(d.value) if (d := row.metric("fd", net)) else "" for net in nets]
            right = row.metric("accuracy", section.judges.judge)
            accuracy = f"{100 * right.value:.1f} %" if right else ""
            timing = [short(p50.value) if p50 else "", short(rate) if rate else ""]
            table.add_row(row.title, str(row.nfe), *timing, *distances, accuracy)
        typer.echo(f"\n{section.count} images each; latency of one image on {section.runtime or 'no runtime'}")
        Console().print(table)


@app.command()
def report(
    records: Records = RECORDS,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = REPORT,
    as_json: Json = False,
) -> None:
    """Make the self-contained HTML report from records."""
    from benchmarks import records as reading
    from benchmarks.report import html as page

    found = reading.read(records)
    page.write(found, output)
    typer.echo(json.dumps({"report": str(output), "records": len(found)}) if as_json else f"{output} is ready: open it")


@app.command()
def tree(
    root: Annotated[Path, typer.Argument(help="The folder of README.md and docs/.")] = Path("."),
    records: Records = RECORDS,
    as_json: Json = False,
) -> None:
    """Write the family tree from records: the README's table and picture, and the numbers of each family's page."""
    from benchmarks import records as reading
    from benchmarks.report import family_tree, overview, pages

    found = family_tree.FamilyTree.of(family_tree.trained(), reading.read(records))
    written = [str(path) for path in (*overview.write(root, found), *pages.write(root, found))]
    if as_json:
        typer.echo(json.dumps(written))
        return
    missing = [place for place in found.places if place.row is None]
    typer.echo("\n".join(written))
    typer.echo(f"{len(found.places) - len(missing)} of {len(found.places)} systems are measured")
    for command in dict.fromkeys(map(found.command, missing)):
        typer.echo(f"next: {command}")


@app.command()
def ratios(
    name: Annotated[
        str,
        typer.Argument(help="A diffusion checkpoint of any number of steps.", autocompletion=completion.checkpoints),
    ] = "ddpm",
    rounds: Annotated[int, typer.Option(min=3, help="Interleaved rounds.")] = 31,
    readme: Annotated[Path | None, typer.Option(help="Write the table between the marks of this file.")] = None,
    triton: Annotated[bool, typer.Option(help="Also measure what Triton adds.")] = True,
    records: Records = RECORDS,
    as_json: Json = False,
) -> None:
    """Measure the fused graph against a plain PyTorch loop, a diffusers pipeline, and itself behind Triton."""
    from benchmarks import records as writing
    from benchmarks.measure import ratios as measuring
    from benchmarks.report import overview

    [bundle] = _bundles([name])
    record = measuring.measure(bundle, rounds, triton=triton)
    writing.append(records, record)
    table = measuring.markdown(record)
    if readme:
        overview.replace_marked(readme, "ratios", table)
    typer.echo(json.dumps(record) if as_json else table)


@app.command()
def gpu(
    names: Names = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="When the command ends.")] = 9.0,
    train: Annotated[list[str] | None, typer.Option(help="A checkpoint to train in what time is left.")] = None,
    train_minutes: Annotated[float, typer.Option(min=0.0, help="Kept for trainings, of --minutes.")] = 0.0,
    contender: Annotated[list[str] | None, typer.Option(help="torch, torch-compile, ...; all by default.")] = None,
    batch: Annotated[list[int] | None, typer.Option(min=1, help="Images at once; 1, 16 and 256 by default.")] = None,
    device: Annotated[str, typer.Option(help="cuda; cpu does the same without a GPU.")] = "cuda",
    records: Records = RECORDS,
    as_json: Json = False,
) -> None:
    """Check, measure and train on a host with an NVIDIA GPU; without names every checkpoint is checked, some timed."""
    from dataclasses import replace

    from benchmarks import records as writing
    from benchmarks.measure import gpu as measuring
    from benchmarks.measure.contenders import CONTENDERS
    from zoo.contract.errors import RequestError, nearest

    for value in contender or ():
        if value not in CONTENDERS:
            raise RequestError(f"unknown {value!r}: {nearest(value, CONTENDERS)}")
    plan = measuring.usual(device)
    if names:
        plan = replace(plan, checked=tuple(names), timed=tuple(names))
    plan = replace(plan, trained=tuple(train or ()), batches=tuple(batch or plan.batches))
    plan = replace(plan, contenders=tuple(contender or plan.contenders))
    measured, whole = measuring.Clock.of(minutes - train_minutes), measuring.Clock.of(minutes)
    tell: Callable[[str], None] = (lambda _: None) if as_json else typer.echo
    for record in measuring.run(plan, measured, whole, tell):
        writing.append(records, record)
        if as_json:
            typer.echo(json.dumps(record))


@app.command()
def study(
    names: Annotated[list[str] | None, typer.Argument(help="Studies; all by default.")] = None,
    again: Annotated[bool, typer.Option(help="Measure also what is on record.")] = False,
    ray: Ray = None,
    records: Records = RECORDS,
    as_json: Json = False,
) -> None:
    """Answer questions that quality and latency leave open: solvers, guidance, and what a method claims."""
    from benchmarks import records as writing
    from benchmarks import studies
    from benchmarks.report.findings import markdown
    from zoo import fanout

    wanted = names or list(studies.STUDIES)
    ids = {
        name: writing.identify({"format": writing.FORMAT, "kind": "study", **studies.identity(name)}) for name in wanted
    }
    known = {} if again else writing.on_record(records)
    missing = [studies.Piece.of(name) for name in wanted if ids[name] not in known]

    def show(record: Any) -> None:
        typer.echo(json.dumps(record) if as_json else f"{record['question']}\n\n{markdown(record)}\n")

    for name in wanted:
        if ids[name] in known:
            show(known[ids[name]])
    if missing:
        with fanout.workers(ray, lambda text: typer.echo(text, err=True)) as workers:
            for _, record in fanout.run(missing, workers, title="studying"):
                writing.append(records, record)
                show(record)
    if not as_json:
        typer.echo("next: genzoo card, which writes these into the cards")


@app.command()
def card(
    names: Names = None,
    records: Records = RECORDS,
    as_json: Json = False,
) -> None:
    """Write the model card, its curves and its grid from the training record and from measured records.

    The zoo's index takes its numbers from there too.
    """
    from benchmarks import records as reading
    from benchmarks.report import cards
    from zoo import index, registry, shelf

    checkpoints = [registry.checkpoint(name) for name in names or _trained()]
    found = reading.read(records)
    written = [str(cards.write(checkpoint, found)) for checkpoint in checkpoints]
    ours = [each for each in checkpoints if shelf.directory(each.name).parent == shelf.TREE]
    if ours:  # the index tells of these, not of what a user trained
        index.write(registry.checkpoints(), {each.name: cards.quality(each, found) for each in ours})
    typer.echo(json.dumps(written) if as_json else "\n".join(written))


@app.command("train-features")
def train_features(
    name: Annotated[str, typer.Argument(help="One of `benchmarks/quality/judges`, as classifier.")],
    data: Annotated[str | None, typer.Option(help="Directory or URL of the data set.")] = None,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="CPU threads.")] = 2,
    as_json: Json = False,
) -> None:
    """Train one of the feature nets in which quality is measured, and publish it with its reference."""
    import torch

    from benchmarks.quality import features, judges
    from zoo.contract.errors import nearest
    from zoo.registry import UnknownNameError

    nets = [each for each, _ in judges.everybody()]
    if name not in nets:
        raise UnknownNameError(f"unknown feature net {name!r}: {nearest(name, nets)}")
    torch.set_num_threads(threads)
    folder = judges.training(name).train(name, data)
    typer.echo(json.dumps(features.config(name)["files"]) if as_json else f"{folder} holds {name}")
