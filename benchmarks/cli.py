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


def bench(
    names: Names = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            help="triton, onnxruntime, torch, tuned, peer, ...; all by default that need no tuning and are here."
        ),
    ] = None,
    scenario: Annotated[
        list[str] | None, typer.Option(help="single-stream, multi-stream, server or offline; all by default.")
    ] = None,
    steps: Annotated[list[int] | None, typer.Option(min=1, help="Numbers of steps; repeatable.")] = None,
    samples: Annotated[int, typer.Option(min=50, max=50_000, help="Images judged for quality.")] = 2000,
    tree: Annotated[bool, typer.Option(help="Only the settings that the family tree shows.")] = False,
    quick: Annotated[
        bool,
        typer.Option(
            help="Through Triton, single-stream, shorter runs, at most 100 network calls an image; prompts and the "
            "like are a generator's own examples, for which no data set is drawn."
        ),
    ] = False,
    rounds: Annotated[
        int | None, typer.Option(min=3, max=100, help="Short runs of each; 7, or 5 in a quick run.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="What others are beside, like `gan` or `ddpm 20`; ddpm-pd4 by default.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Server: images a second; half of what is possible by default.")
    ] = None,
    bound_ms: Annotated[
        float | None, typer.Option(min=0.001, help="Server: nine in ten answers must come within.")
    ] = None,
    net: Annotated[
        list[Path] | None, typer.Option(help="A feature net of yours, ONNX with a .json beside it; repeatable.")
    ] = None,
    costs: Annotated[bool, typer.Option(help="Also cold start, load, build, memory, parts and energy.")] = True,
    price: Annotated[
        float | None, typer.Option(min=0.0, help="Of an hour of this machine, for a column of costs.")
    ] = None,
    again: Annotated[bool, typer.Option(help="Measure also what is on record.")] = False,
    ray: Ray = None,
    records: Records = RECORDS,
    as_json: Json = False,
) -> None:
    """Measure latency, quality and costs, a record each; what is on record is not measured again.

    Short runs in rounds, each round in an order of its own, beside a reference that is measured again and again.
    What is stopped goes on by the same command.
    """
    from dataclasses import replace

    from benchmarks.measure import costs as costing
    from benchmarks.measure import distributed, sweep
    from benchmarks.measure.rounds import FULL, QUICK
    from benchmarks.measure.workload import RUNTIMES, SCENARIOS, SINGLE, TUNED, WorkloadError, load
    from zoo import fanout
    from zoo.contract.errors import RequestError, nearest

    scenarios = scenario or ([SINGLE] if quick else list(SCENARIOS))
    for value, choices in [*((r, RUNTIMES) for r in runtime or ()), *((s, SCENARIOS) for s in scenarios)]:
        if value not in choices:
            raise RequestError(f"unknown {value!r}: {nearest(value, choices)}")
    for value in runtime or ():
        sweep.check(value)
    if ray and (own := [each for each in runtime or () if each in TUNED]):
        raise RequestError(f"{own[0]} is what was tuned for one host, which --ray is not: name runtimes")
    runtimes = runtime or (["triton"] if quick else sweep.available())
    loads = [load(name, quick=quick, rate=rate, bound_ms=bound_ms) for name in scenarios]
    protocol = QUICK if quick else FULL
    protocol = replace(protocol, count=rounds or protocol.count)
    tell: Callable[[str], None] = (lambda _: None) if as_json else typer.echo
    choice = sweep.Choice(tuple(steps or ()), tree, sweep.QUICK_CALLS if quick else None, quick)
    bundles = _bundles(names or _measurable(choice), tell)
    if left := sweep.left_out(bundles, choice):
        tell(f"left to a run without --quick, more than {choice.calls} calls an image: {', '.join(left)}")
    wanted = sweep.rows(bundles, choice, net or ())
    if not wanted:
        raise WorkloadError("there is nothing to measure: no checkpoint has such a setting")
    beside = _reference(wanted, reference, tell)
    cells = sweep.cells(wanted, runtimes, loads, protocol, beside)
    judged = sweep.judged(wanted, runtimes[0], samples)
    found = [*sweep.baselines(judged, records)]
    first = sweep.reference_cell(beside, runtimes, protocol)
    costed = costing.wanted(bundles, runtimes) if costs and not quick else []
    if ray:
        with fanout.workers(ray, lambda text: typer.echo(text, err=True)) as workers:
            found += distributed.run(
                cells, judged, records, workers, reference=first, costed=costed, again=again, told=tell
            )
    else:
        found += sweep.run(cells, judged, records, reference=first, again=again, told=tell)
        found += costing.run(costed, records, again=again, told=tell)
    if as_json:
        typer.echo(json.dumps(found))
        return
    _print_tables(found, price)
    if quick:
        typer.echo("\nthis is the quick protocol, few and short runs: `genzoo bench` without --quick measures in full")
    typer.echo(f"\n{len(found)} records are in {records}; next: {_reporting(records)}")


REFERENCE = "ddpm-pd4"  # cheap, always in the zoo, and made of what most others are made of


def _reference(wanted: list[Any], name: str | None, tell: Callable[[str], None]) -> Any:
    """The row that all are beside: the one that is named, or the zoo's usual one, so that later numbers compare.

    It need not be among what is measured. The first row where a zoo has no usual one. Raises GenzooError.
    """
    from benchmarks.measure import sweep
    from zoo import registry, shelf

    asked = name or REFERENCE
    generator = asked.split(" ")[0]
    known = any(row.spec.name == generator for row in wanted)
    if not known and (name or (generator in registry.names() and shelf.is_here(generator))):
        return sweep.reference_row(sweep.rows(_bundles([generator], tell)), asked, required=True)
    return sweep.reference_row(wanted, asked, required=name is not None)


def _reporting(records: Path) -> str:
    return "genzoo report" + _option(records)


def _option(records: Path) -> str:
    return "" if records == RECORDS else f" --records {shlex.quote(str(records))}"


@app.command()
def demo(
    samples: Annotated[int, typer.Option(min=50, max=50_000, help="Images judged for quality.")] = 250,
    records: Records = RECORDS,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = REPORT,
    as_json: Json = False,
) -> None:
    """Run the main job on a tenth of the zoo, something of each branch: export, gate, Triton, measure, report."""
    from benchmarks.measure import sweep
    from zoo import registry

    whole = _measurable(sweep.Choice(tree=True, calls=sweep.QUICK_CALLS))
    chosen = [name for name in whole if name in registry.DEMO] or whole[:1]
    bench(chosen, runtime=["triton"], samples=samples, tree=True, quick=True, records=records, as_json=as_json)
    report(records, output, as_json=as_json)
    if not as_json:
        typer.echo(f"\nrecords  {records}\nreport   {output}")
        typer.echo(
            f"something of each branch was measured, {len(chosen)} of {len(whole)} generators; the others are by\n"
            f"      genzoo bench --tree --quick --samples {samples}{_option(records)}"
        )
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


def _print_tables(found: list[Any], price: float | None) -> None:
    """Of each kind of record, what decides."""
    from rich.console import Console
    from rich.table import Table

    from benchmarks.measure import tables

    for caption, columns, lines in tables.of(found, price):
        table = Table(box=None, header_style="bold")
        for column in columns:
            table.add_column(column, justify="left" if column in tables.WORDS else "right")
        for line in lines:
            table.add_row(*line)
        typer.echo(f"\n{caption}")
        Console().print(table)


@app.command()
def report(
    records: Records = RECORDS,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = REPORT,
    price: Annotated[float | None, typer.Option(min=0.0, help="Of an hour of the machine, in any currency.")] = None,
    as_json: Json = False,
) -> None:
    """Make the self-contained HTML report from records: opens offline, to filter, compare and look."""
    from benchmarks import records as reading
    from benchmarks.report import html as page

    found = reading.read(records)
    page.write(found, output, price)
    if as_json:
        typer.echo(json.dumps({"report": str(output), "records": len(found)}))
        return
    typer.echo(f"{output} is ready: open it in a browser\nnext: genzoo tree, for README and docs of the same records")


@app.command()
def tree(
    root: Annotated[Path, typer.Argument(help="The folder of README.md and docs/.")] = Path("."),
    records: Records = RECORDS,
    as_json: Json = False,
) -> None:
    """Write the family tree from records: the README's table and picture, and the numbers of each family's page."""
    from benchmarks import records as reading
    from benchmarks.report import family_tree, fronts, overview, pages
    from serving import front

    found = family_tree.FamilyTree.of(family_tree.trained(), reading.read(records))
    measured = fronts.of(found.section, [row for row in found.measured if row.dataset == found.section.dataset])
    written = [str(path) for path in (*overview.write(root, found), *pages.write(root, found))]
    written.append(str(front.write([measured], root / front.PATH.relative_to(front.PATH.parents[2]))))
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
    """Measure the fused graph, and what was tuned here, against the best of what others would run, and behind Triton.

    The plain PyTorch loop, torch with its options, OpenVINO, and a diffusers pipeline of a network of the same size;
    where `genzoo tune` was run on this host, each tier against the best peer of the same loss.
    """
    from benchmarks import records as writing
    from benchmarks.measure import ratios as measuring
    from benchmarks.templates.marks import replace_marked

    [bundle] = _bundles([name])
    record = measuring.measure(bundle, rounds, triton=triton)
    writing.append(records, record)
    table = measuring.markdown(record)
    if readme:
        replace_marked(readme, "ratios", table)
    typer.echo(json.dumps(record) if as_json else table)


@app.command()
def profile(
    name: Annotated[str, typer.Argument(help="A checkpoint.", autocompletion=completion.checkpoints)] = "ddpm",
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of the sampler; the checkpoint's by default.")] = None,
    batch: Annotated[list[int] | None, typer.Option(min=1, max=64, help="Images at once; 1 and 16 by default.")] = None,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="Of ONNX Runtime and of the product beside it.")] = 1,
    readme: Annotated[Path | None, typer.Option(help="Write the tables between the marks of this file.")] = None,
    as_json: Json = False,
) -> None:
    """Show where the time goes on ONNX Runtime: by operator, beside what this machine's products can do."""
    from benchmarks.measure import profile as measuring
    from benchmarks.templates.marks import replace_marked
    from zoo.contract.request import Setting

    [bundle] = _bundles([name])
    found = measuring.measure(bundle, Setting(steps), batch or (1, 16), threads)
    tables = measuring.markdown(found)
    if readme:
        replace_marked(readme, "profile", tables)
    typer.echo(json.dumps(found) if as_json else tables)


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

    The zoo's index takes its numbers from there too, and receipts of the records go where the card is.
    """
    from benchmarks import receipts
    from benchmarks import records as reading
    from benchmarks.report import cards
    from zoo import index, registry, shelf

    checkpoints = [registry.checkpoint(name) for name in names or _trained()]
    found, written = reading.read(records), []
    for each in checkpoints:
        written.append(str(path := cards.write(each, found)))
        receipts.leave(records, path.parent, each.name, shelf.config(each.name)["weights"]["sha256"])
    ours = [each for each in checkpoints if shelf.directory(each.name).parent == shelf.TREE]
    if ours:  # the index tells of these, not of what a user trained
        index.write(registry.checkpoints(), {each.name: cards.quality(each, found) for each in ours})
    typer.echo(json.dumps(written) if as_json else "\n".join(written))


@app.command()
def race(
    names: Names = None,
    images: Annotated[int, typer.Option(min=1, max=50_000, help="That every system makes.")] = 50_000,
    minutes: Annotated[float, typer.Option(min=0.01, help="For making them; slow systems count fewer.")] = 60.0,
    rounds: Annotated[int, typer.Option(min=3, max=100, help="Legs of each system, between those of others.")] = 5,
    runtime: Annotated[
        list[str] | None, typer.Option(help="onnxruntime, torch, torch-compile, a GPU's; repeatable, all by default.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Whose speed others are told in; the system of most network calls by default.")
    ] = None,
    again: Annotated[bool, typer.Option(help="Choose and measure anew.")] = False,
    records: Records = RECORDS,
    as_json: Json = False,
) -> None:
    """Race the systems of the family tree: the same many images by each, as fast as it can, and what they are worth.

    Every system takes the fastest executor to which it was admitted, found in a short trial. Those too slow for the
    time that is given make fewer images; their time is extrapolated, and said to be. What is stopped goes on by the
    same command.
    """
    from benchmarks.measure import race as racing
    from benchmarks.measure import sweep
    from benchmarks.measure.rounds import Journal
    from benchmarks.measure.workload import RUNTIMES
    from zoo.contract.errors import RequestError, nearest

    for value in runtime or ():
        if value not in RUNTIMES:
            raise RequestError(f"unknown {value!r}: {nearest(value, RUNTIMES)}")
        sweep.check(value)
    runtimes = runtime or [each for each in sweep.available() if each != "triton"]
    tell: Callable[[str], None] = (lambda _: None) if as_json else typer.echo
    choice = sweep.Choice(tree=True)
    rows = sweep.rows(_bundles(names or _measurable(choice), tell), choice)
    course = racing.Course.of(rows, images, rounds, minutes, runtimes, reference or "")
    found = list(racing.Race(course, Journal.beside(records), tell).run(records, again=again))
    if as_json:
        typer.echo(json.dumps(found))
        return
    _print_tables(found, None)
    typer.echo(f"\n{len(found)} records are in {records}; next: {_reporting(records)}")


@app.command("train-features")
def train_features(
    name: Annotated[str, typer.Argument(help="One of `benchmarks/quality/judges`, as classifier.")],
    reference: Annotated[
        list[str] | None, typer.Option(help="Do not train it: show it this data set, which it is to judge, too.")
    ] = None,
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
    if reference:
        from benchmarks.quality.feature_export import refer

        for each in reference:
            folder = refer(name, each).parent
    else:
        folder = judges.training(name).train(name, data)
    typer.echo(json.dumps(features.config(name)["files"]) if as_json else f"{folder} holds {name}")
