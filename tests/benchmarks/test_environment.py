"""What a machine is known by, and what others take of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import environment
from benchmarks.measure.workload import RUNTIMES
from zoo.host import peak_bytes


def test_a_host_is_a_digest_of_the_first_id_that_there_is(tmp_path: Path) -> None:
    missing, empty, one, two = (tmp_path / name for name in ("missing", "empty", "one", "two"))
    empty.write_text("uninitialized\n")
    one.write_text("0123456789abcdef0123456789abcdef\n")
    two.write_text("another\n")
    found = environment.host([missing, empty, one, two])
    assert found == environment.host([one])
    assert found != environment.host([two])
    assert found is not None
    assert len(found) == 12
    assert found not in one.read_text()
    assert environment.host([missing, empty]) is None


@pytest.mark.parametrize("runtime", [name for name in RUNTIMES if "torch" not in environment.DECIDING[name]])
def test_software_is_of_its_runtime(runtime: str) -> None:
    found = environment.software(runtime)
    assert {"python", "numpy", "genzoo", "threads"} <= set(found)
    assert ("tritonserver" in found) == (runtime == "triton")
    assert "torch" not in found
    assert found["threads"] == len(os.sched_getaffinity(0))


def test_what_this_process_starts_is_not_taken_by_others() -> None:
    """A child is ours while it runs, and once it has ended."""
    before, deadline = environment._own_seconds(), time.monotonic() + 30.0
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as child:
        while environment._own_seconds() - before < 0.5 and time.monotonic() < deadline:
            time.sleep(0.02)
        running = environment._own_seconds() - before
        child.kill()
    assert running >= 0.5
    assert environment._own_seconds() - before >= running - 0.1


def test_the_peak_of_what_it_started_is_memory_that_was_held() -> None:
    program = (
        "data = bytearray(60_000_000); data[::4096] = b'x' * len(data[::4096]); del data; print(flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout
        assert child.stdin
        child.stdout.readline()
        assert environment.descendants_peak_bytes() > 60_000_000
        child.stdin.write("\n")
        child.stdin.flush()
    assert peak_bytes(child.pid) == 0
    assert peak_bytes() > 10_000_000


def test_noise_is_a_clock_or_a_neighbour_beyond_the_limit() -> None:
    assert not environment.noisy(2.0, 2.0, 0.0)
    assert environment.noisy(2.4, 2.0, 0.0)
    assert environment.noisy(2.0, 2.0, 0.2)
