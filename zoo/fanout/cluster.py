"""A Ray cluster as this process sees it: orders to the process that talks to Ray, and its answers."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

from zoo.fanout.driver import HeadLostError, answers
from zoo.fanout.worker import Cargo, FanOutError

END_S = 30.0  # for what is under way to clean up
ROOT = Path(__file__).parents[2]


class Cluster:
    """The nodes of the cluster whose head is at `address`. Raises FanOutError where it cannot be used."""

    def __init__(self, address: str, told: Callable[[str], None], nodes: int | None = None) -> None:
        check(address)
        self.address, self._told = address, told
        self._pipe, theirs = Pipe()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  (until `close`)
        paths = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        command = f"from zoo.fanout.driver import serve; serve({theirs.fileno()}, {address!r}, {nodes!r})"
        self._process = subprocess.Popen(
            [sys.executable, "-c", command],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=self._said,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        theirs.close()
        try:
            list(self._answers())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._pipe.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._said.close()

    def everywhere(self, function: Callable[[], Any], cargo: Cargo) -> dict[str, Any]:
        paths = {digest: str(path) for digest, path in cargo.items()}
        self._pipe.send(("everywhere", pickle.dumps((function, ())), paths))
        return {name: pickle.loads(found) for name, found in self._answers()}

    def map(
        self, function: Callable[[Any], Any], pieces: Sequence[Any], cargo: Sequence[Cargo], exclusive: bool
    ) -> Iterator[tuple[int, Any]]:
        """Ends what is under way where nobody waits for it any more."""
        payloads = [pickle.dumps((function, (piece,))) for piece in pieces]
        paths = [{digest: str(path) for digest, path in each.items()} for each in cargo]
        self._pipe.send(("map", payloads, paths, exclusive))
        answered = self._answers()
        try:
            for index, found in answered:
                yield index, pickle.loads(found)
        except (GeneratorExit, KeyboardInterrupt):
            self._cancel()
            raise

    def _answers(self) -> Iterator[tuple[Any, bytes]]:
        """What is found, until the order is carried out. Raises FanOutError, and what a piece raised."""
        while True:
            try:
                kind, *given = self._pipe.recv()
            except (EOFError, ConnectionError):
                raise self._ended() from None
            if kind == "end":
                return
            if kind == "error":
                raise given[0]
            if kind == "told":
                self._told(given[0])
            else:
                yield given[0], given[1]

    def _cancel(self) -> None:
        """Whatever still comes is nobody's."""
        try:
            self._pipe.send(("cancel",))
            while self._pipe.poll(END_S) and self._pipe.recv()[0] not in ("end", "error"):
                pass
        except (EOFError, OSError, pickle.UnpicklingError):  # cut off in the middle of an answer
            return

    def _ended(self) -> FanOutError:
        """Ray ends the process that talks to it where it cannot go on."""
        if not answers(self.address):
            return HeadLostError.at(self.address)
        self._process.wait(END_S)
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
        return FanOutError(f"Ray ended its process ({lines[-1][:300]}); what was done is kept: give the command again")


def check(address: str) -> None:
    """Raises FanOutError, before anything is started, where no cluster can be there."""
    if find_spec("ray") is None:
        raise FanOutError("Ray is not installed: `pip install genzoo[distributed]`")
    host, _, port = address.rpartition(":")
    if not host or "/" in address or not port.isdecimal():
        raise FanOutError(f"--ray {address!r}: expected the head's host:port, as `ray start --head` prints it")
    if not answers(address):
        raise FanOutError(f"no cluster answers at {address}: `ray start --head --port {port}` starts one there")
