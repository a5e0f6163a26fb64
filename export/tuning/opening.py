"""A generator on what was tuned: for each execution the executor of the tier and of the nearest batch size.

A model of a server imports it, where there is little beside NumPy and ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock

import numpy as np

from export.bundle import Bundle
from export.runners import OnnxRuntimeRunner
from export.runtimes import Executor, adapter, opened
from export.tuning.record import nearest
from zoo.contract.feeds import Runner, Tensors
from zoo.contract.generator import Generator

BundleOf = Callable[[Executor], Bundle]
Tiers = Mapping[str, Mapping[int, Executor]]  # executors by tier and batch size


class Opened:
    """Executors, each opened when it is first needed, and once."""

    def __init__(self, bundle_of: BundleOf) -> None:
        self.bundle_of = bundle_of
        self._runners: dict[Executor, Runner] = {}
        self._lock = Lock()

    def runner(self, executor: Executor) -> Runner:
        with self._lock:
            if executor not in self._runners:
                self._runners[executor] = self._open(executor)
            return self._runners[executor]

    def _open(self, executor: Executor) -> Runner:
        return opened(self.bundle_of(executor), executor).runner


class OpenedGraph(Opened):
    """The same of one graph of a bundle, in place of all that makes its images."""

    def __init__(self, bundle_of: BundleOf, graph: str) -> None:
        super().__init__(bundle_of)
        self.graph = graph

    def _open(self, executor: Executor) -> Runner:
        open_graphs = adapter(executor.runtime).graphs
        assert open_graphs is not None
        return open_graphs(self.bundle_of(executor), executor)(self.graph)


class ByBatch:
    """Executors by batch size behind one call."""

    def __init__(self, executors: Mapping[int, Executor], found: Opened) -> None:
        self.executors, self._opened = dict(executors), found

    def run(self, **tensors: np.ndarray) -> Tensors:
        """Raises RunnerError as the runtimes do."""
        return self.runner(len(next(iter(tensors.values())))).run(**tensors)

    def runner(self, batch: int) -> Runner:
        return self._opened.runner(self.executors[nearest(self.executors, batch)])


def generator(bundle: Bundle, executors: Mapping[int, Executor], bundle_of: BundleOf) -> Generator:
    """A bundle's generator on executors by batch size; `bundle_of` gives the bundle that one runs."""
    [found] = by_tier(bundle, {"": executors}, bundle_of).values()
    return found


def step_runners(executors: Mapping[int, Executor], bundle_of: BundleOf) -> tuple[Runner, Runner] | None:
    """`step` and `decoder` on executors by batch size; None where one of them does not run graphs."""
    if any(adapter(each.runtime).graphs is None for each in executors.values()):
        return None
    return ByBatch(executors, OpenedGraph(bundle_of, "step")), ByBatch(executors, OpenedGraph(bundle_of, "decoder"))


def by_tier(bundle: Bundle, tiers: Tiers, bundle_of: BundleOf) -> dict[str, Generator]:
    """A bundle's generator by tier, each on executors by batch size; an executor of several is opened once."""
    found = Opened(bundle_of)
    encoders = {graph: OnnxRuntimeRunner(bundle.graph_path(graph)) for graph in bundle.encoders}
    spec, rows = bundle.served_spec, bundle.manifest.get("steps") or 0
    return {
        tier: Generator(spec, ByBatch(executors, found), bundle.assets, encoders, rows, bundle.max_batch)
        for tier, executors in tiers.items()
    }
