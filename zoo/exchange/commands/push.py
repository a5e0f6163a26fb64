"""`genzoo push`: checkpoints, bundles and engines to a folder, a web server, the Hub or a registry."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo import completion

if TYPE_CHECKING:
    from zoo.exchange.publish import Pushed
    from zoo.store.artifact import File
    from zoo.store.signing import SigningKey

app = typer.Typer()

PASSWORD_VARIABLE = "GENZOO_SIGN_PASSWORD"


@app.command()
def push(
    name: Annotated[str, typer.Argument(help="A checkpoint's name.", autocompletion=completion.checkpoints)],
    remote: Annotated[str, typer.Argument(help="A folder, http(s)://, hf:// or oci://; $GENZOO_REMOTE without.")] = "",
    bundle: Annotated[bool, typer.Option("--bundle", help="Its bundle instead of the checkpoint.")] = False,
    variant: Annotated[str, typer.Option(help="The bundle's variant.")] = "fp32",
    engine: Annotated[str, typer.Option(help="Its engines for a target, like sm89.")] = "",
    sign_key: Annotated[Path | None, typer.Option(help="Sign with a private key, PEM.")] = None,
    sign_certificate: Annotated[Path | None, typer.Option(help="The certificate of --sign-key, PEM.")] = None,
    restricted: Annotated[
        bool, typer.Option("--licence-restricted", help="The licence must be accepted by who pulls.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")] = False,
) -> None:
    """Publish a checkpoint, a bundle or engines as the next version: files first, the manifest last.

    What the remote holds already is not sent again. A signing key's password is read from $GENZOO_SIGN_PASSWORD.
    """
    from zoo import registry
    from zoo.exchange import publish
    from zoo.store.artifact import Kind
    from zoo.store.remotes import REMOTE_VARIABLE, open_remote

    if bundle and engine:
        raise publish.PublishError("--bundle and --engine name two artifacts: push one after the other")
    address = remote or os.environ.get(REMOTE_VARIABLE, "").partition(",")[0].strip()
    if not address:
        raise publish.PublishError(f"no remote was named: give one after {name}, or set ${REMOTE_VARIABLE}")
    kind, chosen = (Kind.ENGINE, engine) if engine else (Kind.BUNDLE, variant) if bundle else (Kind.CHECKPOINT, "")
    if kind is Kind.CHECKPOINT:
        registry.record(name)  # says which names there are
    key, place = _key(sign_key, sign_certificate), open_remote(address)
    with _progress(as_json) as begin:
        pushed = publish.push(name, place, kind=kind, variant=chosen, key=key, restricted=restricted, begin=begin)
    options = f" --engine {engine}" if engine else f" --bundle --variant {variant}" if bundle else ""
    _report(pushed, f"genzoo pull {name}{options} --from {place.url}", as_json)


def _key(path: Path | None, certificate: Path | None) -> SigningKey | None:
    from zoo.exchange.publish import PublishError
    from zoo.store.signing import SigningKey

    if path is None:
        if certificate is not None:
            raise PublishError("--sign-certificate needs the private key that belongs to it: add --sign-key")
        return None
    return SigningKey(path, os.environ.get(PASSWORD_VARIABLE) or None, certificate)


@contextmanager
def _progress(silent: bool) -> Iterator[Callable[[File], None]]:
    """Names the file that is being sent, where somebody watches."""
    from rich.console import Console

    console = Console(stderr=True)
    if silent or not console.is_terminal:
        yield lambda _: None
        return
    with console.status("preparing") as status:
        yield lambda file: status.update(f"{file.path}, {file.bytes / 1e6:.1f} MB", spinner=None)


def _report(pushed: Pushed, following: str, as_json: bool) -> None:
    manifest = pushed.manifest
    if as_json:
        record: dict[str, Any] = {"name": manifest.name, "kind": manifest.kind.value, "version": manifest.version}
        record |= {"digest": manifest.digest, "bytes": manifest.size, "licence": manifest.licence}
        record |= {"restricted": manifest.restricted, "signed": pushed.signed, "new": pushed.new}
        typer.echo(json.dumps({**record, "address": pushed.address, "pull": following}))
        return
    signed = "signed" if pushed.signed else "not signed"
    what = f"{manifest.name} version {manifest.version}, {manifest.digest[:12]}, {manifest.size / 1e6:.1f} MB, {signed}"
    typer.echo(f"{what}: {pushed.address}" + ("" if pushed.new else " has it already"))
    typer.echo(f"next: {following}")
