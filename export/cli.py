"""`genzoo export`, `genzoo gate`, `genzoo build`, `genzoo release` and `genzoo doctor`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from export.engine import Library, Target
from export.runtimes import Runtime
from export.runtimes import check as check_runtime
from export.tiers import tier as tier_of
from export.variant import LoopKind, Precision, Variant
from zoo import completion, files
from zoo.host import peak_bytes

if TYPE_CHECKING:
    from export.bundle import Bundle
    from export.engine import Engine
    from export.profiles import Ends
    from export.search import Progress
    from zoo.family import Checkpoint

app = typer.Typer()
TOLD_EVERY = 10  # parts of long work, where nobody watches

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]
Loop = Annotated[LoopKind, typer.Option(help="Who walks the sampler's table: an ONNX Loop, nobody, or the host.")]
Numbers = Annotated[Precision, typer.Option(help="The numbers of products and convolutions.")]
Sources = Annotated[
    list[str] | None,
    typer.Argument(
        help="Bundles' folders or checkpoints' names; all that are here by default.",
        autocompletion=completion.checkpoints,
    ),
]
Ray = Annotated[str | None, typer.Option("--ray", help="Do it on the Ray cluster whose head is at this host:port.")]
TierName = Annotated[
    str | None,
    typer.Option("--tier", help="Choose that precision's layers one by one, within this loss: 45dB, 40dB, or exact."),
]
Steps = Annotated[int | None, typer.Option(help="Rows of an unrolled loop; default: the checkpoint's.")]


def _variant(loop: LoopKind, precision: Precision, steps: int | None, tier: str | None) -> Variant:
    """Raises RequestError for an unknown tier."""
    return Variant(loop, precision, steps, tier_of(tier).name if tier else None)


@app.command("export")
def export_command(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Checkpoints; all that are here by default.", autocompletion=completion.checkpoints),
    ] = None,
    loop: Loop = LoopKind.ONNX,
    steps: Steps = None,
    precision: Numbers = Precision.FP32,
    tier: TierName = None,
    why: Annotated[bool, typer.Option("--why", help="Only say what has changed since the last export.")] = False,
    ray: Ray = None,
    as_json: AsJson = False,
) -> None:
    """Write checkpoints as bundles: ONNX graphs around one safetensors file, made again only when an input changed."""
    from export.exporter import cached, export, resolve, up_to_date
    from zoo import registry

    wanted = _variant(loop, precision, steps, tier)
    found = {name: up_to_date(name, wanted) for name in names or _here()}
    checkpoints = {name: registry.checkpoint(name) for name, bundle in found.items() if bundle is None}
    missing = [(each, resolve(each, wanted)) for each in checkpoints.values()]
    for ready in filter(None, found.values()):
        _report_bundle(ready.name, ready.path.name, "up to date", [], ready, as_json)
    if ray and not why:
        _export_on(ray, missing, as_json)
    for checkpoint, variant in () if ray and not why else missing:
        bundle, changes = cached(checkpoint, variant)
        state = "up to date" if bundle else ("out of date" if changes else "not exported yet")
        peak = 0
        if not why and bundle is None:
            with _working(f"exporting {checkpoint.name} {variant.name}") as tell:
                bundle = export(checkpoint, variant, tell)
            state, peak = "exported", peak_bytes()
        _report_bundle(checkpoint.name, variant.name, state, changes, bundle, as_json, peak)
    _next(f"genzoo gate {' '.join(names or [])}".rstrip(), as_json)


def _export_on(address: str, wanted: list[tuple[Checkpoint, Variant]], as_json: bool) -> None:
    """What is not up to date is exported by workers; each is reported as soon as it is here."""
    from export.exporter import cached
    from export.pieces import export_all
    from zoo import fanout

    missing, changed = [], {}
    for checkpoint, variant in wanted:
        bundle, changes = cached(checkpoint, variant)
        if bundle:
            _report_bundle(checkpoint.name, variant.name, "up to date", [], bundle, as_json)
        else:
            missing.append((checkpoint, variant))
            changed[checkpoint.name] = changes
    if missing:
        with fanout.workers(address, _say) as workers:
            for checkpoint, variant, bundle in export_all(missing, workers):
                _report_bundle(checkpoint.name, variant.name, "exported", changed[checkpoint.name], bundle, as_json)


def _report_bundle(
    name: str, variant: str, state: str, changes: list[str], bundle: Bundle | None, as_json: bool, peak: int = 0
) -> None:
    """`peak` bytes of this process, with all that it exported before; 0 where others worked."""
    record: dict[str, Any] = {"name": name, "variant": variant, "state": state, "changes": changes}
    record |= {"path": str(bundle.path), "digest": bundle.digest, "admitted": bundle.admitted} if bundle else {}
    lines = [f"{name} {variant}: {state}{f', {bundle.path}' if bundle else ''}"]
    if peak and bundle:
        weights = (bundle.path / str(bundle.manifest["weights"]["file"])).stat().st_size
        record |= {"peak_bytes": peak, "weight_bytes": weights}
        lines[0] += f", {weights / 1e6:,.0f} MB of weights by {peak / 1e6:,.0f} MB of memory at most"
    if plan := (bundle.manifest.get("plan") if bundle else None):
        record["plan"] = plan
        lines.append(
            f"  {plan['share_of_products']:.0%} of the products left float32, all but those of {plan['islands']}"
        )
    _print(record, [*lines, *(f"  {change}" for change in changes)], as_json)


@app.command()
def gate(
    sources: Sources = None,
    loop: Loop = LoopKind.ONNX,
    steps: Steps = None,
    precision: Numbers = Precision.FP32,
    tier: TierName = None,
    again: Annotated[bool, typer.Option("--again", help="Judge also what was judged before.")] = False,
    runtime: Annotated[
        Runtime, typer.Option(help="What is judged: the bundle by itself, or on a GPU; `tensorrt`: its engines there.")
    ] = Runtime.ONNXRUNTIME,
    sizes: Annotated[
        bool,
        typer.Option(
            "--sizes", help="Judge the ends and random places of its sizes: wrong images, and cliffs in time."
        ),
    ] = False,
    golden: Annotated[
        Path | None, typer.Option(help="Judge nothing, but record in this file what each stage gives for fixed seeds.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="Judge by such a file: what differs first since it was written, and by how much."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Admit or refuse bundles: parity with torch, images under the same seeds, constant images, drift.

    After an upgrade of ONNX Runtime, TensorRT, torch or genzoo, --against says which graph, at which row of the
    sampler's table, first departs from what --golden recorded before it.
    """

    check_runtime(runtime)
    bundles = _bundles(sources, _variant(loop, precision, steps, tier))
    if sizes:
        _probe(bundles, runtime, as_json)
        return
    if golden or against:
        _hold(bundles, runtime, golden, against, again, as_json)
        return
    from export.gate import GateError

    refused = []
    for bundle in bundles:
        verdict = _judged(bundle, runtime, again)
        _print({"name": bundle.name, "path": str(bundle.path), **verdict}, [str(verdict["message"])], as_json)
        if not verdict["admitted"]:
            refused.append(bundle.name)
    if refused:
        raise GateError(f"refused: {', '.join(refused)}; nothing of these is served, see the messages above")
    _next(f"genzoo build {' '.join(sources or [])}".rstrip(), as_json)


def _probe(bundles: Iterable[Bundle], runtime: Runtime, as_json: bool) -> None:
    """Say what is found at each shape of each bundle, then fail at the first that is wrong."""
    from export.probe import ProbeError, cliffs, probe

    wrong = []
    for bundle in bundles:
        found = []
        for each in probe(bundle, runtime):
            found.append(each)
            line = f"{bundle.name} on {runtime}, {each.shape}: {1e3 * each.seconds:.1f} ms, {each.fault or 'right'}"
            _print({"name": bundle.name, "runtime": runtime.value, **asdict(each)}, [line], as_json)
            wrong += [f"{bundle.name} at {each.shape}: {each.fault}"] if each.fault else []
        for cliff in cliffs(found):
            _print(
                {"name": bundle.name, "runtime": runtime.value, "cliff": cliff}, [f"{bundle.name}: {cliff}"], as_json
            )
    if wrong:
        raise ProbeError(f"{len(wrong)} shapes are wrong, first {wrong[0]}")


def _hold(
    bundles: Iterable[Bundle], runtime: Runtime, golden: Path | None, against: Path | None, again: bool, as_json: bool
) -> None:
    """Record what bundles give, each as soon as it is done, or compare it with a record."""
    from export import replay
    from export.golden import GoldenError, check, record

    if golden and against:
        raise GoldenError("--golden writes a record and --against reads one: give one of them")
    path = against or golden
    assert path is not None
    if golden:
        files.check_writable(golden.parent)
    if runtime is Runtime.TRITON:
        raise GoldenError(f"{runtime} has no stages to record: choose a runtime of this process")
    records = replay.read(path) if against or path.exists() else {}
    departed = []
    for bundle in bundles:
        name = replay.key(bundle, runtime)
        if golden and name in records and not again:
            _print({"name": bundle.name, "key": name, "state": "kept"}, [f"{name} is in {path} already"], as_json)
            continue
        with _working(f"{bundle.name} is {'replayed' if against else 'recorded'} on {runtime}"):
            now = record(bundle, runtime.value, replay.stages_on(bundle, runtime))
        if golden:
            check(bundle.name, now)
            records[name] = now
            replay.write(golden, records)
            _print({"name": bundle.name, "key": name, "state": "recorded"}, [f"{name} is recorded in {path}"], as_json)
            continue
        found = replay.replay(bundle, path, records, now)
        _print({"name": bundle.name, "key": name, **found.plain()}, [found.message], as_json)
        departed += [bundle.name] if found.fault else []
    if departed:
        raise GoldenError(f"departed from their record: {', '.join(departed)}; see the messages above")


def _judged(bundle: Bundle, runtime: Runtime, again: bool) -> dict[str, Any]:
    """A bundle's verdict, from beside it or made now; on any runtime but the bundle's own it is made now."""
    from export.gate import GateError
    from export.gate import gate as judge

    if runtime in (Runtime.TORCH, Runtime.TRITON):
        raise GateError(f"{runtime} cannot go before the gate: choose {Runtime.ONNXRUNTIME}, or a runtime on a GPU")
    if runtime is not Runtime.ONNXRUNTIME:
        from export.engine_gate import on_runtime

        with _working(f"{bundle.name} goes before the gate on {runtime}"):
            found = on_runtime(bundle, runtime)
        return {"admitted": found.admitted, "message": found.message, "runtime": runtime.value, **found.numbers}
    if again or bundle.verdict is None:
        with _working(f"{bundle.name} goes before the gate"):
            judge(bundle)
    return bundle.verdict or {}


@app.command()
def build(
    sources: Sources = None,
    target: Annotated[
        list[Target] | None, typer.Option(help="GPU generation; give it several times, or --all-targets.")
    ] = None,
    all_targets: Annotated[bool, typer.Option("--all-targets", help="All that TensorRT-RTX builds for.")] = False,
    library: Annotated[Library, typer.Option(help="TensorRT-RTX needs no GPU; TensorRT builds for this one.")] = (
        Library.RTX
    ),
    buckets: Annotated[
        list[str] | None,
        typer.Option(
            help="Where sizes are cut into buckets, each tuned by itself: batch=1,16, height=256; one: not at all. "
            "By TensorRT one image is a bucket."
        ),
    ] = None,
    loop: Loop = LoopKind.ONNX,
    steps: Steps = None,
    precision: Numbers = Precision.FP32,
    why: Annotated[bool, typer.Option("--why", help="Only say what has changed since the engines were built.")] = False,
    tier: TierName = None,
    ray: Ray = None,
    as_json: AsJson = False,
) -> None:
    """Build engines from bundles, ahead of time and without a GPU."""
    from export.engine import graphs_to_build
    from export.engine_build import build as build_engine
    from export.engine_build import current
    from export.pieces import build_all
    from export.profiles import parse
    from zoo import fanout

    every = tuple(each for each in Target if each is not Target.SM90)
    targets = every if all_targets else tuple(target or (Target.PORTABLE,))
    bundles = _bundles(sources, _variant(loop, precision, steps, tier))
    ends = parse(buckets) if buckets else None
    wanted = [(bundle, graph, each) for bundle in bundles for graph in graphs_to_build(bundle) for each in targets]
    if why:
        for piece in wanted:
            _report_changes(*piece, library, ends, as_json)
        return
    missing = [(*each, library) for each in wanted if ray and current(*each, library, ends) is None]
    if ray and missing:
        with fanout.workers(ray, _say) as workers:
            for _ in build_all(missing, workers, ends):
                pass
    for bundle, graph, each in wanted:
        engine = current(bundle, graph, each, library, ends)
        if engine is None:
            with _working(f"building {bundle.name} {graph} for {each}"):
                engine = build_engine(bundle, graph, each, library, ends)
        _report_engine(engine, as_json)


@app.command()
def release(
    output: Annotated[Path, typer.Argument(help="The folder; what it holds already is not sent again.")],
    sign_key: Annotated[Path, typer.Option(help="The publisher's private key, PEM.")],
    names: Annotated[list[str] | None, typer.Argument(help="Checkpoints; all that are here without.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the release: every checkpoint and its bundle, admitted by the gate and signed.

    Serve the folder by any web server, or give it to `genzoo pull --from` as it is. A signing key's password is read
    from $GENZOO_SIGN_PASSWORD.
    """
    from export import release as making
    from zoo.exchange.commands.push import PASSWORD_VARIABLE
    from zoo.store.remotes import open_remote
    from zoo.store.signing import SigningKey

    key = SigningKey(sign_key, os.environ.get(PASSWORD_VARIABLE) or None)
    wanted = names or _here()
    for made in making.release(wanted, open_remote(str(output)), key):
        sizes = [pushed.manifest.size for pushed in (made.checkpoint, made.bundle)]
        record = {"name": made.name, "bytes": sum(sizes), "new": made.new}
        state = "" if made.new else ", already there"
        _print(record, [f"{made.name}: {sizes[0] / 1e6:.1f} MB, its bundle {sizes[1] / 1e6:.1f} MB{state}"], as_json)
    _next(f"genzoo pull {wanted[-1]} --from {output} --key PUBLIC_KEY", as_json)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Say what this host has, what works on it, and which packages and which container fit."""
    from export.doctor import DoctorError, examine

    found = examine()
    _print(asdict(found), found.lines, as_json)
    if found.faults:
        raise DoctorError("; ".join(found.faults))


def _report_changes(
    bundle: Bundle, graph: str, target: Target, library: Library, ends: Ends | None, as_json: bool
) -> None:
    from export.engine_build import changed

    changes = changed(bundle, graph, target, library, ends)
    state = "not built yet" if changes is None else "out of date" if changes else "up to date"
    record = {"name": bundle.name, "graph": graph, "target": target.value, "library": library.value}
    lines = [f"{bundle.name} {graph} for {target} by {library}: {state}", *(f"  {each}" for each in changes or ())]
    _print({**record, "state": state, "changes": changes or []}, lines, as_json)


def _report_engine(engine: Engine, as_json: bool) -> None:
    record = engine.record
    what = f"{record['name']} {record['inputs']['graph']} for {record['inputs']['target']}"
    line = f"{what}: {record['bytes'] / 1e6:.1f} MB, built in {record['seconds']:.1f} s, {engine.path}"
    _print({**record, "path": str(engine.path)}, [line], as_json)


def _here() -> list[str]:
    """The checkpoints of the tables whose weights are here: a wheel carries a part of them."""
    from zoo import index, registry, shelf

    known = index.records()
    if known.keys() >= set(shelf.folders()):  # in the order of the tables, without torch
        return [name for name in known if shelf.is_here(name)]
    return [each.name for each in registry.checkpoints() if shelf.is_here(each.name)]


def _bundles(sources: list[str] | None, variant: Variant) -> Iterable[Bundle]:
    """The bundles in folders, or of checkpoints by name, exported now if need be; of all that are here for none."""
    from export.bundle import Bundle
    from export.exporter import export, up_to_date
    from zoo import registry
    from zoo.contract.layout import BUNDLE_MANIFEST

    for source in sources or _here():
        if "/" in source or (Path(source) / BUNDLE_MANIFEST).is_file():
            yield Bundle.open(source)
        else:
            here = up_to_date(source, variant)
            checkpoint = registry.checkpoint(source) if here is None else None
            with _working(f"exporting {source}") if checkpoint else nullcontext() as tell:
                bundle = export(checkpoint, variant, tell) if checkpoint else here
            assert bundle is not None
            yield bundle


@contextmanager
def _working(what: str) -> Iterator[Progress]:
    """Says on standard error what is being done, with a clock where somebody watches; what is yielded says more."""
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        typer.echo(what, err=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)

        def tell(part: str, done: int, count: int) -> None:
            text = f"{what}: {part} ({done} of {count})"
            bar.update(task, description=text)
            if not console.is_terminal and done % TOLD_EVERY == 0:
                typer.echo(text, err=True)

        yield tell


def _print(record: dict[str, Any], lines: list[str], as_json: bool) -> None:
    for line in [json.dumps(record)] if as_json else lines:
        typer.echo(line)


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _next(command: str, as_json: bool) -> None:
    if not as_json:
        typer.echo(f"next: {command}")
