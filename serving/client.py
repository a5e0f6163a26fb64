"""A model on a Triton server as a runner: the same `run(**tensors) -> tensors` as in-process runtimes.

The only file that imports tritonclient. Tensors travel as bytes over gRPC, never as JSON.
"""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from zoo.errors import GenzooError
from zoo.generator import Tensors
from zoo.request import GeneratorSpec, nearest

TIMEOUT_S = 120.0


class ServingError(GenzooError):
    """A server could not be reached, knows no such model, or refused a request; the message is one sentence."""


class TritonRunner:
    """The model `name` at a gRPC address, `host:port`.

    An array of one value an image, (B,), is sent as the (B, 1) that Triton's models declare. Threads may share one.
    """

    def __init__(self, url: str, name: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self.url, self.name, self.timeout_s = url, name, timeout_s
        self._grpc = _tritonclient()
        self._client = self._grpc.InferenceServerClient(url)
        self.config = self._configuration()
        self._dims = {entry["name"]: entry["dims"] for entry in self.config["input"]}
        self._required = {entry["name"] for entry in self.config["input"] if not entry.get("optional")}
        self._outputs = [self._grpc.InferRequestedOutput(entry["name"]) for entry in self.config["output"]]

    def run(self, **tensors: np.ndarray) -> Tensors:
        """Raises ServingError for what the server refuses, and where it does not answer in time."""
        if missing := self._required - tensors.keys():
            raise ServingError(
                f"{self.name} was sent no {' and no '.join(sorted(missing))}: it needs one for each image"
            )
        inputs = [self._input(name, tensor) for name, tensor in tensors.items()]
        result = self._call("infer", self.name, inputs, outputs=self._outputs)
        return {output.name(): result.as_numpy(output.name()) for output in self._outputs}

    @property
    def spec(self) -> GeneratorSpec:
        """What the generator takes and gives. Raises ServingError where the model is not a generator's public one."""
        parameters = self.config.get("parameters", {})
        if "spec" not in parameters:
            raise ServingError(f"{self.name} at {self.url} is a part of a generator: ask for the generator by its name")
        return GeneratorSpec.from_json(json.loads(parameters["spec"]["string_value"]))

    def close(self) -> None:
        self._client.close()

    def _input(self, name: str, tensor: np.ndarray) -> Any:
        if tensor.ndim == 1 and len(self._dims.get(name, ())) == 1:
            tensor = tensor[:, None]
        tensor = tensor.astype(object) if tensor.dtype.kind == "U" else tensor  # text, BYTES to Triton
        try:
            entry = self._grpc.InferInput(name, tensor.shape, _triton_dtype(tensor.dtype))
            return entry.set_data_from_numpy(tensor)
        except self._grpc.InferenceServerException as error:
            raise ServingError(f"{name}: {_sentence(error)}") from error

    def _configuration(self) -> dict[str, Any]:
        try:
            answer = self._call("get_model_config", self.name, as_json=True)
        except ServingError as error:
            raise self._unknown_model(error) from error
        config: dict[str, Any] = answer["config"]
        for entry in config["input"]:
            entry["dims"] = [int(size) for size in entry["dims"]]
        return config

    def _unknown_model(self, error: ServingError) -> ServingError:
        """A better error where the server is there and only the name is not."""
        index = self._call("get_model_repository_index", as_json=True).get("models", [])
        names = {entry["name"] for entry in index if entry.get("state") == "READY"}
        if self.name in names:
            return error
        return ServingError(f"unknown model {self.name!r} at {self.url}: {nearest(self.name, names)}")

    def _call(self, method: str, *arguments: Any, **options: Any) -> Any:
        try:
            return getattr(self._client, method)(*arguments, client_timeout=self.timeout_s, **options)
        except self._grpc.InferenceServerException as error:
            status = str(error.status() or "")
            if "DEADLINE" in status:
                text = f"{self.name} at {self.url} did not answer within {self.timeout_s:g} s"
            elif "UNAVAILABLE" in status and "connect" in str(error.message()):
                text = f"no Triton server answers at {self.url}: `genzoo serve {self.name}` starts one"
            else:
                text = f"{self.name}: {_sentence(error)}"
            raise ServingError(text) from error


def _tritonclient() -> Any:
    try:
        import tritonclient.grpc
    except ImportError as error:
        raise ServingError("the Triton client is not installed: `pip install genzoo[serving]`") from error
    return tritonclient.grpc


def _triton_dtype(dtype: np.dtype[Any]) -> str:
    from tritonclient.utils import np_to_triton_dtype

    found = np_to_triton_dtype(dtype)
    if found is None:
        raise ServingError(f"Triton has no tensors of {dtype}")
    return str(found)


def _sentence(error: Any) -> str:
    """A server's message without its request id, its notes and its line breaks."""
    text = re.sub(r"\[request id: [^]]*\] *| NOTE: .*", "", str(error.message()), flags=re.DOTALL)
    return " ".join(text.split()).rstrip(".")
