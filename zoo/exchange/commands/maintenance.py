"""`genzoo verify` and `genzoo gc`: what is stored is read again, and what nobody needs goes."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo import completion
from zoo.errors import GenzooError
from zoo.plain import printable

if TYPE_CHECKING:
    from zoo.store.local.blobs import BlobStore
    from zoo.store.local.garbage import Collection
    from zoo.store.local.verification import Verification

app = typer.Typer()

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(?:([kmgt])(i)?)?b?", re.IGNORECASE)
_AGE = re.compile(r"(\d+(?:\.\d+)?) ?([smhdw])", re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]


class QuantityError(GenzooError):
    """A size or an age that cannot be read."""


def parse_size(text: str) -> int:
    """`10GB`, `500 MiB`, `4096`: bytes. Raises QuantityError."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise QuantityError(f"{text!r} is no size: write 10GB, 500MiB or a number of bytes")
    number, prefix, binary = match.groups()
    power = "kmgt".index(prefix.lower()) + 1 if prefix else 0
    return int(float(number) * (1024 if binary else 1000) ** power)


def parse_age(text: str) -> float:
    """`30d`, `12h`: seconds. Raises QuantityError."""
    match = _AGE.fullmatch(text.strip())
    if not match:
        raise QuantityError(f"{text!r} is no age: write 30d, 12h or 2w")
    return float(match[1]) * _SECONDS[match[2].lower()]


@app.command()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names; everything without.", autocompletion=completion.checkpoints)
    ] = None,
    as_json: Json = False,
) -> None:
    """Read every byte again: of what was pulled or imported, and of the checkpoints in the tree.

    What is damaged is set aside, and the command that fetches it again is printed.
    """
    from zoo.shelf import blob_store
    from zoo.store.local import verification

    store = blob_store()
    stored, in_tree = _sort(store, names)
    with _progress(as_json) as progress:
        found = verification.verify(store, stored if names else None, progress)
        found = replace(found, faults=(*found.faults, *_altered(store, stored)))
        checkpoints = {name: _check_tree(name) for name in in_tree}
    healthy = not found.damaged and not found.faults and not any(checkpoints.values())
    if as_json:
        record = {"store": str(store.root), **asdict(found), "checkpoints": checkpoints, "healthy": healthy}
        typer.echo(json.dumps(record, indent=2))
    else:
        _report(found, checkpoints, healthy)
    if not healthy:
        raise typer.Exit(1)


@app.command()
def gc(
    max_size: Annotated[str, typer.Option(help="Keep at most this much, like 10GB.")] = "",
    max_age: Annotated[str, typer.Option(help="Keep what was used within this time, like 30d.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: Json = False,
) -> None:
    """Remove what no name needs any more; with a limit also what was used longest ago. What is in use stays.

    Beside what was pulled, --max-age is for what was made here and can be made again: packages, searches, images.
    """
    from zoo.exchange import caches
    from zoo.shelf import blob_store
    from zoo.store.local import garbage

    limit = parse_size(max_size) if max_size else None
    age = parse_age(max_age) if max_age else None
    found, made_here = garbage.collect(blob_store(), limit, age, dry_run), caches.collect(age, dry_run)
    if as_json:
        typer.echo(json.dumps({**asdict(found), "made_here": [asdict(each) for each in made_here]}, indent=2))
        return
    for each in made_here:
        typer.echo(printable(f"{each.path}: {each.why}, {each.bytes:,} bytes"))
    _report_collection(found, limit)


def _sort(store: BlobStore, names: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Which refs are meant, a checkpoint's bundles and engines with it, and which checkpoints of the tree.

    Raises UnknownNameError for a name that is neither's.
    """
    from zoo import shelf
    from zoo.contract.errors import nearest
    from zoo.registry import UnknownNameError

    known, tree = store.names(), shelf.folders()
    if not names:
        return known, [name for name in tree if name not in known]
    stored = [ref for ref in known if any(ref == name or ref.startswith(f"{name}.") for name in names)]
    for name in names:
        if name not in tree and not any(ref == name or ref.startswith(f"{name}.") for ref in known):
            raise UnknownNameError(f"unknown checkpoint {name!r}: {nearest(name, {*known, *tree})}")
    return stored, [name for name in names if name not in known and name in tree]


def _altered(store: BlobStore, names: Sequence[str]) -> Iterator[str]:
    """What is wrong with the copies that bundles run from; a manifest that cannot be read is damage told elsewhere."""
    from zoo.errors import StoreError
    from zoo.exchange import derived

    for ref in filter(None, map(store.ref, names)):
        with suppress(StoreError):
            yield from derived.altered(store.manifest(ref))


def _check_tree(name: str) -> str | None:
    """Why a checkpoint of the tree cannot be used; None where it is whole."""
    from zoo.errors import StoreError
    from zoo.shelf import assets, verified_weights

    try:
        verified_weights(name)
        assets(name)
    except StoreError as error:
        return str(error)
    return None


def _report(found: Verification, checkpoints: dict[str, str | None], healthy: bool) -> None:
    for sentence in (*(damage.sentence for damage in found.damaged), *found.faults, *checkpoints.values()):
        if sentence:
            typer.echo(printable(sentence))
    count = len(checkpoints)
    typer.echo(f"{found.blobs} blobs with {found.bytes:,} bytes and {count} checkpoints of the tree were read")
    if healthy:
        typer.echo("all of them are what they should be; next: genzoo list")


def _report_collection(found: Collection, limit: int | None) -> None:
    verb = "would go" if found.dry_run else "are gone"
    for name in found.refs:
        typer.echo(f"{name}: not used for the longest time")
    typer.echo(
        f"{len(found.refs)} names, {len(found.blobs)} blobs, {len(found.views)} folders and {len(found.partials)} "
        f"interrupted downloads {verb}, {found.bytes:,} bytes; {found.kept_bytes:,} stay"
    )
    if limit is not None and found.kept_bytes > limit:
        typer.echo(f"that is more than {limit:,}: the rest is in use, or younger than an hour")
    again = "leave --dry-run away to remove it" if found.dry_run else "genzoo verify"
    typer.echo(f"next: {again}")


@contextmanager
def _progress(as_json: bool) -> Iterator[Callable[[int], None]]:
    """A count of the bytes read, on a terminal only."""
    if as_json or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, SpinnerColumn, TextColumn, TransferSpeedColumn

    columns: tuple[Any, ...] = (SpinnerColumn(), TextColumn("reading"), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("verify", total=None)
        yield lambda count: bar.advance(task, count)
