"""A process that must not outlive this one, under its guardian (see `guardian`)."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from serving import guardian


class Guarded:
    """What a guardian's `task` runs, from now on; what it says goes to `log`. `pid` is its, 0 where it never began."""

    def __init__(self, task: dict[str, Any], log: Path) -> None:
        self.prefix = str(task["prefix"])
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as file:
            self._guardian = subprocess.Popen(
                [sys.executable, "-I", "-S", guardian.__file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                start_new_session=True,  # Ctrl-C reaches us, and we end it
            )
        assert self._guardian.stdin
        assert self._guardian.stdout
        with contextlib.suppress(BrokenPipeError):  # one that is dead already is told as any that did not start
            self._guardian.stdin.write(json.dumps(task) + "\n")
            self._guardian.stdin.flush()
        self.pid = int(self._guardian.stdout.readline() or 0)

    @property
    def runs(self) -> bool:
        return self._guardian.poll() is None

    def wait(self) -> int:
        """Its exit code, as a shell gives it."""
        return self._guardian.wait()

    def end(self) -> None:
        """The guardian ends it and cleans up; where that was killed, it is done here."""
        assert self._guardian.stdout
        self._guardian.stdout.close()
        assert self._guardian.stdin
        if not self._guardian.stdin.closed:
            with contextlib.suppress(BrokenPipeError):  # it has ended with its server
                self._guardian.stdin.write(guardian.FAREWELL)
            with contextlib.suppress(BrokenPipeError):
                self._guardian.stdin.close()
        if self._guardian.wait() < 0:
            guardian.clean(self.pid, self.prefix)
