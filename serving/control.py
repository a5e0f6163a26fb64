"""A running `genzoo serve` is told by commands of the same user: `reload` makes it serve what is new of a generator.

Through a socket in the private folder of the server, whose place stands beside its model repository; one request a
connection, a line of JSON each way. Nothing of it is reachable by network.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import GenzooError
from zoo.files import home, write_json

if TYPE_CHECKING:
    from serving.server import TritonServer

PLACE = "control.json"
MAX_LINE = 1 << 20  # of what a command may say


class ControlError(GenzooError):
    """No server here has that generator, or it refused; the message says which and why."""


@dataclass(frozen=True)
class Running:
    """A server that runs on this machine for this user: its process, its socket and the generators that it has."""

    pid: int
    socket: Path
    models: tuple[str, ...]

    def ask(self, message: Any) -> Any:
        """The answer to one message. Raises ControlError, and OSError where the server has gone."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.socket))
            connection.sendall(json.dumps(message).encode() + b"\n")
            with connection.makefile() as answers:
                line = answers.readline()
        if not line:
            raise ConnectionError(f"the server {self.pid} ended before it answered")
        answer = json.loads(line)
        if "error" in answer:
            raise ControlError(f"the server {self.pid}: {answer['error']}")
        return answer


@contextmanager
def listening(server: TritonServer, folder: Path, renew: Callable[[str], int]) -> Iterator[None]:
    """Commands reach the server for the time of the block; `folder` is found below the home's `serving`.

    `renew` takes a source, a name or a bundle's folder, to the version that is served after it.
    """
    path = server.private_folder / "control.socket"

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            try:
                message = json.loads(self.rfile.readline(MAX_LINE))
                answer: Any = {"version": renew(message["reload"])}
            except (ValueError, KeyError, TypeError) as error:
                answer = {"error": f"not a message of this version of genzoo ({error!r})"}
            except (GenzooError, OSError) as error:
                answer = {"error": str(error)}
            with contextlib.suppress(OSError):  # who asked has gone
                self.wfile.write(json.dumps(answer).encode() + b"\n")

    with socketserver.UnixStreamServer(str(path), Handler) as listener:
        thread = threading.Thread(target=listener.serve_forever, name="control", daemon=True)
        thread.start()
        names = [model.spec.name for model in server.repository.models]
        write_json(folder / PLACE, {"pid": os.getpid(), "socket": str(path), "models": names})
        try:
            yield
        finally:
            listener.shutdown()


def running() -> Iterator[Running]:
    """The servers of this home that live."""
    for place in sorted((home() / "serving").glob(f"models-*/{PLACE}")):
        try:
            said = json.loads(place.read_text())
            found = Running(int(said["pid"]), Path(said["socket"]), tuple(said["models"]))
            os.kill(found.pid, 0)
        except (OSError, ValueError, KeyError):  # it is just ending, or was killed
            continue
        if found.socket.exists():
            yield found


def reload(sources: Sequence[tuple[str, str]], pid: int | None = None) -> Iterator[tuple[Running, str, int]]:
    """Each server that has a generator, of (name, source) pairs, serves what is new of it: the version that it is then.

    `pid` is the one that is meant. Raises ControlError.
    """
    servers = [each for each in running() if pid in (None, each.pid)]
    for name, _ in sources:
        if not any(name in each.models for each in servers):
            known = "; ".join(f"process {each.pid} serves {', '.join(each.models)}" for each in running())
            meant = f" is process {pid} and" if pid is not None else ""
            raise ControlError(
                f"no server of this home{meant} serves {name}: {known or 'none runs, `genzoo serve` starts one'}"
            )
    for name, source in sources:
        for each in servers:
            if name in each.models:
                yield each, name, int(each.ask({"reload": source})["version"])
