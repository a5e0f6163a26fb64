"""`genzoo list`, `genzoo show`, `genzoo train`: what is in the zoo, and how it came to be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer

app = typer.Typer()

MAX_SHOWN = 2000  # characters of a field

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def summary(checkpoint: Any) -> dict[str, Any]:
    """One row of `genzoo list --json`; what an untrained checkpoint does not have yet is None."""
    from zoo import shelf
    from zoo.contract.request import SampleRequest, nfe

    try:
        config = shelf.config(checkpoint.name)
    except shelf.StoreError:
        config = {"weights": {}}
    sampling = checkpoint.spec.sampling
    return {
        "name": checkpoint.name,
        "family": checkpoint.spec.family,
        "dataset": checkpoint.dataset,
        "default_steps": sampling.num_steps if sampling else 1,
        "nfe": nfe(checkpoint.spec, SampleRequest((0,))),
        "parameters": config.get("parameters"),
        "bytes": config["weights"].get("bytes"),
        "digest": config["weights"].get("sha256"),
        "licence": checkpoint.licence,
        "teacher": checkpoint.teacher,
        **_origin(checkpoint.name),
    }


def _origin(name: str) -> dict[str, Any]:
    """What is known of a checkpoint that was pulled or imported; nothing of the tree's."""
    from zoo import shelf

    ref = shelf.pulled(name)
    return {"version": ref.version, "source": ref.source, "signer": ref.signer or None} if ref else {}


def _all() -> Iterator[Any]:
    """The tables' checkpoints and those that were pulled or imported; one that cannot be read is named and left out."""
    from zoo import registry
    from zoo.errors import GenzooError

    for name in dict.fromkeys([*(checkpoint.name for checkpoint in registry.checkpoints()), *registry.stored()]):
        try:
            yield registry.checkpoint(name)
        except GenzooError as error:
            typer.echo(f"left out: {error}", err=True)


@app.command("list")
def list_checkpoints(as_json: Json = False) -> None:
    """List the checkpoints of the zoo, and those that were pulled or imported."""
    rows = [summary(checkpoint) for checkpoint in _all()]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    columns = {"name": "name", "family": "family", "steps": "default_steps", "NFE": "nfe", "bytes": "bytes"}
    columns |= {"digest": "digest", "teacher": "teacher"}
    for title in columns:
        table.add_column(title, justify="right" if title in ("steps", "NFE", "bytes") else "left", no_wrap=True)
    for row in rows:
        cells = [row[key] for key in columns.values()]
        cells[5] = cells[5] and cells[5][:12]
        table.add_row(*("-" if cell is None else f"{cell:,}" if isinstance(cell, int) else cell for cell in cells))
    Console().print(table)
    for row in rows:
        if "source" in row:
            signed = f"signed by {row['signer']}" if row["signer"] else "no verified signature"
            typer.echo(f"{row['name']}: version {row['version']} from {row['source'] or 'this host'}, {signed}")
    typer.echo("\nnext: genzoo sample ddpm-pd4 --seeds 0-39 -o grid.png")


@app.command()
def show(name: str, as_json: Json = False) -> None:
    """Show one checkpoint: its card's facts, its inputs, its training."""
    from zoo import registry, shelf

    kept = shelf.pulled(name) and shelf.config(name).get("unsupported")
    record = {**shelf.config(name), "name": name}
    last = f"next: genzoo verify {name}"
    if not kept:
        record["description"] = registry.checkpoint(name).description
        shelf.verified_weights(name)
        last = f"the weights match their digest; next: genzoo export {name}"
    record["training"] = {key: value for key, value in (record.get("training") or {}).items() if key != "curves"}
    if ref := shelf.pulled(name):
        manifest = shelf.blob_store().manifest(ref)
        record |= {"licence": manifest.licence, "version": ref.version, "manifest": ref.manifest, "source": ref.source}
        record |= {"signer": ref.signer or None, "signature": ref.signature or None, "accepted": ref.accepted or None}
        record |= {"pulled_at": ref.pulled_at, "provenance": dict(manifest.provenance)}
    if as_json:
        typer.echo(json.dumps(record, indent=2))
        return
    for key, value in record.items():
        text = json.dumps(value) if isinstance(value, dict | list) else str(value)
        typer.echo(f"{key:15} {text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + ' ... (--json has all of it)'}")
    typer.echo(f"\n{last}")


@app.command()
def train(
    name: str,
    data: Annotated[str | None, typer.Option(help="Directory or URL of the data set.")] = None,
    images: Annotated[int | None, typer.Option(min=1, help="Training images, instead of the recipe's.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda; the best there is by default.")] = "",
    threads: Annotated[int, typer.Option(min=1, max=1024, help="CPU threads.")] = 2,
    publish: Annotated[
        bool, typer.Option("--publish", help="Write over what is shipped, beside the code, for everybody.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a checkpoint by its recipe into your own tree, whose checkpoints are found first.

    A run that was interrupted goes on where the same command is given again. Your own tree is $GENZOO_CHECKPOINTS, or
    `checkpoints` below genzoo's home.
    """
    from zoo import registry, shelf

    checkpoint = registry.checkpoint(name)
    import torch

    from zoo.training import loop

    torch.set_num_threads(threads)
    folder = loop.train(checkpoint, images=images, source=data, device=device, publish=publish)
    if publish and shelf.directory(name) != folder:
        typer.echo(f"{shelf.directory(name)} still comes before it", err=True)
    if as_json:
        weights = json.loads((folder / "config.json").read_text())["weights"]
        typer.echo(json.dumps({**weights, "path": str(folder)}))
    else:
        typer.echo(f"{folder} holds {name}; next: genzoo export {name}, genzoo card {name}")
