"""Keeps the models of a running server alive.

Triton never restarts a Python model's process that died, and goes on calling the model ready. So each public model
makes a canary image now and then; where that fails, it is unloaded and loaded again, and so is the model of its graph
where that is loaded, whose backend may be a process of ours too.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import threading
from collections.abc import Sequence

from serving.endpoint import Endpoint, EndpointError
from serving.model_repository import ServedModel

log = logging.getLogger(__name__)


class Supervisor(threading.Thread):
    """A thread; `heals` counts the reloads of each model. `graphs` says that the models of the graphs are loaded."""

    def __init__(
        self, endpoint: Endpoint, models: Sequence[ServedModel], interval_s: float, *, graphs: bool = False
    ) -> None:
        super().__init__(name="triton-supervisor", daemon=True)
        self.endpoint, self.models, self.interval_s, self.graphs = endpoint, models, interval_s, graphs
        self.heals = {model.spec.name: 0 for model in models}
        self._ended = threading.Event()

    def stop(self) -> None:
        self._ended.set()
        self.join(timeout=1.0)  # a canary under way may take longer; it fails with the server

    def run(self) -> None:
        while not self._ended.wait(self.interval_s):
            for model in self.models:
                if self._ended.is_set():
                    return
                # No answer: it is busy, or gone, which the server's owner notices.
                with contextlib.suppress(OSError, http.client.HTTPException):
                    self.check(model)

    def check(self, model: ServedModel) -> None:
        """One canary; a reload where it failed."""
        try:
            self.endpoint.canary(model.spec)
        except EndpointError as error:
            if self._ended.is_set():
                return
            log.warning("%s failed its canary (%s): loading it again", model.spec.name, error)
            self.heal(model)

    def heal(self, model: ServedModel) -> None:
        """Unload and load: a load alone keeps the broken process."""
        names = (model.spec.name, *([model.graph] if self.graphs else []))
        try:
            for name in names:
                self.endpoint.unload(name)
            for name in reversed(names):
                self.endpoint.load(name)
            self.heals[model.spec.name] += 1
        except EndpointError as error:
            log.error("%s could not be loaded again: %s", model.spec.name, error)
