"""A generator on what was tuned: for each execution the executor of the nearest batch size.

A model of a server imports it, where there is little beside NumPy and ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock

import numpy as np

from export.bundle import Bundle
from export.runners import OnnxRuntimeRunner
from export.runtimes import Executor, opened
from export.tuning.record import nearest
from zoo.contract.feeds import Runner, Tensors
from zoo.contract.generator import Generator

BundleOf = Callable[[Executor], Bundle]


class ByBatch:
    """Executors by batch size behind one call, each opened when it is first needed."""

    def __init__(self, executors: Mapping[int, Executor], bundle_of: BundleOf) -> None:
        self.executors, self.bundle_of = dict(executors), bundle_of
        self._opened: dict[Executor, Runner] = {}
        self._lock = Lock()

    def run(self, **tensors: np.ndarray) -> Tensors:
        """Raises RunnerError as the runtimes do."""
        return self.runner(len(next(iter(tensors.values())))).run(**tensors)

    def runner(self, batch: int) -> Runner:
        executor = self.executors[nearest(self.executors, batch)]
        with self._lock:
            if executor not in self._opened:
                self._opened[executor] = opened(self.bundle_of(executor), executor).runner
            return self._opened[executor]


def generator(bundle: Bundle, executors: Mapping[int, Executor], bundle_of: BundleOf) -> Generator:
    """A bundle's generator on executors by batch size; `bundle_of` gives the bundle that one runs."""
    entry = ByBatch(executors, bundle_of)
    encoders = {graph: OnnxRuntimeRunner(bundle.graph_path(graph)) for graph in bundle.encoders}
    return Generator(bundle.served_spec, entry, bundle.assets, encoders, bundle.manifest.get("steps") or 0)
