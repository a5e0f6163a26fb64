"""A blob on its way: verified chunks in their places, resumable after a kill, published under its true name.

The file's name says who writes it, and claiming it is a rename, which one process wins. So losing the lock to a process
that took this one for dead is harmless: nobody else writes to this inode unless this process is certainly gone.

Where its chunks have BLAKE3 digests, each byte is hashed once: the blob's name is their tree, so what was verified
chunk by chunk has that name rightly. Else its name is its sha256, and bytes are hashed twice: a chunk's digest says
that a mirror is honest, only the whole's that the manifest is, whose blob others will take by that name.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from zoo.errors import StoreError
from zoo.files import sync_folder
from zoo.store.artifact import File
from zoo.store.local.disk import allocate, begin_write_back, two_disks
from zoo.store.local.journal import Journal, feed, write_all
from zoo.store.local.owner import Owner

SUFFIX, FREE = ".part", "free"
CATCH_UP_CHUNKS = 4
FEW_FOLDERS = 8
_NOTHING = memoryview(b"")


class ChunkError(StoreError):
    """Bytes that are not what the manifest promises. `index` is the chunk, None for the file as a whole."""

    def __init__(self, message: str, index: int | None) -> None:
        super().__init__(message)
        self.index = index


class Partial:
    """A blob on its way, owned by this process alone. Threads call `write` at the same time."""

    def __init__(self, path: Path, descriptor: int, file: File) -> None:
        self.file, self.path = file, path
        self._descriptor = descriptor
        self._done: set[int] = set()
        self._under_way: set[int] = set()
        self._state, self._closed = threading.Condition(), False
        self._whole, self._prefix, self._hashing = hashlib.sha256(), 0, False
        self._journal: Journal | None = None
        self._worthless = file.chunk_count < 2

    @property
    def done(self) -> frozenset[int]:
        """The chunks that were verified and are on disk, some perhaps from a killed process."""
        with self._state:
            return frozenset(self._done)

    def write(self, index: int, data: memoryview | bytes) -> None:
        """Verify a chunk, store it, and note it in the journal. Raises ChunkError if the digest differs, OSError.

        A chunk that is done, or that another thread is just writing, is left alone.
        """
        start, length = self._range(index)
        view = memoryview(data).cast("B")
        if view.nbytes != length:
            raise ChunkError(f"{self.file.path}: chunk {index} has {view.nbytes} bytes, expected {length}", index)
        hasher = self.file.hasher(view)
        self._check_chunk(index, hasher.hexdigest())
        with self._state:
            if self._closed:
                raise StoreError(f"{self.file.path} was let go, chunk {index} comes too late: fetch it again")
            if index in self._done or index in self._under_way:
                return
            self._under_way.add(index)
        try:
            self._store(index, view, start, hasher.hexdigest())
            if not self.file.is_tree:
                self._hash_prefix(CATCH_UP_CHUNKS, index, view, hasher)
        finally:
            with self._state:
                self._under_way.discard(index)
                self._state.notify_all()

    def _store(self, index: int, data: memoryview, start: int, digest: str) -> None:
        write_all(self._descriptor, data, start)
        if self._journal:  # a small file's fsync is near anyway
            begin_write_back(self._descriptor, start, data.nbytes)
        with self._state:
            if self._journal:
                self._journal.append(index, digest)
            self._done.add(index)

    def keep(self, index: int, data: memoryview) -> None:
        """Store the first bytes of a chunk, which nobody can verify yet, for the next attempt. Raises OSError."""
        with self._state:
            if self._journal and self.file.chunks and len(data) and not self._closed and index not in self._done:
                write_all(self._descriptor, data, self._range(index)[0])
                self._journal.append_prefix(index, len(data))

    def kept(self, index: int, into: memoryview) -> int:
        """How many first bytes of a chunk an earlier attempt kept, and put into `into`; never all of them."""
        length = self._journal.prefixes.pop(index, 0) if self._journal else 0
        if not 0 < length < len(into):
            return 0
        return os.preadv(self._descriptor, [into[:length]], self._range(index)[0])

    def prepare(self) -> None:
        """Verify what the journal claims, and make room for all bytes. Raises OSError, before the first byte."""
        if self.file.chunk_count < 2:
            return
        journal = Journal(self._descriptor, self.file)
        verified = journal.verified()
        if not journal.started:
            journal.start(verified)
        self._done.update(verified)
        self._journal = journal
        allocate(self._descriptor, self.file.bytes, self.path)

    def copy(self, other: int) -> None:
        """Take over what another open file rightly claims, by its journal or by being complete; it may still grow."""
        claims = Journal(other, self.file).claims
        for index in sorted(claims.keys() - self._done):
            start, length = self.file.chunk_range(index)
            data = os.pread(other, length, start)
            if self.file.hasher(data).hexdigest() == claims[index]:
                with suppress(ChunkError):
                    self.write(index, data)

    def publish(self, target: Path) -> None:
        """Give the complete file its name, durably. Raises ChunkError where it is not what was promised, OSError."""
        self._settle()
        missing = self.file.chunk_count - len(self._done)
        if missing:
            raise StoreError(f"{self.file.path} is not complete, {missing} chunks are missing: fetch it again")
        self._check_whole()
        if self._journal:
            os.ftruncate(self._descriptor, self.file.bytes)
        os.fchmod(self._descriptor, 0o444)
        os.fsync(self._descriptor)
        publish(self.path, target)

    def discard(self) -> None:
        """Keep nothing on leaving: the file changed at its source, and without digests no chunk can be told from it."""
        self._worthless = True

    def release(self) -> None:
        """Let go: what was verified is free for the next owner. Once it is published there is nothing to let go."""
        self._settle()
        with suppress(OSError):
            if self._worthless or Journal(self._descriptor, self.file).is_empty:
                self.path.unlink()
            else:
                free = f"{self.file.blob}.{FREE}-{secrets.token_hex(8)}{SUFFIX}"
                self.path.rename(self.path.with_name(free))
        os.close(self._descriptor)

    def _settle(self) -> None:
        """Take no more chunks, and wait for the threads that are writing one."""
        with self._state:
            self._closed = True
            self._state.wait_for(lambda: not self._under_way)

    def _range(self, index: int) -> tuple[int, int]:
        if not 0 <= index < self.file.chunk_count:
            raise ChunkError(f"{self.file.path} has {self.file.chunk_count} chunks, there is no chunk {index}", index)
        return self.file.chunk_range(index)

    def _check_chunk(self, index: int, seen: str) -> None:
        whole = self.file.sha256 if self.file.chunk_count == 1 else seen
        expected = self.file.chunks[index] if self.file.chunks else whole
        if seen != expected:
            raise ChunkError(
                f"{self.file.path}: chunk {index} has digest {seen[:12]}, expected {expected[:12]}: it was altered on "
                "its way, fetch it again",
                index,
            )

    def _hash_prefix(self, limit: int, index: int = -1, data: memoryview = _NOTHING, hasher: Any = None) -> None:
        """Run the whole file's hash on over what is complete from its start, in whichever thread comes by."""
        with self._state:
            if self._hashing:
                return
            self._hashing = True
        try:
            for _ in range(limit):
                if self._prefix not in self._done:
                    break
                if self._prefix != index:
                    feed(self._whole, self._descriptor, *self.file.chunk_range(self._prefix))
                elif index == 0:
                    self._whole = hasher
                else:
                    self._whole.update(data)
                self._prefix += 1
        finally:
            self._hashing = False

    def _check_whole(self) -> None:
        if self.file.is_tree:
            return
        self._hash_prefix(self.file.chunk_count)
        seen = self._whole.hexdigest()
        if seen == self.file.sha256:
            return
        self._worthless = True  # nothing of it can be trusted
        cause = "its manifest contradicts itself" if self.file.chunks else "it was altered on its way, fetch it again"
        raise ChunkError(
            f"{self.file.path} has sha256 {seen[:12]} as a whole, expected {self.file.sha256[:12]}: {cause}", None
        )


def publish(path: Path, target: Path) -> None:
    """The last step: a complete, durable file takes its name."""
    try:
        _rename(path, target)
    except FileNotFoundError:
        _make_folders(target.parent)
        _rename(path, target)
    sync_folder(target.parent)


def _rename(path: Path, target: Path) -> None:
    try:
        os.rename(path, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        raise two_disks(path.parent, target.parent.parent) from error


def _make_folders(folder: Path) -> None:
    """The folder of a blob; in a store that fills, all of them at once: one wait for the disk, not one for each."""
    blobs = folder.parent
    folder.mkdir(parents=True, exist_ok=True)
    if len(os.listdir(blobs)) > FEW_FOLDERS:
        for first in range(256):
            (blobs / f"{first:02x}").mkdir(exist_ok=True)
    sync_folder(blobs)


def open_partial(folder: Path, file: File) -> Partial:
    """A partial of this process's own, with all that others left. Raises OSError: ENOSPC before the first byte."""
    path = Path(f"{folder}/{file.blob}.{Owner.new()}{SUFFIX}")
    others = [other for other, _ in leftovers(folder, file.blob)] if file.chunk_count > 1 else []
    create = 0 if any(_claim(other, path) for other in others) else os.O_CREAT | os.O_EXCL
    partial = Partial(path, os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | create, 0o600), file)
    try:
        partial.prepare()
        for other in others:
            copy_left(other, partial)
    except BaseException:
        partial.release()
        raise
    return partial


def leftovers(folder: Path, blob: str = "") -> Iterator[tuple[Path, bool]]:
    """Every partial (of one blob), and whether it may be claimed: nobody who still lives is writing it."""
    for path in sorted(folder.glob(f"{blob or '*'}.*{SUFFIX}")):
        owner = path.name[65 : -len(SUFFIX)]
        known = Owner.parse(owner)
        yield path, known.certainly_dead if known else owner.startswith(FREE)


def _claim(other: Path, path: Path) -> bool:
    """Make another's partial this process's own, by a rename that one process wins."""
    owner = Owner.parse(other.name[65 : -len(SUFFIX)])
    if owner and not owner.certainly_dead:
        return False
    try:
        other.rename(path)
    except FileNotFoundError:
        return False
    path.chmod(0o600)
    return True


def copy_left(other: Path, partial: Partial) -> None:
    """Verify and take over what a leftover, or a complete file, has of a partial's chunks."""
    try:
        descriptor = os.open(other, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        partial.copy(descriptor)
    finally:
        os.close(descriptor)


def clear(folder: Path, blob: str) -> None:
    """Remove what nobody needs once a blob is there."""
    for path, claimable in leftovers(folder, blob):
        if claimable:
            path.unlink(missing_ok=True)
