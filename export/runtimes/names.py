"""What runtimes are called."""

from __future__ import annotations

from enum import StrEnum

from export.runners import CPU, CUDA, RTX, TENSORRT
from zoo.contract.errors import RequestError, nearest


class Runtime(StrEnum):
    """On the CPU torch, eager, compiled in the process or ahead of time, ONNX Runtime and OpenVINO; on an NVIDIA GPU
    ONNX Runtime's providers, and engines; a Triton server. The nearest to production last."""

    TORCH_COMPILE = "torch-compile"
    TORCH = "torch"
    AOTINDUCTOR = "aotinductor"
    OPENVINO = "openvino"
    ONNXRUNTIME = "onnxruntime"
    ONNXRUNTIME_CUDA = "onnxruntime-cuda"
    ONNXRUNTIME_TENSORRT = "onnxruntime-tensorrt"
    ONNXRUNTIME_RTX = "onnxruntime-rtx"
    TENSORRT = "tensorrt"
    TRITON = "triton"

    @property
    def on_gpu(self) -> bool:
        """Whether it needs this process's GPU."""
        return self is Runtime.TENSORRT or (self in PROVIDERS and self is not Runtime.ONNXRUNTIME)

    @property
    def compiles(self) -> bool:
        """Whether it compiles at its first call, in every process anew."""
        return self is Runtime.TORCH_COMPILE


PROVIDERS = {
    Runtime.ONNXRUNTIME: CPU,
    Runtime.ONNXRUNTIME_CUDA: CUDA,
    Runtime.ONNXRUNTIME_TENSORRT: TENSORRT,
    Runtime.ONNXRUNTIME_RTX: RTX,
}


def named(text: str) -> Runtime:
    """The runtime of that name. Raises RequestError with the nearest ones."""
    if text not in [each.value for each in Runtime]:
        raise RequestError(f"unknown runtime {text!r}: {nearest(text, [each.value for each in Runtime])}")
    return Runtime(text)
