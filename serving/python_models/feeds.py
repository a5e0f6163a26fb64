"""The first step of a generator's ensemble, on Triton's Python backend: seeds -> the feeds of the graph behind it."""

from __future__ import annotations

import json
from typing import Any

import triton_python_backend_utils as pb_utils

from serving.requests import graph_feeds
from zoo.errors import GenzooError
from zoo.request import GeneratorSpec


class TritonPythonModel:
    """Triton's interface."""

    def initialize(self, args: dict[str, str]) -> None:
        parameters = json.loads(args["model_config"])["parameters"]
        self.spec = GeneratorSpec.from_json(json.loads(parameters["spec"]["string_value"]))

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._response(request) for request in requests]

    def _response(self, request: Any) -> Any:
        try:
            feeds = graph_feeds(self.spec, {tensor.name(): tensor.as_numpy() for tensor in request.inputs()})
        except (GenzooError, ValueError) as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG))
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, tensor) for name, tensor in feeds.items()])
