"""`genzoo import`: what others trained, checked and taken into the store."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.plain import printable
from zoo.sampling.schedules import SPACINGS

if TYPE_CHECKING:
    from zoo.exchange.importing import Imported

app = typer.Typer()


@app.command("import")
def import_command(
    source: Annotated[str, typer.Argument(metavar="PATH|URL", help="A folder or a file, here or on an HTTP server.")],
    name: Annotated[str | None, typer.Option(help="What to call it; default: its file's name.")] = None,
    architecture: Annotated[
        str | None, typer.Option("--as", metavar="CHECKPOINT", help="The checkpoint whose network the weights fit.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Of a pipeline: a sampler, or a scheduler of diffusers, in place of its own.")
    ] = None,
    spacing: Annotated[str | None, typer.Option(help=f"Of a pipeline: {', '.join(SPACINGS)}.")] = None,
    image_range: Annotated[
        str | None, typer.Option("--range", help="Of an ONNX generator's images: -1,1 or 0,1 or 0,255; else measured.")
    ] = None,
    lora: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]FILE[:SCALE]",
            help="Of a pipeline: an adapter, fused into its weights; with a NAME, images ask for its scale.",
        ),
    ] = None,
    licence: Annotated[str | None, typer.Option(metavar="SPDX", help="Its licence, like apache-2.0.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")] = False,
) -> None:
    """Take a diffusers folder, a safetensors file of a known network or an ONNX generator into the store."""
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, SpinnerColumn, TransferSpeedColumn

    from zoo.exchange.importing import import_from

    console = Console(stderr=True)
    bar = Progress(SpinnerColumn(), DownloadColumn(), TransferSpeedColumn(), console=console, transient=True)
    with bar if console.is_terminal else nullcontext():
        task = bar.add_task("fetching", total=None)
        imported = import_from(
            source,
            name=name,
            architecture=architecture,
            scheduler=scheduler,
            spacing=spacing,
            image_range=image_range,
            lora=lora or (),
            licence=licence,
            progress=lambda count: bar.advance(task, count),
        )
    if as_json:
        typer.echo(json.dumps(_record(imported)))
        return
    _show(imported)


def _record(imported: Imported) -> dict[str, Any]:
    draft = imported.draft
    return {
        "name": imported.name,
        "version": imported.version,
        "digest": imported.digest,
        "licence": imported.licence,
        "format": draft.format,
        "signed": False,
        "usable": draft.usable,
        "components": [vars(component) for component in draft.components],
        "left_out": list(draft.left_out),
        "notes": list(draft.notes),
    }


def _show(imported: Imported) -> None:
    draft = imported.draft
    lines = [f"{imported.name} version {imported.version}: {draft.format}, unsigned, licence {imported.licence}"]
    lines += [
        f"  {each.name:16} {each.kind:24} {each.bytes:>13,} bytes  {each.sha256[:12]}" for each in draft.components
    ]
    lines += [f"  left out: {file}" for file in draft.left_out]
    lines += [f"  {note}" for note in draft.notes]
    for line in lines:
        typer.echo(printable(line))
    if imported.licence == "unknown":
        typer.echo("  its licence is unknown, so it is restricted: say which with --licence")
    typer.echo(f"next: genzoo {'gate' if draft.usable else 'show'} {imported.name}")
