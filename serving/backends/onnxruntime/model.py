"""ONNX Runtime as a Triton backend written in Python, for hosts whose Triton lacks the native one.

Placed in the backend directory as `onnxruntime`, `tensorrt` and `tensorrt_rtx`, it runs `1/model.onnx` of any model: a
production repository works unchanged on a laptop.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from export.runners import OnnxRuntimeRunner
from serving.backends.graph_model import GraphModel


class TritonPythonModel(GraphModel):
    """Triton's interface."""

    def open(self, folder: Path, config: dict[str, Any], device: int) -> OnnxRuntimeRunner:
        return OnnxRuntimeRunner(folder / "model.onnx", served=True)
