"""The local store of what was pulled, pushed or imported: blobs by digest, and refs that name manifests.

    blobs/<aa>/<digest>     a file, read-only, complete: it took its name only after its bytes were verified and durable
    partial/<digest>.*      what is on its way, with the journal of its finished chunks
    locks/ leases/          who is fetching what, and who is using what: files with a heartbeat
    refs/<name>.json        which manifest a name stands for, its version, where it came from and who signed it
    views/<digest>/         an artifact laid out as a folder, made once from its blobs

A blob's name is `File.blob`: the sha256 of its bytes or, where its manifest has BLAKE3 digests of chunks, their tree.

Any number of processes on any number of hosts may use it at the same time; neither locks of the file system nor links
are needed. A lost race costs a second download, never a wrong byte.

How to fetch with it, from as many threads as one likes (a publish waits for the disk, so eight threads and more keep
small files fast: the file system joins their commits):

    with store.lease(manifest digests), store.receive(file) as partial:
        if partial is not None:                              # None: it is here, perhaps from another process by now
            for index in missing(partial.done):              # what an earlier attempt left is in `done`
                partial.write(index, data)                   # ChunkError: not what was promised; nothing was stored

Leaving `receive` well publishes; leaving it by an exception keeps every verified chunk for the next attempt. A thread
that waits for one blob while it holds another could wait for ever: `receive(file, wait_s=0)` raises BusyError instead,
so that it can do something else first. A file that turns out wrong as a whole raises ChunkError with `index` None on
leaving, and all of it is gone.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from math import inf
from pathlib import Path

from zoo.errors import StoreError
from zoo.store.artifact import MAX_MANIFEST_BYTES, ArtifactError, File, Manifest, describe
from zoo.store.local import trash, views
from zoo.store.local.disk import check_folders, check_one_disk
from zoo.store.local.journal import write_all
from zoo.store.local.locks import BusyError, Held, acquire, hold_lease, pauses
from zoo.store.local.owner import STALE_S, Owner
from zoo.store.local.partial import SUFFIX, ChunkError, Partial, clear, copy_left, open_partial, publish
from zoo.store.local.refs import Ref, Refs, RollbackError

__all__ = ["BlobStore", "BusyError", "ChunkError", "Partial", "Ref", "RollbackError"]

FOLDERS = ("blobs", "partial", "locks", "leases", "refs", "views")
TOUCH_S = 60.0  # how exactly the last use of a blob is known
_DIGEST = re.compile(r"[0-9a-f]{64}")


class BlobStore:
    """The store at `root`. Methods raise StoreError, or OSError (ENOSPC, EROFS, ...) and leave nothing half-written."""

    def __init__(self, root: Path, stale_s: float = STALE_S) -> None:
        check_folders([root, *(root / name for name in FOLDERS)])
        self.root, self.stale_s = root, stale_s
        self._refs = Refs(root)
        self._holders: dict[str, int] = {}  # blob -> the thread that receives it

    def has(self, blob: str) -> bool:
        """Whether a blob is here; asking counts as using it."""
        path = self._path(blob)
        try:
            state = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return trash.rescue(self.root, path)
        with suppress(OSError):  # a cache that is read-only does not know what is used
            if time.time() - state.st_mtime > TOUCH_S:
                os.utime(path)
        return True

    def path(self, blob: str) -> Path:
        """Where a blob lies, complete and read-only. Raises StoreError."""
        if not self.has(blob):
            raise StoreError(f"the blob {blob[:12]} is not in {self.root}; pull what it belongs to again")
        return self._path(blob)

    def add(self, path: Path, name: str) -> File:
        """Copy a file into the store: its entry for a manifest, as `name`."""
        with self._private() as (descriptor, temporary):
            shutil.copyfile(path, temporary)
            file = describe(temporary, name)
            self._publish(descriptor, temporary, file.blob)
            return file

    def add_bytes(self, data: bytes) -> str:
        """Put a few bytes, such as a manifest, into the store: their sha256."""
        sha256 = hashlib.sha256(data).hexdigest()
        if not self.has(sha256):
            with self._private() as (descriptor, temporary):
                write_all(descriptor, memoryview(data), 0)
                self._publish(descriptor, temporary, sha256)
        return sha256

    @contextmanager
    def receive(self, file: File, wait_s: float = inf) -> Iterator[Partial | None]:
        """A partial to fill with a file's chunks; None if the blob is here, perhaps from another process meanwhile.

        Leaving well publishes it, leaving by an exception keeps what was verified. Raises BusyError, ChunkError.
        """
        held = self._own(file, wait_s)
        if held is None:
            yield None
            return
        try:
            partial = open_partial(self._partials(), file)
            try:
                if file.is_tree and self.has(file.sha256):  # came by an older manifest, or by one without chunks
                    copy_left(self._path(file.sha256), partial)
                yield partial
                partial.publish(self._path(file.blob))
            finally:
                partial.release()
            if file.chunk_count > 1:
                clear(self._partials(), file.blob)
        finally:
            self._holders.pop(file.blob, None)
            held.release()

    def free_bytes(self) -> int:
        """How many more bytes the file system of the store takes from this user."""
        folder = next(folder for folder in (self.root, *self.root.absolute().parents) if folder.is_dir())
        state = os.statvfs(folder)
        return state.f_bavail * state.f_frsize

    def ref(self, name: str) -> Ref | None:
        """What a name stands for; None where it is not here. Raises StoreError for a damaged record."""
        return self._refs.get(name)

    def refs(self) -> Iterator[Ref]:
        """Every ref, by name. Raises StoreError for a damaged one."""
        return self._refs.all()

    def names(self) -> list[str]:
        """What is named here, damaged records too."""
        return self._refs.names()

    def set_ref(self, ref: Ref, allow_rollback: bool = False) -> None:
        """Have a name stand for a manifest. Raises RollbackError for an older version than was ever here."""
        self._refs.set(ref, allow_rollback)

    def remove_ref(self, name: str, only: Ref | None = None) -> bool:
        """Forget a name (if it is `only` this); its blobs stay until the next `collect`, how new it was stays known."""
        return self._refs.remove(name, only)

    def manifest(self, ref: Ref) -> Manifest:
        """The manifest that a ref names, its digest checked. Raises StoreError."""
        data = self._read(ref.manifest, f"the manifest of {ref.name}")
        try:
            return Manifest.from_bytes(data)
        except ArtifactError as error:
            raise StoreError(f"{error}; `genzoo pull {ref.name}` fetches it again") from error

    def view(self, manifest: Manifest) -> Path:
        """An artifact as a folder of its files. Raises StoreError where a blob is missing or altered."""
        folder = self.root / "views" / manifest.digest
        expected = self.entries(manifest)
        self.has(manifest.digest)
        if not views.matches(folder, expected):
            with self.lease(file.blob for file in manifest.files):
                blobs = {file.path: self.path(file.blob) for file in manifest.files}
                views.build(folder, expected, blobs, manifest.kind)
        with suppress(OSError):
            os.utime(folder)
        return folder

    def entries(self, manifest: Manifest) -> dict[str, views.Entry]:
        """What the folder of an artifact holds: its files, its manifest, and the signature where a ref knows it."""
        return views.entries(manifest, self._signature(manifest))

    @contextmanager
    def lease(self, digests: Iterable[str]) -> Iterator[None]:
        """Keep blobs, here or still on their way, from being collected during the block."""
        wanted = [blob for blob in digests if self._path(blob)]
        with hold_lease(self.root / "leases", wanted, self.stale_s):
            yield

    def _own(self, file: File, wait_s: float) -> Held | None:
        """The lock on a blob that is not here; None as soon as it is. Raises BusyError."""
        lock = Path(f"{self.root}/locks/{file.blob}.lock")
        for _ in pauses(wait_s):
            if self.has(file.blob):
                return None
            if held := acquire(lock, self.stale_s):
                if not self.has(file.blob):
                    self._holders[file.blob] = threading.get_ident()
                    return held
                held.release()
            elif self._holders.get(file.blob) == threading.get_ident():
                raise BusyError(f"{file.path} is being fetched by this very thread: leave that `receive` first")
        raise BusyError(f"{file.path} is being fetched by another process, as {lock} says; wait for it")

    def _path(self, blob: str) -> Path:
        if not _DIGEST.fullmatch(blob):
            raise StoreError(f"{blob!r} is no digest, so no blob has that name")
        return Path(f"{self.root}/blobs/{blob[:2]}/{blob}")

    def _partials(self) -> Path:
        folder = self.root / "partial"
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
        check_one_disk(folder, self.root / "blobs")
        return folder

    @contextmanager
    def _private(self) -> Iterator[tuple[int, Path]]:
        """A temporary file, gone at the end unless it took another name."""
        path = self._partials() / f"{'0' * 64}.{Owner.new()}{SUFFIX}"
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            yield descriptor, path
        finally:
            os.close(descriptor)
            path.unlink(missing_ok=True)

    def _publish(self, descriptor: int, temporary: Path, blob: str) -> None:
        if not self.has(blob):
            os.fchmod(descriptor, 0o444)
            os.fsync(descriptor)
            publish(temporary, self._path(blob))

    def _read(self, sha256: str, what: str) -> bytes:
        """A small blob's bytes, verified."""
        path = self._path(sha256)
        if not path.is_file() and not trash.rescue(self.root, path):
            raise StoreError(f"{path}, {what}, is missing; pull it again")
        with path.open("rb") as file:
            data = file.read(MAX_MANIFEST_BYTES + 1)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise StoreError(f"{path}, {what}, was altered; `genzoo verify` sets it aside")
        return data

    def _signature(self, manifest: Manifest) -> bytes | None:
        """The signature over a manifest, where a ref knows it."""
        ref = self.ref(manifest.name)
        if ref is None or ref.manifest != manifest.digest or not ref.signature:
            return None
        return self._read(ref.signature, f"the signature of {ref.name}")
