"""Where a generator runs, by name: a file an adapter, which `sample`, `gate`, `bench` and `tune` share."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from export.bundle import Bundle
from export.runners import RunnerError
from export.runtimes.adapter import Adapter, Executor
from export.runtimes.names import PROVIDERS, Runtime, named
from zoo.contract.feeds import Runner
from zoo.contract.generator import Generator

if TYPE_CHECKING:
    from zoo.family import Checkpoint

__all__ = ["PROVIDERS", "Executor", "Runtime", "adapter", "check", "generator", "graph_runners", "named", "opened"]

FILES = {
    Runtime.TORCH_COMPILE: "compiled",
    Runtime.TORCH: "eager",
    Runtime.AOTINDUCTOR: "aot",
    Runtime.OPENVINO: "openvino",
    Runtime.TENSORRT: "engines",
    **dict.fromkeys(PROVIDERS, "onnx_runtime"),
}


@cache
def adapter(runtime: Runtime) -> Adapter:
    """Raises RunnerError for a server, which is not of this process."""
    if runtime not in FILES:
        raise RunnerError(f"{runtime} does not run in this process: it is asked by its address")
    found: Adapter = importlib.import_module(f"{__name__}.{FILES[runtime]}").ADAPTERS[runtime]
    return found


def check(runtime: Runtime) -> None:
    """Raises GenzooError, before anything is made for it, where a runtime cannot be used on this host."""
    if runtime is not Runtime.TRITON:
        adapter(runtime).check()


def opened(source: Bundle | Checkpoint, executor: Executor) -> Generator:
    """A generator in this process, run as an executor says.

    Raises GenzooError in one sentence where its runtime cannot be used here, or not for this generator.
    """
    return adapter(executor.runtime).opened(source, executor)


def generator(source: Bundle | Checkpoint, runtime: Runtime, threads: int | None = None) -> Generator:
    """A generator in this process; those of torch take its checkpoint, all others its bundle.

    On the CPU `threads` share an image's sums, and so decide their last bit; None takes every core there is.

    Raises as `opened` does.
    """
    return opened(source, Executor(runtime, threads=threads))


def graph_runners(bundle: Bundle, runtime: Runtime, threads: int | None = None) -> Callable[[str], Runner]:
    """How to open one graph of a bundle on a runtime. Raises as `opened` does."""
    graphs = adapter(runtime).graphs
    if graphs is None:
        raise RunnerError(f"{runtime} does not run the graphs of a bundle")
    return graphs(bundle, Executor(runtime, threads=threads))
