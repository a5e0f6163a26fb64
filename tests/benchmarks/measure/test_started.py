"""What a measuring command has started does not outlive it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

STARTER = """
import time
from benchmarks.measure import started

with started.ended_by_sigterm(), started.process(["-c", "import time; time.sleep(600)"]) as running:
    print(running.pid, flush=True)
    time.sleep(600)
"""


def _runs(pid: int) -> bool:
    try:
        return "(zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_process_ends_with_who_started_it(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", STARTER], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout
        pid = int(starter.stdout.readline())
        assert _runs(pid)
        starter.send_signal(number)
        assert starter.wait(20) == (128 + number if number is signal.SIGTERM else -number)
    deadline = time.monotonic() + 10
    while _runs(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _runs(pid)
