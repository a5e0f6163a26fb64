"""Where artifacts come from and go to. A kind of remote is one file here: directory, http, hf, oci."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from zoo.errors import GenzooError
from zoo.store.artifact import File, Manifest
from zoo.store.transfer.connections import public
from zoo.store.transfer.sources import Source

REMOTE_VARIABLE = "GENZOO_REMOTE"  # the remotes of who names none; commas between them
SCHEMES = {"http": "http", "https": "http", "hf": "hf", "oci": "oci", "file": "directory", "": "directory"}


class RemoteError(GenzooError):
    """A remote does not have what was asked for, or does not answer; the message names it and says what to do."""


class NotFoundError(RemoteError):
    """The remote answers, and has no such artifact or version."""


@dataclass(frozen=True)
class Published:
    """What a remote says about an artifact: its manifest's bytes, as they were published, and the signature over it."""

    manifest: bytes
    signature: bytes | None = None


class Remote(Protocol):
    """One place that holds artifacts by name. Nothing that it says is believed before it was verified."""

    url: str

    def find(self, name: str, version: int | None = None) -> Published:
        """The newest version of an artifact, or the given one. Raises NotFoundError, RemoteError."""

    def source(self, manifest: Manifest) -> Source:
        """Where the bytes of that artifact's files can be read. Raises RemoteError."""

    def push(self, manifest: Manifest, signature: bytes | None, path_of: Callable[[File], Path]) -> str:
        """Publish: files first, the manifest last, so that no reader sees half; the address. Raises RemoteError.

        What the remote already holds is not sent again. A version that is there with another digest is refused; a
        signature takes the place of the one before.
        """


def open_remote(url: str) -> Remote:
    """The remote at `url`: a path, `http(s)://host/path`, `hf://owner`, `oci://host/namespace`. Raises RemoteError."""
    scheme, separator, _ = url.partition("://")
    scheme = scheme.lower() if separator else ""
    if scheme not in SCHEMES:
        raise RemoteError(f"no remote of kind {scheme!r}: write a folder, http(s)://, hf:// or oci://")
    try:
        found: Remote = importlib.import_module(f"zoo.store.remotes.{SCHEMES[scheme]}").open_remote(url)
    except (ValueError, RuntimeError) as error:  # of urllib and pathlib
        raise RemoteError(f"{public(url)}: {error}") from error
    return found
