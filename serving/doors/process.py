"""A door as a process beside its server: started, watched, and ended with whoever started it."""

from __future__ import annotations

import http.client
import logging
import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from serving import guardian
from serving.endpoint import Endpoint, EndpointError
from serving.guarded import Guarded
from serving.ports import HOST, check, choose
from zoo.errors import GenzooError

START_S, GRACE_S, LOOK_S, PAUSE_S = 60.0, 5.0, 0.05, 1.0
PACKAGES = Path(__file__).resolve().parents[2]

log = logging.getLogger(__name__)


class DoorStartError(GenzooError):
    """A door did not open; the message names its log."""


class Door:
    """`with Door(server.grpc_url, log) as door: door.url`; one that dies is started again on its port.

    `options` are those of `python -m serving.doors`.
    """

    def __init__(self, triton: str, log: Path, *, port: int = 0, options: Sequence[str] = ()) -> None:
        self.triton, self.log, self.options = triton, log, tuple(options)
        self._wanted, self.port, self.starts = port, 0, 0
        self._process: Guarded | None = None
        self._watch = threading.Thread(target=self._keep, name="door", daemon=True)
        self._ended = threading.Event()

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        """What an OpenAI client takes for its `base_url`."""
        return f"http://{self.address}/v1"

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    def __enter__(self) -> Door:
        check({"openai": self._wanted})
        self.port = choose({"openai": self._wanted})["openai"]
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._end()
        self._watch.join()

    def _start(self) -> None:
        """Returns once it answers. Raises DoorStartError."""
        command = [sys.executable, "-m", "serving.doors", "--triton", self.triton, "--port", str(self.port)]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, dict.fromkeys([str(PACKAGES), *sys.path]))),
        }
        task = guardian.task(
            [*command, *self.options], environment, PACKAGES, GRACE_S, f"genzoo_door_{os.getpid()}_", []
        )
        self._process, self.starts = Guarded(task, self.log), self.starts + 1
        deadline = time.monotonic() + START_S
        while self._process.runs and time.monotonic() < deadline and not self._ended.is_set():
            try:
                Endpoint(self.address).call("GET", "/health")
            except (OSError, http.client.HTTPException, EndpointError):
                time.sleep(LOOK_S)
            else:
                return
        if not self._ended.is_set():
            said = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
            why = said[-1].removeprefix("error: ") if said else "it said nothing"
            raise DoorStartError(f"the door did not open: {why} (its log is {self.log})")

    def _keep(self) -> None:
        while not self._ended.is_set():
            assert self._process is not None
            code = self._process.wait()
            if self._ended.wait(PAUSE_S if self.starts > 1 else 0.0):
                return
            log.warning("the door ended with exit code %d: opening it again", code)
            self.log.replace(self.log.with_suffix(".died.log"))
            try:
                self._end()
                self._start()
            except DoorStartError as error:  # such as while the server itself is started again
                log.warning("%s", error)

    def _end(self) -> None:
        if self._process:
            self._process.end()
