"""Triton's HTTP interface (KServe v2), as far as running a server needs it; the standard library only.

One connection a call: an idle keep-alive would hold up the server's exit.
"""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass, field
from typing import Any

from serving import interface
from zoo.contract.feeds import Tensors
from zoo.contract.spec import GeneratorSpec
from zoo.errors import GenzooError

SECRET_HEADER = "genzoo-supervisor"
# Of a public model's queue, and of what goes by rows: a canary asks whether it lives, not whether it is busy.
BEFORE_USERS = {"priority": 1, interface.URGENT: 1, interface.CANARY: 1}
RESTRICTED = ("shared-memory", "model-repository", "trace", "logging")  # Triton's names of its administration


def restrictions(secret: str) -> list[str]:
    """Options of `tritonserver` that close its administration, over HTTP and gRPC, to whoever lacks the secret."""
    setting = f"{','.join(RESTRICTED)}:{SECRET_HEADER}={secret}"
    return [f"--http-restricted-api={setting}", f"--grpc-restricted-protocol={setting}"]


class EndpointError(GenzooError):
    """The server answered with an error, in its own words."""


@dataclass(frozen=True)
class ServedModel:
    """A generator that is served: its public model is `spec.name`, `graphs` are those of its graphs, the entry first.

    `made_of` tells apart what two versions of it are made of, where it was written here.
    """

    spec: GeneratorSpec
    graphs: tuple[str, ...]
    version: int = 1
    made_of: str = ""


@dataclass(frozen=True)
class Endpoint:
    """An HTTP address, `host:port`. Network failures are OSError, and a missing answer TimeoutError.

    `secret` opens what a server keeps closed to others: loading and unloading.
    """

    address: str
    timeout_s: float = 30.0
    secret: str = field(default="", repr=False)

    def ready(self) -> bool:
        try:
            self.call("GET", "/v2/health/ready")
        except (OSError, http.client.HTTPException, EndpointError):
            return False
        return True

    def generators(self) -> list[ServedModel]:
        """Those that are loaded, of their configurations; the newest version of each. Raises EndpointError."""
        found: dict[str, ServedModel] = {}
        for model in json.loads(self.call("GET", "/v2/models/stats"))["model_stats"]:  # the index may be closed
            name, version = model["name"], int(model["version"])
            parameters = json.loads(self.call("GET", f"/v2/models/{name}/config")).get("parameters", {})
            if "graph" not in parameters or (name in found and found[name].version > version):
                continue
            values = {key: each["string_value"] for key, each in parameters.items()}
            encoders = [graph for graph, _ in json.loads(values.get("encoders", "{}")).values()]
            spec = GeneratorSpec.from_json(json.loads(values["spec"]))
            found[name] = ServedModel(spec, (values["graph"], *encoders), version)
        return list(found.values())

    def load(self, model: str) -> None:
        """Returns once the model can be used. Raises EndpointError."""
        self.call("POST", f"/v2/repository/models/{model}/load", {})

    def unload(self, model: str) -> None:
        """Raises EndpointError."""
        self.call("POST", f"/v2/repository/models/{model}/unload", {})

    def canary(self, spec: GeneratorSpec) -> None:
        """One image at the generator's least cost. Raises EndpointError."""
        self.infer(spec.name, interface.canary(spec))

    def infer(self, model: str, tensors: Tensors) -> None:
        """One execution of a public model, (B,) each; the images are not read. Raises EndpointError."""
        inputs = [
            {
                "name": name,
                "shape": [len(tensor), 1],
                "datatype": interface.datatype(tensor.dtype),
                "data": tensor.tolist(),
            }
            for name, tensor in tensors.items()
        ]
        outputs = [{"name": "image", "parameters": {"binary_data": True}}]
        self.call(
            "POST", f"/v2/models/{model}/infer", {"inputs": inputs, "outputs": outputs, "parameters": BEFORE_USERS}
        )

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> bytes:
        """The answer's bytes. Raises EndpointError."""
        connection = http.client.HTTPConnection(self.address, timeout=self.timeout_s)
        try:
            headers = {SECRET_HEADER: self.secret} if self.secret else {}
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise EndpointError(_reason(answer) or f"{method} {path}: HTTP {response.status}")
        return answer


def _reason(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["error"])
    except (ValueError, KeyError, TypeError):
        return ""
