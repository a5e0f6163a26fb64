"""Runners on an NVIDIA GPU: an engine by TensorRT, and a graph on ONNX Runtime's GPU providers. Neither needs torch."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from export.cuda import DeviceMemory
from export.engine import Engine, EngineError, Library, deserialize
from export.runners import CUDA, RTX, TENSORRT, RunnerError, check_names, sentence, session
from zoo.contract.feeds import Tensors

BOUND_SHAPES = 16  # of which a session keeps buffers, and its CUDA graph; others run without
CAPTURE = {CUDA: "enable_cuda_graph", RTX: "enable_cuda_graph"}  # TENSORRT has one graph a session, for one shape
DTYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}  # of the outputs of our graphs


Shapes = tuple[tuple[int, ...], tuple[int, ...]]  # the least and the most of a tensor


class TensorRTRunner:
    """An engine on the GPU of this process, by the release of the library that built it. Threads may share one.

    Of several optimisation profiles it executes by the first that holds the shapes of a request.
    """

    def __init__(self, engine: Engine) -> None:
        loaded, trt = deserialize(engine), engine.library.load()
        self.path = engine.path
        self.activation_bytes = int(loaded.device_memory_size_v2)  # of the GPU, for its largest execution
        self._context = loaded.create_execution_context()
        if self._context is None:
            raise RunnerError(f"{self.path} got no room on the GPU: is its memory taken by another process?")
        self._memory, self._lock = DeviceMemory(), Lock()
        names = [loaded.get_tensor_name(index) for index in range(loaded.num_io_tensors)]
        dtypes = {name: np.dtype(trt.nptype(loaded.get_tensor_dtype(name))) for name in names}
        taken = {name for name in names if loaded.get_tensor_mode(name) == trt.TensorIOMode.INPUT}
        self._inputs = {name: dtypes[name] for name in names if name in taken}
        self._outputs = {name: dtypes[name] for name in names if name not in taken}
        several = range(loaded.num_optimization_profiles) if loaded.num_optimization_profiles > 1 else ()
        self._profiles: list[dict[str, Shapes]] = [
            {name: _ends(loaded.get_tensor_profile_shape(name, index)) for name in self._inputs} for index in several
        ]

    def run(self, **tensors: np.ndarray) -> Tensors:
        """Raises RunnerError where an input is missing, too many, of the wrong type, or outside the engine's sizes."""
        check_names(self.path, tensors, self._inputs)
        with self._lock:
            self._memory.enter()
            self._choose(tensors)
            for name, tensor in tensors.items():
                self._feed(name, tensor)
            results = {name: self._room(name, dtype) for name, dtype in self._outputs.items()}
            if not self._context.execute_async_v3(self._memory.stream):
                raise RunnerError(f"{self.path} could not be executed: is the GPU's memory taken by another process?")
            for name, result in results.items():
                self._memory.download(name, result)
        return results

    def _choose(self, tensors: Tensors) -> None:
        """Switch to the profile of these shapes; where there is none, the one that is on says what is wrong."""
        index = next((index for index, profile in enumerate(self._profiles) if _holds(profile, tensors)), None)
        if index is None or index == self._context.active_optimization_profile:
            return
        if not self._context.set_optimization_profile_async(index, self._memory.stream):
            raise RunnerError(f"{self.path} could not switch to its optimisation profile {index}")

    def _feed(self, name: str, tensor: np.ndarray) -> None:
        if tensor.dtype != self._inputs[name]:
            raise RunnerError(f"{name} is {tensor.dtype}, {self.path} expects {self._inputs[name]}")
        if not self._context.set_input_shape(name, tensor.shape):
            raise RunnerError(f"{name} of shape {tensor.shape} is outside the sizes that {self.path} was built for")
        self._context.set_tensor_address(name, self._memory.upload(name, tensor))

    def _room(self, name: str, dtype: np.dtype[Any]) -> np.ndarray:
        """An array for an output, and the GPU's memory for it."""
        result = np.empty(tuple(self._context.get_tensor_shape(name)), dtype)
        self._context.set_tensor_address(name, self._memory.reserve(name, max(result.nbytes, 1)))
        return result


def _ends(three: Any) -> Shapes:
    smallest, _, largest = three
    return tuple(smallest), tuple(largest)


def _holds(profile: dict[str, Shapes], tensors: Tensors) -> bool:
    return all(
        len(low) == tensor.ndim and all(a <= size <= b for a, size, b in zip(low, tensor.shape, high, strict=True))
        for name, tensor in tensors.items()
        for low, high in (profile[name],)
    )


class OnnxRuntimeGpuRunner:
    """A graph on one of ONNX Runtime's GPU providers, its tensors bound to the GPU's memory. Threads may share one.

    With `capture`, for graphs without a loop, a shape is a CUDA graph from its second call on, if the provider has them
    and takes every node. `device` is "cpu" where a test binds without a GPU.
    """

    def __init__(self, path: Path, provider: str, *, capture: bool = False, device: str = "cuda") -> None:
        self.path, self.device = path, device
        capture = capture and provider in CAPTURE
        _prepare(provider)
        try:
            self._session = session(path, provider, options=_options(provider, capture))
        except RunnerError:
            if not capture:
                raise
            self._session = session(path, provider, options=_options(provider, capture=False))
        self._bound: dict[Key, _Binding] = {}
        self._lock = Lock()

    def run(self, **tensors: np.ndarray) -> Tensors:
        """Raises RunnerError where an input is missing, too many, or of the wrong type or shape."""
        check_names(self.path, tensors, [each.name for each in self._session.get_inputs()])
        key = tuple((name, tensor.shape, tensor.dtype.str) for name, tensor in sorted(tensors.items()))
        with self._lock, sentence(self.path):
            found = self._bound.get(key)
            if found is None and len(self._bound) == BOUND_SHAPES:
                names = [each.name for each in self._session.get_outputs()]
                return dict(zip(names, self._session.run(names, tensors, _as_graph(-1)), strict=True))
            if found is None:
                found = self._bound[key] = _Binding(self._session, tensors, self.device, len(self._bound))
            return found.run(tensors)


Key = tuple[tuple[str, tuple[int, ...], str], ...]


class _Binding:
    """Buffers for tensors of one shape, at the fixed addresses that a CUDA graph needs; `graph` is its number."""

    def __init__(self, session: Any, tensors: Tensors, device: str, graph: int) -> None:
        from onnxruntime import OrtValue

        sizes: dict[str, int] = {}
        for each in session.get_inputs():
            sizes |= dict(zip(map(str, each.shape), tensors[each.name].shape, strict=True))
        self.session, self.binding, self.options = session, session.io_binding(), _as_graph(graph)
        self.inputs = {
            name: OrtValue.ortvalue_from_numpy(np.ascontiguousarray(tensor), device, 0)
            for name, tensor in tensors.items()
        }
        self.outputs = {}
        for each in session.get_outputs():
            shape = [sizes.get(str(axis), axis) for axis in each.shape]
            self.outputs[each.name] = OrtValue.ortvalue_from_shape_and_type(shape, DTYPES[each.type], device, 0)
        for name, value in self.inputs.items():
            self.binding.bind_ortvalue_input(name, value)
        for name, value in self.outputs.items():
            self.binding.bind_ortvalue_output(name, value)

    def run(self, tensors: Tensors) -> Tensors:
        for name, tensor in tensors.items():
            self.inputs[name].update_inplace(np.ascontiguousarray(tensor))
        self.session.run_with_iobinding(self.binding, self.options)
        return {name: value.numpy() for name, value in self.outputs.items()}


def _as_graph(number: int) -> Any:
    """Run options with the number of a CUDA graph; -1 captures none."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(number))
    return options


def _prepare(provider: str) -> None:
    """What a provider takes from the process, before its first session; float32 is not cut to TF32 there either."""
    if provider in (TENSORRT, RTX):
        os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")  # they have no option for it
    if provider == TENSORRT:
        with contextlib.suppress(EngineError):  # its libraries may be the system's
            Library.FULL.load()  # finds them where pip put them, which ONNX Runtime does not


def _options(provider: str, capture: bool) -> dict[str, str]:
    """Of a provider: float32 is not cut to TF32, for a seed is one image on every runtime."""
    options = {CUDA: {"use_tf32": "0"}}.get(provider, {})
    return options | ({CAPTURE[provider]: "1"} if capture else {})
