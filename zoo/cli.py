"""`genzoo list`, `genzoo show`, `genzoo train`: what is in the zoo, and how it came to be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from zoo import completion
from zoo.plain import printable

app = typer.Typer()

MAX_SHOWN = 2000  # characters of a field

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Name = Annotated[str, typer.Argument(help="A checkpoint's name.", autocompletion=completion.checkpoints)]


def summary(name: str) -> dict[str, Any]:
    """One row of `genzoo list --json`, without torch. Raises GenzooError where it cannot be read."""
    from zoo import index, registry, shelf
    from zoo.contract.request import Setting, nfe

    entry, known, here = registry.entry(name), index.records().get(name, {}), shelf.is_here(name)
    config = shelf.config(name) if here else known
    yours = shelf.directory(name).parent == shelf.own_tree()
    measured = index.is_measured(known, config)  # the index tells of the release's
    return {
        "name": name,
        "family": entry.spec.family,
        "dataset": entry.dataset,
        "default_steps": entry.spec.sampling.num_steps if entry.spec.sampling else 1,
        "nfe": nfe(entry.spec, Setting()),
        "parameters": config.get("parameters"),
        "bytes": config["weights"].get("bytes"),
        "digest": config["weights"].get("sha256"),
        "licence": entry.licence,
        "teacher": entry.teacher,
        "quality": known.get("quality") if measured else None,
        "where": "yours" if yours else "here" if here else "release",
        **_origin(name),
    }


def _origin(name: str) -> dict[str, Any]:
    """What is known of a checkpoint that was pulled or imported; nothing of the tree's."""
    from zoo import shelf

    ref = shelf.pulled(name)
    return {"version": ref.version, "source": ref.source, "signer": ref.signer or None} if ref else {}


def _summaries() -> Iterator[dict[str, Any]]:
    """A row of each checkpoint that is here or in the release; one that cannot be read is named and left out."""
    from zoo import registry
    from zoo.errors import GenzooError

    for name in registry.names():
        try:
            yield summary(name)
        except GenzooError as error:
            typer.echo(f"left out: {printable(str(error))}", err=True)


@app.command("list")
def list_checkpoints(as_json: Json = False) -> None:
    """List the checkpoints of the zoo, here or in its release, and those that were pulled or imported."""
    from zoo.exchange import derived

    rows = list(_summaries())
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    _print_table(rows)
    for row in rows:
        if "source" in row:
            signed = f"signed by {row['signer']}" if row["signer"] else "no verified signature"
            typer.echo(
                printable(f"{row['name']}: version {row['version']} from {row['source'] or 'this host'}, {signed}")
            )
    counts = sorted({row["quality"]["images"] for row in rows if row["quality"]})
    if counts:
        typer.echo(f"\nFD: Fréchet distance of {' or '.join(f'{n:,}' for n in counts)} images at the default setting,")
        typer.echo(f"in the features of {' / '.join(next(row['quality']['fd'] for row in rows if row['quality']))}")
    if any(row["where"] == "release" for row in rows):
        typer.echo("what is in the release comes by genzoo pull NAME, from --from or $GENZOO_REMOTE")
    typer.echo(f"next: genzoo {derived.first_command('ddpm-pd4')}")


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("name", "family", "NFE", "size", "FD", "where"):
        right = title in ("NFE", "size", "FD")
        table.add_column(title, justify="right" if right else "left", no_wrap=title != "name", overflow="fold")
    for row in rows:
        size = "-" if row["bytes"] is None else decimal(row["bytes"])
        cells = (row["name"], row["family"], str(row["nfe"]), size, _distances(row["quality"]), row["where"])
        table.add_row(*(Text(printable(cell)) for cell in cells))
    Console().print(table)


def _distances(quality: dict[str, Any] | None) -> str:
    """The Fréchet distances in each feature net, three digits each; - where nothing was measured."""
    return " / ".join(f"{value:.3g}" for value in quality["fd"].values()) if quality else "-"


@app.command("index")
def write_index(as_json: Json = False) -> None:
    """Write what the zoo says of its checkpoints, after a table or a checkpoint of the tree was changed."""
    from zoo import index, registry

    path = index.write(registry.checkpoints(), {})
    count = len(index.records())
    typer.echo(json.dumps({"path": str(path), "checkpoints": count}) if as_json else f"{path} tells of {count}")


@app.command()
def show(name: Name, as_json: Json = False) -> None:
    """Show one checkpoint: its card's facts, its inputs, its training; without torch, and also where it is not here."""
    from zoo import datasets, registry, shelf
    from zoo.exchange import derived

    record = {"name": name, "where": "release", **registry.record(name)}
    if shown := datasets.known(str(record.get("dataset"))):
        record |= {"shows": shown.shows, "labels": {name: list(labels) for name, labels in shown.labels.items()}}
    last = f"next: genzoo pull {name}"
    if shelf.is_here(name):
        record["where"] = str(shelf.directory(name))
        last = f"next: genzoo verify {name}"
        if not record.get("unsupported"):
            shelf.verified_weights(name)
            last = f"the weights match their digest; next: genzoo {derived.first_command(name)}"
    if not record.get("unsupported"):
        from zoo.contract.request import told

        record["takes"] = told(registry.entry(name).spec)
    record["training"] = {key: value for key, value in (record.get("training") or {}).items() if key != "curves"}
    if ref := shelf.pulled(name):
        manifest = shelf.blob_store().manifest(ref)
        record |= {"licence": manifest.licence, "version": ref.version, "manifest": ref.manifest, "source": ref.source}
        record |= {"signer": ref.signer or None, "signature": ref.signature or None, "accepted": ref.accepted or None}
        record |= {"pulled_at": ref.pulled_at, "provenance": dict(manifest.provenance)}
    if as_json:
        typer.echo(json.dumps(record, indent=2))
        return
    for key, value in record.pop("takes", {}).items():
        typer.echo(f"takes {key:16} {printable(value)}")
    for key, value in record.items():
        text = printable(json.dumps(value) if isinstance(value, dict | list) else str(value))
        typer.echo(f"{key:15} {text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + ' ... (--json has all of it)'}")
    typer.echo(f"\n{last}")


@app.command()
def train(
    name: Name,
    data: Annotated[str | None, typer.Option(help="Directory or URL of the data set.")] = None,
    images: Annotated[int | None, typer.Option(min=1, help="Training images, instead of the recipe's.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda; the best there is by default.")] = "",
    threads: Annotated[int, typer.Option(min=1, max=1024, envvar="OMP_NUM_THREADS", help="CPU threads.")] = 2,
    publish: Annotated[
        bool, typer.Option("--publish", help="Write over what is shipped, beside the code, for everybody.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a checkpoint by its recipe into your own tree, whose checkpoints are found first.

    A run that was interrupted goes on where the same command is given again. Your own tree is $GENZOO_CHECKPOINTS, or
    `checkpoints` below genzoo's home; what you trained before is kept there, in `.before`.
    """
    from zoo import registry, shelf

    checkpoint = registry.checkpoint(name)
    import torch

    from zoo.contract.layout import CONFIG
    from zoo.training import loop

    torch.set_num_threads(threads)
    folder = loop.train(checkpoint, images=images, source=data, device=device, publish=publish)
    if publish and shelf.directory(name) != folder:
        typer.echo(f"{shelf.directory(name)} still comes before it", err=True)
    if as_json:
        weights = json.loads((folder / CONFIG).read_text())["weights"]
        typer.echo(json.dumps({**weights, "path": str(folder)}))
    else:
        typer.echo(f"{folder} holds {name}; next: genzoo export {name}, genzoo card {name}")
