"""The public model of a generator, run by Triton's Python backend: `zoo.generator.Generator` before the graphs' models.

A batch that Triton made of several requests runs as one. Where one of them asks for what the generator cannot do, they
run one by one, so that only that one fails.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from export.runners import HostLoopRunner
from zoo.generator import Generator, Runner, Tensors
from zoo.request import GeneratorSpec, RequestError


class ModelRunner:
    """Another model of this server, called within it (Triton's business logic scripting)."""

    def __init__(self, name: str, outputs: list[str]) -> None:
        self.name, self.outputs = name, outputs
        self.memory = pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 0)

    def run(self, **tensors: np.ndarray) -> Tensors:
        response = pb_utils.InferenceRequest(
            model_name=self.name,
            requested_output_names=self.outputs,
            inputs=[pb_utils.Tensor(name, tensor) for name, tensor in tensors.items()],
            preferred_memory=self.memory,
        ).exec()
        if response.has_error():
            raise pb_utils.TritonModelException(response.error().message())
        return {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}


class TritonPythonModel:
    """Triton's interface."""

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        parameters = {key: json.loads(value["string_value"]) for key, value in config["parameters"].items()}
        self.spec = GeneratorSpec.from_json(parameters["spec"])
        self.generator = Generator(self.spec, _runner(parameters["graphs"]))

    def execute(self, requests: list[Any]) -> list[Any]:
        try:
            return self._responses([self._feeds(request) for request in requests])
        except Exception as error:
            if len(requests) == 1:
                return [pb_utils.InferenceResponse(error=_triton_error(error))]
        return [response for request in requests for response in self.execute([request])]

    def _feeds(self, request: Any) -> Tensors:
        """The inputs of one request, the absent ones filled with the generator's defaults; (B,) each."""
        given = {tensor.name(): tensor.as_numpy().reshape(-1) for tensor in request.inputs()}
        if "seed" not in given:  # Triton lets it pass where other inputs are optional
            raise RequestError(f"{self.spec.name} needs the input 'seed', UINT64 [1], for every image")
        return {name: given.get(name, default) for name, default in self._defaults(given["seed"]).items()}

    def _defaults(self, seed: np.ndarray) -> Tensors:
        defaults = {"seed": seed}
        if self.spec.num_classes:
            defaults["class_id"] = (seed % np.uint64(self.spec.num_classes)).astype(np.int64)
        if self.spec.sampling:
            defaults["num_steps"] = np.full(len(seed), self.spec.sampling.num_steps, np.int32)
            defaults["guidance_scale"] = np.ones(len(seed), np.float32)
        return defaults

    def _responses(self, feeds: list[Tensors]) -> list[Any]:
        merged = {name: np.concatenate([entry[name] for entry in feeds]) for name in feeds[0]}
        images = self.generator.run(**merged)["image"]
        bounds = np.cumsum([len(entry["seed"]) for entry in feeds])[:-1]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("image", part)]) for part in np.split(images, bounds)]


def _runner(graphs: dict[str, list[str]]) -> Runner:
    """The entry's model, or a host loop around the models of its step and its decoder."""
    runners = [ModelRunner(name, outputs) for name, outputs in graphs.items()]
    return runners[0] if len(runners) == 1 else HostLoopRunner(*runners)


def _triton_error(error: Exception) -> Any:
    code = pb_utils.TritonError.INVALID_ARG if isinstance(error, RequestError) else pb_utils.TritonError.INTERNAL
    return pb_utils.TritonError(str(error), code)
