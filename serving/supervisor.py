"""Keeps the models of a running server alive.

Triton never restarts a Python model's process that died, and goes on calling the model ready. So the supervisor looks
at those processes a few times a second, and each public model makes a canary image now and then; where a process is
gone or an image fails, the model is unloaded and loaded again, and so is the model of its graph where that is loaded,
whose backend may be a process of ours too.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from serving.endpoint import Endpoint, EndpointError, ServedModel
from zoo.host import children

LOOK_S = 0.2

log = logging.getLogger(__name__)


class Supervisor(threading.Thread):
    """A thread; `heals` counts the reloads of each model. `pid` is the server's, `graphs` says that the models of the
    graphs are loaded."""

    def __init__(
        self, endpoint: Endpoint, models: Sequence[ServedModel], interval_s: float, pid: int, *, graphs: bool = False
    ) -> None:
        super().__init__(name="triton-supervisor", daemon=True)
        self.endpoint, self.models, self.interval_s, self.graphs = endpoint, list(models), interval_s, graphs
        self.pid = pid
        self.heals = {model.spec.name: 0 for model in models}
        self._alive: dict[str, set[int]] = {}
        self._ended = threading.Event()
        self._turn = threading.Lock()  # a model is loaded by one thread at a time

    def stop(self) -> None:
        self._ended.set()
        if self.is_alive():
            self.join(timeout=1.0)  # a canary under way may take longer; it fails with the server

    def run(self) -> None:
        for model in self.models:
            self._see(model)
        looked = time.monotonic()
        while not self._ended.wait(min(LOOK_S, self.interval_s)):
            due = time.monotonic() - looked >= self.interval_s
            for place in range(len(self.models)):
                with self._turn:
                    if self._ended.is_set() or not _runs(self.pid, b"tritonserver"):
                        return
                    # No answer: it is busy, or gone, which the server's owner notices.
                    with contextlib.suppress(OSError, http.client.HTTPException):
                        self._look(self.models[place], due)
            looked = time.monotonic() if due else looked

    def _look(self, model: ServedModel, due: bool) -> None:
        dead = [name for name in self._names(model) if self._alive[name] - self._processes(name, model.version)]
        if dead:
            log.warning("the process of %s has died: loading it again", dead[-1])
            self.heal(model, public=dead == [model.spec.name])
        elif due:
            self.check(model)
        else:
            return
        self._see(model)

    def check(self, model: ServedModel) -> None:
        """One canary; a reload where it failed."""
        try:
            self.endpoint.canary(model.spec)
        except EndpointError as error:
            if self._ended.is_set():
                return
            log.warning("%s failed its canary (%s): loading it again", model.spec.name, error)
            self.heal(model)

    def heal(self, model: ServedModel, *, public: bool = False) -> None:
        """Unload and load, the `public` model alone or its graphs' too: a load alone keeps the broken process."""
        names = self._names(model)[: 1 if public else None]
        try:
            for call, each in ((self.endpoint.unload, names), (self.endpoint.load, reversed(names))):
                for name in each:
                    if self._ended.is_set():  # at this address there may be another server by now
                        return
                    call(name)
            self.heals[model.spec.name] += 1
        except EndpointError as error:
            log.error("%s could not be loaded again: %s", model.spec.name, error)

    def replace(self, model: ServedModel) -> None:
        """Load a generator's next version, whose files are there; Triton lets go of the last once it is ready.

        Raises EndpointError; the last is served on.
        """
        with self._turn:
            for name in reversed(self._names(model)):
                self.endpoint.load(name)
            self.endpoint.canary(model.spec)
            place = [each.spec.name for each in self.models].index(model.spec.name)
            self.models[place] = model
            self._see(model)

    def _see(self, model: ServedModel) -> None:
        self._alive |= {name: self._processes(name, model.version) for name in self._names(model)}

    def _names(self, model: ServedModel) -> tuple[str, ...]:
        return (model.spec.name, *(model.graphs if self.graphs else ()))

    def _processes(self, name: str, version: int) -> set[int]:
        """Those of a model in Python that live: children of the server, by the folder of their code."""
        folder = f"/{name}/{version}/".encode()
        return {pid for pid in children(self.pid) if _runs(pid, folder)}


def _runs(pid: int, folder: bytes) -> bool:
    """A zombie has no arguments."""
    try:
        return folder in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
