"""OpenVINO on the CPU: it reads a bundle's graphs as they are, and computes in float32 or bfloat16."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from export.bundle import Bundle
from export.runners import RunnerError, check_names, cores
from export.runtimes.adapter import BOTH, Executor, check_options, of_graphs
from export.runtimes.names import Runtime
from export.variant import Precision
from zoo.contract.feeds import Runner, Tensors

HINTS = {Precision.FP32: "f32", Precision.INT8: "f32", Precision.BF16: "bf16"}


def check() -> Any:
    """The installed package. Raises RunnerError."""
    try:
        import openvino
    except ImportError as error:
        raise RunnerError("OpenVINO is not installed: `pip install genzoo[openvino]`") from error
    return openvino


@cache
def _core() -> Any:
    """One for the life of the process.

    The CPU plug-in of each gives the thread a stack for signal handlers and takes it back with itself: where a second
    outlives the first, the next signal, Ctrl-C too, is handled on memory that is gone.
    """
    return check().Core()


class OpenVinoRunner:
    """A graph's file on OpenVINO's CPU plug-in, with the names of its tensors; one call at a time."""

    def __init__(
        self,
        path: Path,
        inputs: Sequence[str],
        outputs: Sequence[str],
        threads: int | None = None,
        precision: Precision = Precision.FP32,
    ) -> None:
        self.path = path
        core = _core()
        config = {
            "INFERENCE_PRECISION_HINT": HINTS[precision],
            "INFERENCE_NUM_THREADS": threads or cores(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        try:
            self._compiled = core.compile_model(core.read_model(str(path)), "CPU", config)
        except Exception as error:  # its errors are RuntimeErrors of a page
            reason = " ".join(str(error).split())[-200:]
            raise RunnerError(f"OpenVINO could not load {path}: {reason}; choose another runtime") from error
        self._inputs = {name: _place(self._compiled.inputs, name, path) for name in inputs}
        self._outputs = {name: _place(self._compiled.outputs, name, path) for name in outputs}
        self._request = self._compiled.create_infer_request()

    def run(self, **tensors: np.ndarray) -> Tensors:
        """Raises RunnerError where an input is missing, too many, or of the wrong type or shape."""
        check_names(self.path, tensors, self._inputs)
        try:
            given = {self._inputs[name]: np.ascontiguousarray(each) for name, each in tensors.items()}
            found = self._request.infer(given)
        except Exception as error:  # as when loading
            reason = " ".join(str(error).split())[-200:]
            raise RunnerError(f"OpenVINO could not run {self.path}: {reason}") from error
        return {name: np.asarray(found[place]) for name, place in self._outputs.items()}


def _place(ports: Sequence[Any], name: str, path: Path) -> int:
    """Where the tensor of that name is among some: where nothing is done to a value it has several names."""
    for place, port in enumerate(ports):
        if name in port.get_names():
            return place
    raise RunnerError(f"OpenVINO finds no {name} in {path}; choose another runtime")


def _graphs(bundle: Bundle, executor: Executor) -> Callable[[str], Runner]:
    check_options(executor, "precision", "loop", "threads")

    def opened(graph: str) -> Runner:
        inputs, outputs = ([each.name for each in side] for side in (bundle.inputs(graph), bundle.outputs(graph)))
        return OpenVinoRunner(bundle.graph_path(graph), inputs, outputs, executor.threads, executor.precision)

    return opened


ADAPTERS = {Runtime.OPENVINO: of_graphs(Runtime.OPENVINO, ("openvino",), "openvino", check, _graphs, BOTH)}
