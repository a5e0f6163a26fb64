"""What our backends share: a Triton model whose graph is run by one of our runners."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from zoo.contract.feeds import Runner


class GraphModel(ABC):
    """Triton's interface, but for the runner."""

    @abstractmethod
    def open(self, folder: Path, config: dict[str, Any], device: int) -> Runner:
        """The runner of the model version in `folder`, on a GPU by its number where the instance has one."""

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        self.inputs = [entry["name"] for entry in config["input"]]
        self.outputs = [entry["name"] for entry in config["output"]]
        folder = Path(args["model_repository"], args["model_version"])
        self.runner = self.open(folder, config, int(args["model_instance_device_id"]))

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
