"""The local store of what was pulled, pushed or imported: blobs by sha256, and refs that name manifests.

    blobs/<aa>/<sha256>     a file, read-only, complete: it took its name only after its bytes were verified and durable
    partial/<sha256>.*      what is on its way, with the journal of its finished chunks
    refs/<name>.json        which manifest a name stands for, its version, where it came from and who signed it
    views/<digest>/         an artifact laid out as a folder, made once from its blobs

Any number of processes on any number of hosts may use it at the same time; neither locks of the file system nor links
are needed. A lost race costs a second download, never a wrong byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from zoo.artifact import File, Manifest


@dataclass(frozen=True)
class Ref:
    """What a name stands for here."""

    name: str
    manifest: str  # the sha256 of the manifest, which is a blob like any other
    version: int
    source: str = ""  # the address it came from
    signature: str = ""  # the sha256 of its signature's blob
    signer: str = ""  # who signed, as verified when it was pulled
    accepted: str = ""  # the restricted licence that its user accepted
    pulled_at: str = ""


class Partial(Protocol):
    """A blob on its way, owned by this process alone. Threads call `write` at the same time."""

    file: File
    done: frozenset[int]  # the chunks that were verified and are on disk, some perhaps from a killed process

    def write(self, index: int, data: memoryview) -> None:
        """Verify a chunk, store it, and note it in the journal. Raises ChunkError if the digest differs, OSError."""


class BlobStore:
    """The store at `root`. Methods raise StoreError, or OSError (ENOSPC, EROFS, ...) and leave nothing half-written."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def has(self, sha256: str) -> bool: ...
    def path(self, sha256: str) -> Path: ...
    def add(self, path: Path) -> str: ...
    def add_bytes(self, data: bytes) -> str: ...
    def receive(self, file: File) -> AbstractContextManager[Partial | None]: ...
    def free_bytes(self) -> int: ...
    def ref(self, name: str) -> Ref | None: ...
    def refs(self) -> Iterator[Ref]: ...
    def set_ref(self, ref: Ref) -> None: ...
    def remove_ref(self, name: str) -> None: ...
    def manifest(self, ref: Ref) -> Manifest: ...
    def view(self, manifest: Manifest) -> Path: ...
    def lease(self, digests: Iterable[str]) -> AbstractContextManager[None]: ...
    def collect(self, max_bytes: int | None = None, max_age_s: float | None = None, dry_run: bool = False) -> Any: ...
    def verify(self) -> Any: ...
