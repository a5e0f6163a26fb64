"""What is measured is started here, and ends with who started it, however that ends: a server, a door, a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from export.bundle import Bundle
from serving import guardian, model_repository
from serving.doors.process import Door
from serving.server import TritonServer
from zoo.host import children

ROOMY = ("--requests-per-minute", "1e9", "--calls-per-minute", "1e12")  # of a door that is to refuse nobody


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the block as an exception does, so that all that was started in it is ended."""
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def process(words: Sequence[str], *, heard: bool = False) -> Iterator[subprocess.Popen[str]]:
    """This Python with arguments; it gets SIGTERM after the block, and where this process dies.

    `heard`: what it says is its `stdout`.
    """
    with subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.PIPE if heard else None,
        text=True,
        start_new_session=True,  # Ctrl-C reaches us, and we end it
        preexec_fn=partial(guardian.end_with_parent, signal.SIGTERM),
    ) as running:
        try:
            yield running
        finally:
            running.terminate()
            running.wait()


@contextmanager
def triton(*bundles: Bundle, by_rows: bool = True) -> Iterator[TritonServer]:
    """A server of some generators without canaries, in a folder of its own."""
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        repository = model_repository.write(bundles, folder / "models", by_rows=by_rows)
        with TritonServer(repository, folder / "triton.log", canary_seconds=0, scratch=[folder]) as server:
            yield server


@contextmanager
def triton_and_door(*bundles: Bundle, options: Sequence[str] = ()) -> Iterator[tuple[TritonServer, Door]]:
    """The door refuses nobody for a budget; it has `options` beside."""
    options = (*ROOMY, *options)
    with triton(*bundles) as server, Door(server.grpc_url, server.log.with_name("door.log"), options=options) as door:
        yield server, door


def processor(pid: int) -> float:
    """Seconds, of a process and all that it has started."""
    return own_processor(pid) + sum(map(processor, children(pid)))


def own_processor(pid: int) -> float:
    """Seconds, of a process alone."""
    spent = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return sum(map(int, spent)) / os.sysconf("SC_CLK_TCK")
