"""`python -I -S guardian.py`: runs a server that must not outlive whoever started it; the standard library only.

The first line of standard input is the task, in JSON, and the answer is the server's process id. The server ends once
standard input ends, after `FAREWELL` where its owner wants it so; without it where the owner died, of SIGKILL too. It
ends with its guardian as well.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

SHARED_MEMORY = Path("/dev/shm")
FAREWELL = "end"
SET_PARENT_DEATH_SIGNAL = 1  # of prctl(2)
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # which a terminal or a service manager sends to everyone


def task(
    command: list[str], environment: dict[str, str], folder: Path, grace_s: float, prefix: str, scratch: list[Path]
) -> dict[str, Any]:
    """What a guardian does: `command` runs in `folder`, and has `grace_s` to end by itself once it was told to.

    Shared memory named `prefix`* goes with it; so do the folders `scratch`, if the owner can no longer remove them.
    """
    return {
        "command": command,
        "environment": environment,
        "folder": str(folder),
        "grace_s": grace_s,
        "prefix": prefix,
        "scratch": [str(path) for path in scratch],
    }


def main() -> int:
    """The server's exit code, as a shell gives it; its output goes to standard error."""
    wanted = json.loads(sys.stdin.readline())
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)  # not SIG_IGN, which the server would inherit
    server = subprocess.Popen(
        wanted["command"],
        env=wanted["environment"],
        cwd=wanted["folder"],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        stderr=sys.stderr,
        start_new_session=True,  # a group of its own, of which nothing is left
        preexec_fn=end_with_parent,
    )
    print(server.pid, flush=True)
    orphaned = threading.Event()
    threading.Thread(target=_end_with_owner, args=(server, wanted["grace_s"], orphaned), daemon=True).start()
    code = server.wait()
    clean(server.pid, wanted["prefix"])
    for folder in wanted["scratch"] if orphaned.is_set() else ():
        shutil.rmtree(folder, ignore_errors=True)
    return code if code >= 0 else 128 - code


def end_with_parent(number: int = signal.SIGKILL) -> None:
    """This process gets the signal where its parent is killed: nobody else is left who would end it."""
    ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, number)


def _end_with_owner(server: subprocess.Popen[bytes], grace_s: float, orphaned: threading.Event) -> None:
    """A server that holds an open stream would never end by itself."""
    if FAREWELL not in sys.stdin.read():
        orphaned.set()
    server.terminate()
    try:
        server.wait(grace_s)
    except subprocess.TimeoutExpired:
        server.kill()


def hide(secret: str, pid: int) -> None:
    """Triton takes the secret as an argument only, which every user of the machine can read: overwrite it there.

    Raises OSError.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end, see proc_pid_stat(5)
    with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
        memory.seek(start)
        arguments = memory.read(end - start)
        memory.seek(start)
        memory.write(arguments.replace(secret.encode(), b"*" * len(secret)))


def clean(group: int, prefix: str) -> None:
    """Leave neither processes of the group nor shared memory behind."""
    with contextlib.suppress(ProcessLookupError):
        if group:  # 0 would be our own
            os.killpg(group, signal.SIGKILL)
    for region in SHARED_MEMORY.glob(f"{prefix}*"):
        region.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
