"""The public model of a generator, on Triton's Python backend: `zoo.contract.generator.Generator` before its graph.

The graph is another model of the server (in production, on a native backend), or where the configuration names its
file, ONNX Runtime in this process, which saves a CPU host the way to a second one.

A batch that Triton made of several requests runs as one. Where one of them asks for what the generator cannot do, each
half of them is tried, and so on, so that only that one fails.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from export.bundle import Bundle
from export.runners import FirstFormatRunner, OnnxRuntimeRunner
from export.runtimes import Executor
from export.tuning import opening
from export.tuning.candidates import UNTUNED
from serving.interface import BUNDLES, ONNX_FILE, canary, merged, of_one_size
from zoo.contract.assets import NO_ASSETS, Assets
from zoo.contract.feeds import Runner, Tensors
from zoo.contract.generator import Generator
from zoo.contract.spec import GeneratorSpec
from zoo.errors import GenzooError
from zoo.plain import rebuild

MAX_ERROR = 1000  # characters: gRPC ends the stream where an error has more than 16 KiB, three of each byte


class ModelRunner:
    """Another model of this server, called within it (Triton's business logic scripting)."""

    def __init__(self, name: str, outputs: Sequence[str] = ("images",)) -> None:
        self.outputs = list(outputs)
        self.name, self.memory = name, pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 0)

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
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        self.spec = GeneratorSpec.from_json(json.loads(parameters["spec"]))
        here = Path(args["model_repository"])
        if tuned := json.loads(parameters.get("tuned", "{}")):
            self.generator = self._tuned(here / args["model_version"] / BUNDLES, tuned)
            sizes = [1, *map(int, tuned), config["max_batch_size"]]
        else:
            self.generator = self._untuned(here, args["model_version"], parameters)
            sizes = [1, config["max_batch_size"]] if "file" in parameters else []  # the graph's model has its own
        self.assets = self.generator.feeds.assets
        for batch in sorted({*sizes}):  # warm-up
            self.generator.run(**canary(self.spec, batch))

    def _tuned(self, bundles: Path, tuned: dict[str, Any]) -> Generator:
        """On executors by batch size, of the bundles in a folder."""
        executors = {int(batch): rebuild(Executor, each, "executor") for batch, each in tuned.items()}
        untuned = Bundle.open(bundles / UNTUNED.bundle_name)
        return opening.generator(untuned, executors, lambda each: Bundle.open(bundles / each.bundle_name))

    def _untuned(self, here: Path, version: str, parameters: dict[str, str]) -> Generator:
        assets = Assets(here / version) if parameters.get("assets") else NO_ASSETS
        file, graphs = parameters.get("file"), json.loads(parameters.get("encoders", "{}"))
        entry = self._runner(here, parameters["graph"], file, ["images"])
        if columns := int(parameters.get("first_columns", 0)):
            entry = FirstFormatRunner(entry, self.spec.name, columns)
        return Generator(
            self.spec,
            entry,
            assets,
            {
                name: self._runner(here, graph, file and f"{graph}/1/{ONNX_FILE}", outputs)
                for name, (graph, outputs) in graphs.items()
            },
            int(parameters.get("rows", 0)),
        )

    @staticmethod
    def _runner(here: Path, graph: str, file: str | None, outputs: Sequence[str]) -> Runner:
        return OnnxRuntimeRunner(here.parent / file) if file else ModelRunner(graph, outputs)

    def execute(self, requests: list[Any]) -> list[Any]:
        parts = [_tensors(request) for request in requests]
        responses: dict[int, Any] = {}
        for group in of_one_size(self.spec, parts):
            responses |= dict(zip(group, self._answered([parts[index] for index in group]), strict=True))
        return [responses[index] for index in range(len(requests))]

    def _answered(self, parts: list[Tensors]) -> list[Any]:
        try:
            return self._responses(parts)
        except Exception as error:
            if len(parts) == 1:
                return [pb_utils.InferenceResponse(error=_triton_error(error))]
        half = len(parts) // 2
        return [*self._answered(parts[:half]), *self._answered(parts[half:])]

    def _responses(self, parts: list[Tensors]) -> list[Any]:
        images = self.generator.run(**merged(self.spec, parts, self.assets))["image"]
        bounds = np.cumsum([len(part["seed"]) for part in parts])[:-1]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("image", part)]) for part in np.split(images, bounds)]


def _tensors(request: Any) -> Tensors:
    """The inputs of one request, (B, ...) each; those left out are missing."""
    return {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}


def _triton_error(error: Exception) -> Any:
    bad_request = isinstance(error, GenzooError)
    return pb_utils.TritonError(
        str(error)[:MAX_ERROR], pb_utils.TritonError.INVALID_ARG if bad_request else pb_utils.TritonError.INTERNAL
    )
