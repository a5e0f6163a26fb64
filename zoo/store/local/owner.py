"""Who holds something in the store: a process that others can tell from a dead one, and what it holds beats."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import socket
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

STALE_S = 60.0
NAMELESS_S = 2.0  # between making a file and saying whose it is
UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)


@dataclass(frozen=True)
class Owner:
    """One holder of one thing: the process, and a serial that tells its holdings apart."""

    world: str  # host, boot and pid name space: within one world a pid can be looked up
    pid: int
    started: str  # by the kernel's clock; a pid is used again, with another start
    serial: str

    @classmethod
    def new(cls) -> Owner:
        pid = os.getpid()
        return cls(_world(), pid, _own_start(pid), secrets.token_hex(4))

    @classmethod
    def parse(cls, text: str) -> Owner | None:
        words = text.strip().split("-")
        if len(words) != 4 or not words[1].isascii() or not words[1].isdecimal():
            return None
        return cls(words[0], int(words[1]), words[2], words[3])

    def __str__(self) -> str:
        return f"{self.world}-{self.pid}-{self.started}-{self.serial}"

    @property
    def certainly_dead(self) -> bool:
        """Whether the process is known to be gone; False where it cannot be looked up from here."""
        if self.world != _world() or not _boot():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):
            return False
        started = _started(self.pid)
        return bool(started) and started != self.started


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


@cache
def _world() -> str:
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return hashlib.sha256("\0".join((socket.gethostname(), _boot(), space)).encode()).hexdigest()[:16]


def _started(pid: int) -> str:
    """When a process began, in clock ticks since boot; "zombie" once it has ended, "" where that is not told."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "zombie" if fields[0] in "ZX" else fields[19]


@cache
def _own_start(pid: int) -> str:
    return _started(pid)


class Heart:
    """One thread a process that keeps the files of everything held young."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Hold nothing: a fork's child holds nothing of its parent's, and has no thread."""
        self._changed = threading.Condition()
        self._held: dict[int, float] = {}  # descriptor -> seconds between beats
        self._thread: threading.Thread | None = None

    def add(self, descriptor: int, stale_s: float) -> None:
        with self._changed:
            hurry = stale_s / 6 < min(self._held.values(), default=STALE_S / 6)
            self._held[descriptor] = stale_s / 6
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, name="genzoo-heartbeat", daemon=True)
                self._thread.start()
            elif hurry:
                self._changed.notify()

    def remove(self, descriptor: int) -> None:
        """Stop, and close the descriptor: under the lock, so that no beat meets a number that is used again."""
        with self._changed:
            if self._held.pop(descriptor, None) is not None:
                os.close(descriptor)

    def _beat(self) -> None:
        with self._changed:
            while True:
                for descriptor in self._held:
                    with suppress(OSError):
                        os.utime(descriptor)
                self._changed.wait(min(self._held.values(), default=STALE_S / 6))


heart = Heart()
os.register_at_fork(after_in_child=heart.forget)


def abandoned(path: Path, owner: Owner | None, stale_s: float = STALE_S) -> bool:
    """Whether what `owner` holds at `path` may be taken; None: its maker has not said yet who it is. Raises OSError."""
    if owner is None:
        stale_s = min(stale_s, NAMELESS_S)
    elif owner.certainly_dead:
        return True
    try:
        return _now(path.parent) - path.stat().st_mtime > stale_s
    except FileNotFoundError:
        return False


_clocks: dict[Path, tuple[float, float]] = {}


def _now(folder: Path) -> float:
    """The time by the clock that stamps a folder's files, which on a shared one is not this host's."""
    asked = time.monotonic()
    known = _clocks.get(folder)
    if known is None or asked - known[0] > 10:
        try:
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".clock.") as probe:
                known = _clocks[folder] = asked, os.fstat(probe.fileno()).st_mtime
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            return time.time()
    return known[1] + asked - known[0]
