"""Engines of TensorRT or TensorRT-RTX, on this process's GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from export.bundle import Bundle
from export.runtimes.adapter import Executor, check_options, of_graphs
from export.runtimes.names import Runtime
from zoo.contract.feeds import Runner


def _check() -> Any:
    from export import cuda

    return cuda.gpu()


def _graphs(bundle: Bundle, executor: Executor) -> Callable[[str], Runner]:
    check_options(executor, "threads")
    from export import admission, cuda, engine, gpu_runners

    here = cuda.gpu()

    def open_engine(graph: str) -> Runner:
        return gpu_runners.TensorRTRunner(admission.not_refused(engine.for_gpu(bundle, graph, here), here))

    return open_engine


ADAPTERS = {Runtime.TENSORRT: of_graphs(Runtime.TENSORRT, ("tensorrt", "tensorrt-rtx"), "engines", _check, _graphs)}
