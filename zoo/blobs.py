"""The local store of what was pulled, pushed or imported: blobs by sha256, and refs that name manifests.

    blobs/<aa>/<sha256>     a file, read-only, complete: it took its name only after its bytes were verified and durable
    partial/<sha256>.*      what is on its way, with the journal of its finished chunks
    locks/ leases/          who is fetching what, and who is using what: files with a heartbeat
    refs/<name>.json        which manifest a name stands for, its version, where it came from and who signed it
    views/<digest>/         an artifact laid out as a folder, made once from its blobs

Any number of processes on any number of hosts may use it at the same time; neither locks of the file system nor links
are needed. A lost race costs a second download, never a wrong byte.

How to fetch with it, from as many threads as one likes (a publish waits for the disk, so eight threads and more keep
small files fast: the file system joins their commits):

    with store.lease(manifest digests), store.receive(file) as partial:
        if partial is not None:                              # None: it is here, perhaps from another process by now
            for index in missing(partial.done):              # what an earlier attempt left is in `done`
                partial.write(index, data)                   # ChunkError: not what was promised; nothing was stored

Leaving `receive` well publishes; leaving it by an exception keeps every verified chunk for the next attempt. A thread
that waits for one blob while it holds another could wait for ever: `receive(file, wait_s=0)` raises Busy instead, so
that it can do something else first. A file without chunk digests that turns out wrong as a whole raises ChunkError with
`index` None on leaving, and all of it is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Protocol

from zoo.artifact import File, Manifest
from zoo.store import StoreError


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


class ChunkError(StoreError):
    """Bytes that are not what the manifest promises. `index` is the chunk, None for the file as a whole."""

    def __init__(self, message: str, index: int | None) -> None:
        super().__init__(message)
        self.index = index


class Busy(StoreError):
    """Another process or thread has the blob on its way, for longer than was to be waited."""


class RollbackError(StoreError):
    """A name would go back to an older version, or a version would change its content."""


class BlobStore:
    """The store at `root`. Methods raise StoreError, or OSError (ENOSPC, EROFS, ...) and leave nothing half-written."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def has(self, sha256: str) -> bool: ...
    def path(self, sha256: str) -> Path: ...
    def add(self, path: Path) -> str: ...
    def add_bytes(self, data: bytes) -> str: ...
    def receive(self, file: File, wait_s: float = inf) -> AbstractContextManager[Partial | None]: ...
    def free_bytes(self) -> int: ...
    def ref(self, name: str) -> Ref | None: ...
    def refs(self) -> Iterator[Ref]: ...
    def set_ref(self, ref: Ref, allow_rollback: bool = False) -> None: ...
    def remove_ref(self, name: str) -> None: ...
    def manifest(self, ref: Ref) -> Manifest: ...
    def view(self, manifest: Manifest) -> Path: ...
    def lease(self, digests: Iterable[str]) -> AbstractContextManager[None]: ...
    def collect(self, max_bytes: int | None = None, max_age_s: float | None = None, dry_run: bool = False) -> Any: ...
    def verify(self) -> Any: ...
