"""ONNX Runtime on the CPU, and its providers on an NVIDIA GPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from export.bundle import Bundle
from export.runners import OnnxRuntimeRunner, onnxruntime_with
from export.runtimes.adapter import Executor, check_options, of_graphs
from export.runtimes.names import PROVIDERS
from export.variant import LoopKind, Precision
from zoo.contract.feeds import Runner


def _on_cpu(bundle: Bundle, executor: Executor) -> Callable[[str], Runner]:
    check_options(executor, "precision", "loop", "threads", "parts", "bundle")
    return lambda graph: OnnxRuntimeRunner(bundle.graph_path(graph), threads=executor.threads, parts=executor.parts)


def _on_gpu(bundle: Bundle, executor: Executor) -> Callable[[str], Runner]:
    check_options(executor, "loop", "threads")
    from export.gpu_runners import OnnxRuntimeGpuRunner

    provider = PROVIDERS[executor.runtime]
    capture = bundle.manifest["loop"] != LoopKind.ONNX  # a CUDA graph holds no loop
    return lambda graph: OnnxRuntimeGpuRunner(bundle.graph_path(graph), provider, capture=capture)


ADAPTERS = {
    runtime: of_graphs(
        runtime,
        ("onnxruntime-gpu" if runtime.on_gpu else "onnxruntime",),
        "gpu" if runtime.on_gpu else "cpu",
        partial(onnxruntime_with, provider),
        _on_gpu if runtime.on_gpu else _on_cpu,
        (Precision.FP32,) if runtime.on_gpu else (Precision.FP32, Precision.INT8),
    )
    for runtime, provider in PROVIDERS.items()
}
