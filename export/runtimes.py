"""Where a generator runs, by name: one table that `sample`, `gate` and `bench` share."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING

from export.bundle import Bundle
from export.runners import (
    CPU,
    CUDA,
    RTX,
    TENSORRT,
    RunnerError,
    TorchRunner,
    bundle_generator,
    graph_opener,
    onnxruntime_with,
)
from export.variant import LoopKind
from zoo.contract.errors import RequestError, nearest
from zoo.contract.feeds import Runner
from zoo.contract.generator import Generator

if TYPE_CHECKING:
    from zoo.family import Checkpoint


class Runtime(StrEnum):
    """torch and ONNX Runtime on the CPU; on an NVIDIA GPU ONNX Runtime's providers, and engines; a Triton server."""

    TORCH = "torch"
    ONNXRUNTIME = "onnxruntime"
    ONNXRUNTIME_CUDA = "onnxruntime-cuda"
    ONNXRUNTIME_TENSORRT = "onnxruntime-tensorrt"
    ONNXRUNTIME_RTX = "onnxruntime-rtx"
    TENSORRT = "tensorrt"
    TRITON = "triton"

    @property
    def on_gpu(self) -> bool:
        """Whether it needs this process's GPU."""
        return self not in (Runtime.TORCH, Runtime.ONNXRUNTIME, Runtime.TRITON)


def named(text: str) -> Runtime:
    """The runtime of that name. Raises RequestError with the nearest ones."""
    if text not in [each.value for each in Runtime]:
        raise RequestError(f"unknown runtime {text!r}: {nearest(text, [each.value for each in Runtime])}")
    return Runtime(text)


PROVIDERS = {
    Runtime.ONNXRUNTIME: CPU,
    Runtime.ONNXRUNTIME_CUDA: CUDA,
    Runtime.ONNXRUNTIME_TENSORRT: TENSORRT,
    Runtime.ONNXRUNTIME_RTX: RTX,
}


def check(runtime: Runtime) -> None:
    """Raises RunnerError or GpuError, before anything is made for it, where a runtime cannot be used on this host."""
    if runtime is Runtime.TENSORRT:
        from export import cuda

        cuda.gpu()
    elif runtime in PROVIDERS:
        onnxruntime_with(PROVIDERS[runtime])


def generator(source: Bundle | Checkpoint, runtime: Runtime, threads: int | None = None) -> Generator:
    """A generator in this process; torch takes its checkpoint, all others its bundle.

    On the CPU `threads` share an image's sums, and so decide their last bit; None takes every core there is.

    Raises RunnerError, GpuError, EngineError in one sentence where the runtime cannot be used here.
    """
    if runtime is Runtime.TORCH:
        from zoo import registry

        if threads:
            import torch

            torch.set_num_threads(threads)
        return TorchRunner(registry.checkpoint(source.name) if isinstance(source, Bundle) else source).generator
    if runtime is Runtime.TRITON or not isinstance(source, Bundle):
        raise RunnerError(f"{source.name} does not run on {runtime} in this process")
    return bundle_generator(source, graph_runners(source, runtime, threads))


def graph_runners(bundle: Bundle, runtime: Runtime, threads: int | None = None) -> Callable[[str], Runner]:
    """How to open one graph of a bundle on a runtime. Raises as `generator` does."""
    if runtime is Runtime.ONNXRUNTIME:
        return graph_opener(bundle, threads)
    from export import admission, cuda, engine, gpu_runners

    if runtime is Runtime.TENSORRT:
        here = cuda.gpu()

        def open_engine(graph: str) -> Runner:
            return gpu_runners.TensorRTRunner(admission.not_refused(engine.for_gpu(bundle, graph, here), here))

        return open_engine
    provider = PROVIDERS[runtime]
    capture = bundle.manifest["loop"] != LoopKind.ONNX  # a CUDA graph holds no loop
    return lambda graph: gpu_runners.OnnxRuntimeGpuRunner(bundle.graph_path(graph), provider, capture=capture)
