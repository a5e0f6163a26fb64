"""ONNX Runtime as a Triton backend written in Python, for hosts whose Triton lacks the native one.

Placed in the backend directory as `onnxruntime` and `tensorrt`, it runs `1/model.onnx` of any model whose platform is
`onnxruntime_onnx` or `tensorrt_plan`: a production repository works unchanged on a laptop.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from export.runners import OnnxRuntimeRunner


class TritonPythonModel:
    """Triton's interface."""

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        self.inputs = [entry["name"] for entry in config["input"]]
        self.outputs = [entry["name"] for entry in config["output"]]
        self.runner = OnnxRuntimeRunner(Path(args["model_repository"], args["model_version"], "model.onnx"))

    def execute(self, requests: list[Any]) -> list[Any]:
        """One execution for all requests: Triton batches only requests whose shapes agree."""
        feeds = [
            {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs}
            for request in requests
        ]
        try:
            merged = {name: np.concatenate([entry[name] for entry in feeds]) for name in self.inputs}
            results = self.runner.run(**(feeds[0] if len(feeds) == 1 else merged))
        except Exception as error:  # whatever it is, the requests must be answered
            return [pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error))) for _ in requests]
        bounds = np.cumsum([len(entry[self.inputs[0]]) for entry in feeds])[:-1]
        parts = {name: np.split(results[name], bounds) for name in self.outputs}
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor(name, parts[name][row]) for name in self.outputs])
            for row in range(len(requests))
        ]
