"""Locks and leases without the file system's: a file made exclusively, its maker's name inside, a beating mtime.

An owner that is certainly dead, a process of this boot that is gone, loses its lock at once. One that cannot be looked
up from here (another host, a container, a boot before) loses it when its heartbeat is old, and may be alive after all:
so a lock only saves work. What is correct without it, is correct.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from zoo.errors import StoreError
from zoo.store.local.owner import STALE_S, UNWRITABLE, Owner, abandoned, heart

MAX_RECORD_BYTES = 256


class BusyError(StoreError):
    """Another process or thread holds what is wanted, for longer than was to be waited."""


@dataclass(frozen=True)
class Held:
    """A lock file of this process, beating until `release`."""

    path: Path
    owner: Owner
    descriptor: int

    def release(self) -> None:
        if self.owner.pid != os.getpid():
            return  # a fork's copy
        heart.remove(self.descriptor)
        with suppress(OSError):
            if _read(self.path) == str(self.owner):
                self.path.unlink()


def acquire(path: Path, stale_s: float = STALE_S) -> Held | None:
    """The lock at `path`, taken over where its owner is gone; None while another has it. Raises OSError."""
    owner = Owner.new()
    try:
        descriptor = _create(path)
    except FileExistsError:
        return _take_over(path, owner, stale_s)
    try:
        os.write(descriptor, str(owner).encode())
        os.close(os.dup(descriptor))  # has a network's file system show it to others
    except OSError:
        os.close(descriptor)
        path.unlink(missing_ok=True)
        raise
    heart.add(descriptor, stale_s)
    return Held(path, owner, descriptor)


def _create(path: Path) -> int:
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o644)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, flags, 0o644)


def _take_over(path: Path, owner: Owner, stale_s: float) -> Held | None:
    """Replace the record of a lost owner. One process does: it holds the lock on that very record while it looks."""
    record = _read(path)
    if record is None or not abandoned(path, Owner.parse(record), stale_s):
        return None
    ticket = acquire(path.with_name(f"{path.name}.{hashlib.sha256(record.encode()).hexdigest()[:8]}"), stale_s)
    if ticket is None:
        return None
    try:
        if _read(path) != record:
            return None
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".lock.")
        try:
            os.write(descriptor, str(owner).encode())
            os.replace(temporary, path)
        except OSError:
            os.close(descriptor)
            Path(temporary).unlink(missing_ok=True)
            raise
    finally:
        ticket.release()
    heart.add(descriptor, stale_s)
    return Held(path, owner, descriptor)


def _read(path: Path) -> str | None:
    """What a lock says; for one whose maker did not live to write it, its inode and time. None: it is not there."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_RECORD_BYTES).decode(errors="replace")
            state = os.fstat(file.fileno())
    except FileNotFoundError:
        return None
    return text if Owner.parse(text) else f"? {state.st_ino} {state.st_mtime_ns}"


def pauses(wait_s: float) -> Iterator[None]:
    """Sleep a little longer each time, until `wait_s` have passed; at least one round."""
    begin, pause = time.monotonic(), 0.002
    while True:
        yield
        if time.monotonic() - begin >= wait_s:
            return
        time.sleep(pause * (1 + secrets.randbelow(100) / 100))
        pause = min(pause * 1.5, 0.25)


@contextmanager
def locked(path: Path, what: str, wait_s: float = 30.0, stale_s: float = STALE_S) -> Iterator[None]:
    """Hold the lock at `path` for the block. Raises BusyError, OSError."""
    for _ in pauses(wait_s):
        if held := acquire(path, stale_s):
            break
    else:
        raise BusyError(f"another process {what}; wait for it, or remove {path} if there is none")
    try:
        yield
    finally:
        held.release()


@contextmanager
def hold_lease(folder: Path, digests: Iterable[str], stale_s: float = STALE_S) -> Iterator[None]:
    """Say in a file of `folder` that these blobs are in use, for the block. Nothing where nobody can write."""
    owner = Owner.new()
    path = folder / f"{owner}.lease"
    try:
        descriptor = _create(path)
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        yield
        return
    heart.add(descriptor, stale_s)
    try:
        with os.fdopen(os.dup(descriptor), "w") as file:
            file.writelines(f"{digest}\n" for digest in digests)
        yield
    finally:
        if owner.pid == os.getpid():
            heart.remove(descriptor)
            with suppress(OSError):
                path.unlink()


def leased(folder: Path, stale_s: float = STALE_S) -> set[str]:
    """Every blob that is in use; leases that nobody holds any more are removed."""
    found: set[str] = set()
    for path in folder.glob("*.lease"):
        with suppress(FileNotFoundError):
            if abandoned(path, Owner.parse(path.stem), stale_s):
                path.unlink()
            else:
                found.update(path.read_text().split())
    return found
