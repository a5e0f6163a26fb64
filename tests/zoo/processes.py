"""Forked processes that break at a chosen step: killed at the n-th call to the system, or refused by it."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

# Every call that changes what is on the disk, as Python code and its standard library reach it.
WRITING = ("open", "write", "pwrite", "fsync", "rename", "replace", "unlink", "mkdir", "fchmod", "ftruncate", "link")


def fork(job: Callable[[], object]) -> int:
    """Run a job in a child: its process id. It ends with 0, with 3 for an OSError, with 1 for anything else."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        job()
        code = 0
    except OSError as error:
        code = 3 if error.errno == errno.ENOSPC else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def wait(child: int) -> int:
    """How a child ended: its exit code, or the negative signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(job: Callable[[], object]) -> int:
    return wait(fork(job))


class Breaker:
    """Counts calls to the system in this process, and has the n-th one go wrong."""

    def __init__(self, at: int, what: Callable[[Callable[..., Any], tuple[Any, ...]], Any]) -> None:
        self.at, self.what, self.count = at, what, 0

    def install(self) -> None:
        """For the rest of this process's life: only ever in a child."""
        for name in WRITING:
            setattr(os, name, self._wrap(getattr(os, name)))

    def _wrap(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **keywords: Any) -> Any:
            if call.__name__ == "open" and not arguments[1] & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
                return call(*arguments, **keywords)
            self.count += 1
            if self.count == self.at:
                return self.what(call, arguments)
            return call(*arguments, **keywords)

        return wrapped


def kill(call: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """The process ends before the call is made, as by `kill -9`."""
    os.kill(os.getpid(), signal.SIGKILL)


def kill_within(call: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Half of a write happens, or all of another call, and the process ends."""
    if call.__name__ in ("write", "pwrite"):
        descriptor, data, *rest = arguments
        arguments = (descriptor, bytes(data)[: len(data) // 2], *rest)
    with suppress(OSError):
        call(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)


def no_space(call: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """The disk is full: half of a write still fits."""
    if call.__name__ in ("write", "pwrite"):
        descriptor, data, *rest = arguments
        call(descriptor, bytes(data)[: len(data) // 2], *rest)
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "the store")
