"""A model on a Triton server as a runner: the same `run(**tensors) -> tensors` as in-process runtimes.

The only file that imports tritonclient, and of it the protocol alone: its convenience classes copy each tensor and cost
more than the call. Tensors travel as bytes over gRPC, never as JSON.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from serving.interface import DTYPES, datatype
from zoo import untrusted
from zoo.contract.errors import nearest
from zoo.contract.feeds import Tensors
from zoo.contract.spec import GeneratorSpec
from zoo.errors import GenzooError

TIMEOUT_S = 120.0
FROM_TRITON = {triton: np.dtype(name) for name, triton in DTYPES.items() if name != "str"}


class ServingError(GenzooError):
    """A server could not be reached, knows no such model, or refused a request; the message is one sentence."""


class TritonRunner:
    """The model `name` at a gRPC address, `host:port`.

    An array of one value an image, (B,), is sent as the (B, 1) that Triton's models declare. Threads may share one.
    """

    def __init__(self, url: str, name: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self.url, self.name, self.timeout_s = url, name, timeout_s
        self._grpc, self._messages, service = _protocol()
        self._channel = self._grpc.insecure_channel(
            url, options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        )
        self._stub = service.GRPCInferenceServiceStub(self._channel)
        self._config = self._configuration()
        self._ranks = {entry.name: 1 + len(entry.dims) for entry in self._config.input}
        self._required = {entry.name for entry in self._config.input if not entry.optional}

    def run(self, **tensors: np.ndarray) -> Tensors:
        """Raises ServingError for what the server refuses, and where it does not answer in time."""
        if missing := self._required - tensors.keys():
            raise ServingError(
                f"{self.name} was sent no {' and no '.join(sorted(missing))}: it needs one for each image"
            )
        request = self._messages.ModelInferRequest(model_name=self.name)
        for name, tensor in tensors.items():
            if tensor.ndim == 1 and self._ranks.get(name) == 2:
                tensor = tensor[:, None]
            request.inputs.add(name=name, datatype=_datatype(name, tensor), shape=tensor.shape)
            request.raw_input_contents.append(_bytes(tensor))
        answer = self._call("ModelInfer", request)
        return {
            output.name: np.frombuffer(content, FROM_TRITON[output.datatype]).reshape(output.shape)
            for output, content in zip(answer.outputs, answer.raw_output_contents, strict=True)
        }

    @property
    def spec(self) -> GeneratorSpec:
        """What the generator takes and gives. Raises ServingError where the model is not a generator's public one."""
        if "spec" not in self._config.parameters:
            raise ServingError(f"{self.name} at {self.url} is a part of a generator: ask for the generator by its name")
        said = self._config.parameters["spec"].string_value.encode()
        return GeneratorSpec.from_json(untrusted.parse_json(said, f"{self.name} at {self.url}"))

    def close(self) -> None:
        self._channel.close()

    def _configuration(self) -> Any:
        try:
            return self._call("ModelConfig", self._messages.ModelConfigRequest(name=self.name)).config
        except ServingError as error:
            raise self._unknown_model(error) from error

    def _unknown_model(self, error: ServingError) -> ServingError:
        """A better error where the server is there and only the name is not."""
        loaded = self._call("ModelStatistics", self._messages.ModelStatisticsRequest())  # the index may be closed
        names = {model.name for model in loaded.model_stats}
        if self.name in names:
            return error
        return ServingError(f"unknown model {self.name!r} at {self.url}: {nearest(self.name, names)}")

    def _call(self, method: str, request: Any) -> Any:
        try:
            return getattr(self._stub, method)(request, timeout=self.timeout_s)
        except self._grpc.RpcError as error:
            raise ServingError(self._sentence(error)) from error

    def _sentence(self, error: Any) -> str:
        code, text = error.code(), error.details() or ""
        if code == self._grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"{self.name} at {self.url} did not answer within {self.timeout_s:g} s"
        if code == self._grpc.StatusCode.UNAVAILABLE and "connect" in text:
            return f"no Triton server answers at {self.url}: `genzoo serve {self.name}` starts one"
        text = re.sub(r"\[request id: [^]]*\] *| NOTE: .*", "", text, flags=re.DOTALL)
        return f"{self.name}: {' '.join(text.split()).rstrip('.')}"


def _protocol() -> tuple[Any, Any, Any]:
    try:
        import grpc
        from tritonclient.grpc import service_pb2, service_pb2_grpc
    except ImportError as error:
        raise ServingError("the Triton client is not installed: `pip install genzoo[serving]`") from error
    return grpc, service_pb2, service_pb2_grpc


def _datatype(name: str, tensor: np.ndarray) -> str:
    try:
        return datatype(tensor.dtype)
    except KeyError:
        raise ServingError(f"{name} is {tensor.dtype}: Triton takes {', '.join(DTYPES)}") from None


def _bytes(tensor: np.ndarray) -> bytes:
    """Little-endian values in C order; text as UTF-8, each with its length before it."""
    if tensor.dtype.kind != "U":
        return tensor.tobytes()
    texts = [str(text).encode() for text in tensor.reshape(-1)]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
