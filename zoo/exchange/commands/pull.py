"""`genzoo pull`: checkpoints, bundles and engines from mirrors, verified before they get their name."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo import completion
from zoo.plain import printable

if TYPE_CHECKING:
    from zoo.exchange.pull import Pulled
    from zoo.exchange.vouched import Vouched
    from zoo.store.artifact import Kind, Manifest
    from zoo.store.offers import Policy
    from zoo.store.signing import Trust

app = typer.Typer()

From = Annotated[list[str] | None, typer.Option("--from", help="A mirror; several are used together.")]


@app.command()
def pull(
    name: Annotated[str, typer.Argument(help="A checkpoint's name.", autocompletion=completion.checkpoints)],
    remotes: From = None,
    bundle: Annotated[bool, typer.Option("--bundle", help="Its bundle instead of the checkpoint.")] = False,
    variant: Annotated[str, typer.Option(help="The bundle's variant.")] = "fp32",
    engine: Annotated[str, typer.Option(help="Its engines for a target, like sm89; they must be signed.")] = "",
    version: Annotated[int | None, typer.Option(min=1, help="The newest without.")] = None,
    key: Annotated[list[Path] | None, typer.Option(help="A trusted public key, PEM.")] = None,
    certificate: Annotated[list[Path] | None, typer.Option(help="A trusted root certificate, PEM.")] = None,
    require_signature: Annotated[bool, typer.Option("--require-signature", help="Refuse what is not signed.")] = False,
    accept_licence: Annotated[str, typer.Option(help="The restricted licence that you accept.")] = "",
    allow_rollback: Annotated[bool, typer.Option("--allow-rollback", help="Also what is older than yours.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Only verify what is here.")] = False,
    ray: Annotated[
        str | None, typer.Option("--ray", help="Then to every node of the Ray cluster with its head at host:port.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")] = False,
) -> None:
    """Fetch a checkpoint, a bundle or engines: parallel, resumable, every byte verified, from any mirror that works.

    Mirrors are folders, http(s)://, hf:// or oci:// addresses: --from, or $GENZOO_REMOTE with commas between them.
    """
    from zoo.exchange import pull as pulling
    from zoo.shelf import blob_store
    from zoo.store import signing
    from zoo.store.offers import Policy

    kind, variant = _kind(bundle, variant, engine)
    trust = signing.trusted(key or (), certificate or ())
    policy = Policy(trust, require_signature, accept_licence, allow_rollback, version)
    store = blob_store()
    if offline:
        pulled = pulling.held(name, store, policy, kind=kind, variant=variant)
    else:
        with _progress(as_json) as begin, _resumable():
            mirrors = pulling.mirrors(remotes or ())
            pulled = pulling.pull(name, mirrors, store, policy, kind=kind, variant=variant, begin=begin)
            if base := _missing_base(pulled.manifest):
                pulling.pull(base, mirrors, store, replace(policy, version=None), begin=begin)
    if ray:
        _broadcast(ray, name, variant, policy, pulled)
    _report(name, pulled, trust, as_json)


def _missing_base(manifest: Manifest) -> str | None:
    """What a checkpoint's weights stand on, as its manifest says, where that is not here."""
    from zoo import shelf

    parents = manifest.provenance.get("parents")
    for parent in parents if isinstance(parents, list) else ():
        named = isinstance(parent, dict) and parent.get("role") == "base"
        if named and shelf.CHECKPOINT_NAME.fullmatch(str(parent.get("name"))):
            return None if shelf.is_here(parent["name"]) else str(parent["name"])
    return None


def _broadcast(address: str, name: str, variant: str, policy: Policy, pulled: Pulled) -> None:
    """To every node of a cluster, each of which says what it lacked."""
    from zoo import fanout
    from zoo.exchange.broadcast import broadcast
    from zoo.shelf import blob_store

    def say(text: str) -> None:
        typer.echo(text, err=True)

    with fanout.workers(address, say) as workers:
        found = broadcast(pulled.ref, pulled.manifest, name, variant, policy, blob_store(), workers)
    for node, (fetched, path) in found.items():
        say(f"{node}: {fetched / 1e6:.1f} MB from peers, {path}")


def _kind(bundle: bool, variant: str, engine: str) -> tuple[Kind, str]:
    from zoo.store.artifact import Kind
    from zoo.store.offers import PullError

    if bundle and engine:
        raise PullError("--bundle and --engine name two artifacts: pull one after the other")
    if engine:
        return Kind.ENGINE, engine
    return (Kind.BUNDLE, variant) if bundle else (Kind.CHECKPOINT, "")


@contextmanager
def _resumable() -> Iterator[None]:
    """What ends a transfer says that nothing is lost."""
    from zoo.store.transfer.sources import TransferError, TransferInterrupt

    try:
        yield
    except TransferInterrupt as interrupt:
        typer.echo(str(interrupt), err=True)
        raise
    except TransferError as error:
        kept = "" if "same command" in str(error) else "; what has arrived is kept: the same command resumes"
        raise TransferError(f"{error}{kept}") from error


@contextmanager
def _progress(silent: bool) -> Iterator[Callable[[Manifest], Callable[[int], None]]]:
    """Says what is coming, and shows it coming where somebody watches."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    shown = console.is_terminal and not silent
    with Progress(TextColumn("{task.description}"), *columns, console=console, disable=not shown) as progress:

        def begin(manifest: Manifest) -> Callable[[int], None]:
            if not silent:
                typer.echo(f"{manifest.name} {manifest.version}, licence {printable(manifest.licence)}", err=True)
            task = progress.add_task(manifest.name, total=manifest.size)
            return lambda count: progress.advance(task, count)

        yield begin


def _report(name: str, pulled: Pulled, trust: Trust, as_json: bool) -> None:
    from zoo.exchange import derived
    from zoo.store.artifact import Kind

    ref, manifest = pulled.ref, pulled.manifest
    said = f"signed by {ref.signer}" if ref.signer else "signed, not verified" if ref.signature else "not signed"
    measured = _measured(name, pulled, trust) if manifest.kind is Kind.CHECKPOINT else None
    if as_json:
        record: dict[str, Any] = {
            "name": ref.name,
            "kind": manifest.kind.value,
            "version": ref.version,
            "digest": ref.manifest,
        }
        record |= {"licence": manifest.licence, "restricted": manifest.restricted, "signer": ref.signer or None}
        state = "verified" if ref.signer else "unverified" if ref.signature else "none"
        record |= {"signature": state, "source": ref.source, "path": str(pulled.path)}
        record |= {"bytes": manifest.size, "fetched": pulled.fetched, "reused": pulled.reused}
        record |= {"receipts": asdict(measured) if measured else None}
        typer.echo(json.dumps({**record, "seconds": round(pulled.seconds, 3), "warnings": list(pulled.warnings)}))
        return
    for warning in pulled.warnings:
        typer.echo(f"warning: {printable(warning)}", err=True)
    amounts = f"{pulled.fetched / 1e6:.1f} MB fetched, {pulled.reused / 1e6:.1f} MB were here"
    typer.echo(
        f"{ref.name} version {ref.version}, {ref.manifest[:12]}, {printable(manifest.licence)}, {printable(said)}"
    )
    if measured:
        _print_measured(measured)
    typer.echo(f"{amounts}, {pulled.seconds:.2f} s; {pulled.path}")
    if manifest.kind is Kind.BUNDLE and not ref.signer:
        typer.echo(
            "what the gate said of it is left out, as nobody vouches for it: with --key it counts, and is served"
        )
    following = {
        Kind.CHECKPOINT: derived.first_command(name, ref.source),
        Kind.BUNDLE: f"{'serve' if ref.signer else 'sample -o grid.png'} {shlex.quote(str(pulled.path))}",
        Kind.ENGINE: f"repository {name} --engine {manifest.name.rpartition('.')[2]} -o models",
    }
    typer.echo(f"next: genzoo {following[manifest.kind]}")


def _measured(name: str, pulled: Pulled, trust: Trust) -> Vouched | None:
    """What receipts say that came along with a checkpoint."""
    from zoo.contract.layout import WEIGHTS
    from zoo.exchange.vouched import vouched

    weights = next((file.sha256 for file in pulled.manifest.files if file.path == WEIGHTS), "")
    return vouched(pulled.path, name, weights, trust)


def _print_measured(found: Vouched) -> None:
    for fault in found.faults:
        typer.echo(f"warning: what was measured: {printable(fault)}", err=True)
    if found.receipts:
        counts = ", ".join(f"{count} {word}" for word, count in found.tests.items() if count)
        by = f"signed by {', '.join(found.signers)}" if found.signers else "signatures not verified"
        typer.echo(f"measured: {counts}, {printable(by)}")
