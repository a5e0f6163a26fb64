"""Stand-ins for CUDA's Python bindings and for TensorRT: host memory, and ONNX Runtime in a plan's place.

Every name that they offer is in the real packages, with the same parameters: tests/export/test_stand_ins.py.
"""

# ruff: noqa: N802, N803, N815 (CUDA's names)
from __future__ import annotations

import ctypes
import hashlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
from cuda.bindings import runtime as real_cuda

from export.bundle import Bundle
from export.engine import Engine
from export.profiles import buckets, profile

MEMORY_BYTES = 1 << 28
Error = real_cuda.cudaError_t
INVALID = Error.cudaErrorInvalidResourceHandle


class Cuda:
    """`cuda.bindings.runtime` of a host with two GPUs of a kind, whose memory is the host's.

    Nothing that a stream is asked for is done before somebody waits for it, and a thread starts on the first GPU.
    """

    cudaMemcpyKind, cudaError_t = real_cuda.cudaMemcpyKind, Error

    def __init__(self, name: str = "NVIDIA L4", major: int = 8, minor: int = 9) -> None:
        self._properties = SimpleNamespace(name=name.encode() + bytes(8), major=major, minor=minor)
        self._held: dict[int, Any] = {}
        self._current = threading.local()
        self._streams: list[int] = []  # the GPU of each
        self._waiting: list[Callable[[], object]] = []

    def cudaGetDevice(self) -> tuple[Any, ...]:
        return Error.cudaSuccess, getattr(self._current, "device", 0)

    def cudaSetDevice(self, device: int) -> tuple[Any, ...]:
        if device > 1:
            return (Error.cudaErrorInvalidDevice,)
        self._current.device = device
        return (Error.cudaSuccess,)

    def cudaGetDeviceProperties(self, device: int) -> tuple[Any, ...]:
        return Error.cudaSuccess, self._properties

    def cudaDriverGetVersion(self) -> tuple[Any, ...]:
        return Error.cudaSuccess, 13000

    def cudaGetErrorString(self, error: Any) -> tuple[Any, ...]:
        return real_cuda.cudaGetErrorString(error)

    def cudaStreamCreate(self) -> tuple[Any, ...]:
        self._streams.append(self.cudaGetDevice()[1])
        return Error.cudaSuccess, len(self._streams) - 1

    def cudaStreamDestroy(self, stream: Any) -> tuple[Any, ...]:
        return (Error.cudaSuccess,)

    def cudaStreamSynchronize(self, stream: Any) -> tuple[Any, ...]:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each()
        return (Error.cudaSuccess,)

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        if size + sum(map(len, self._held.values())) > MEMORY_BYTES:
            return Error.cudaErrorMemoryAllocation, None
        buffer = ctypes.create_string_buffer(size)
        self._held[ctypes.addressof(buffer)] = buffer
        return Error.cudaSuccess, ctypes.addressof(buffer)

    def cudaFree(self, devPtr: int) -> tuple[Any, ...]:
        self.cudaStreamSynchronize(None)
        return (Error.cudaSuccess if self._held.pop(devPtr, None) else Error.cudaErrorInvalidValue,)

    def cudaMemcpyAsync(self, dst: int, src: int, count: int, kind: Any, stream: Any) -> tuple[Any, ...]:
        on_gpu = dst if kind == self.cudaMemcpyKind.cudaMemcpyHostToDevice else src
        if count > len(self._held.get(on_gpu, b"")):
            return (Error.cudaErrorInvalidValue,)
        return (Error.cudaSuccess if self._ask(stream, lambda: ctypes.memmove(dst, src, count)) else INVALID,)

    def _ask(self, stream: int, what: Callable[[], object]) -> bool:
        """Put something on a stream; False where it belongs to another GPU than the thread's current one."""
        if self._streams[stream] != self.cudaGetDevice()[1]:
            return False
        self._waiting.append(what)
        return True


class DataType:
    FLOAT, UINT8, INT64 = "FLOAT", "UINT8", "INT64"


class TensorIOMode:
    INPUT, OUTPUT = "INPUT", "OUTPUT"


class ILogger:
    ERROR, INTERNAL_ERROR = "ERROR", "INTERNAL_ERROR"

    def log(self, severity: Any, msg: str) -> None: ...


DTYPES = {"tensor(float)": DataType.FLOAT, "tensor(uint8)": DataType.UINT8, "tensor(int64)": DataType.INT64}


def nptype(trt_type: str) -> type:
    return {DataType.FLOAT: np.float32, DataType.UINT8: np.uint8, DataType.INT64: np.int64}[trt_type]


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self.active_optimization_profile = 0
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        if not 0 <= profile_index < self._engine.num_optimization_profiles:
            return False
        self.active_optimization_profile = profile_index
        self._shapes, self._addresses = {}, {}  # they are to be set anew
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        smallest, _, largest = self._engine._profiles[self.active_optimization_profile][name]
        self._shapes[name] = shape
        return len(shape) == len(smallest) and all(
            low <= size <= high for low, size, high in zip(smallest, shape, largest, strict=True)
        )

    def get_tensor_shape(self, name: str) -> list[int]:
        """The batch and what is fixed: all dynamic axes of our outputs are the batch."""
        batch = next(iter(self._shapes.values()))[0]
        (declared,) = [each.shape for each in self._engine._session.get_outputs() if each.name == name]
        return [size if isinstance(size, int) else batch for size in declared]

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        from cuda.bindings import runtime  # the stand-in

        shapes, addresses = dict(self._shapes), dict(self._addresses)
        return bool(runtime._ask(stream_handle, lambda: self._execute(shapes, addresses)))  # type: ignore[attr-defined]

    def _execute(self, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int]) -> None:
        session = self._engine._session
        feeds = {
            each.name: self._tensor(each.name, shapes[each.name], addresses[each.name]) for each in session.get_inputs()
        }
        names = [each.name for each in session.get_outputs()]
        for name, result in zip(names, session.run(names, feeds), strict=True):
            self._tensor(name, result.shape, addresses[name])[...] = result

    def _tensor(self, name: str, shape: tuple[int, ...], address: int) -> np.ndarray:
        dtype = np.dtype(nptype(self._engine.get_tensor_dtype(name)))
        size = int(np.prod(shape)) * dtype.itemsize
        return np.frombuffer((ctypes.c_char * size).from_address(address), dtype).reshape(shape)


class ICudaEngine:
    def __init__(self, onnx: Path, profiles: list[Any]) -> None:
        self._session, self._profiles = (
            onnxruntime.InferenceSession(str(onnx), providers=["CPUExecutionProvider"]),
            profiles,
        )
        self._tensors = [*self._session.get_inputs(), *self._session.get_outputs()]

    @property
    def device_memory_size_v2(self) -> int:
        """No number of this graph's, but one that can be known again."""
        return 1_000_003 * len(self._profiles)

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    @property
    def num_optimization_profiles(self) -> int:
        return len(self._profiles)

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        return list(self._profiles[profile_index][name])

    def get_tensor_name(self, index: int) -> str:
        return str(self._tensors[index].name)

    def get_tensor_mode(self, name: str) -> str:
        return TensorIOMode.INPUT if name in self._profiles[0] else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> str:
        return next(DTYPES[each.type] for each in self._tensors if each.name == name)

    def create_execution_context(self, strategy: Any = None) -> IExecutionContext:
        return IExecutionContext(self)


class ITimingCache:
    def __init__(self, held: dict[str, Any]) -> None:
        self._held = held

    def serialize(self) -> bytes:
        return json.dumps(self._held).encode()


class IBuilderConfig:
    """A builder's timings, on one GPU; what it is shown is seen, and a kernel is measured once."""

    def __init__(self, gpu: str) -> None:
        self.gpu, self.format, self.shown = gpu, 1, list[bytes]()
        self._cache: ITimingCache | None = None

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache | None:
        self.shown.append(serialized_timing_cache)
        held = json.loads(
            serialized_timing_cache or json.dumps({"gpu": self.gpu, "format": self.format, "kernels": []})
        )
        return ITimingCache(held) if held["format"] == self.format else None

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        if cache._held["gpu"] != self.gpu and not ignore_mismatch:
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        return self._cache

    def measure(self, kernel: str) -> bool:
        """Whether a kernel was not measured yet; it is now."""
        assert self._cache is not None, "a builder without a cache measures everything, and nobody keeps it"
        new = kernel not in self._cache._held["kernels"]
        self._cache._held["kernels"] += [kernel] if new else []
        return new


class TensorRT(ModuleType):
    """A release of TensorRT or TensorRT-RTX that executes the plans that it was taught, and no others."""

    DataType, TensorIOMode, ILogger = DataType, TensorIOMode, ILogger
    ICudaEngine, IExecutionContext = ICudaEngine, IExecutionContext

    def __init__(self, name: str, version: str) -> None:
        super().__init__(name)
        self.__version__, self.nptype = version, nptype
        self._plans: dict[str, tuple[Path, Any]] = {}
        known = self._plans

        class Runtime:
            def __init__(self, logger: Any) -> None:
                self._logger = logger

            def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
                found = known.get(hashlib.sha256(serialized_engine).hexdigest())
                if found is None:
                    self._logger.log(ILogger.ERROR, "no plan of ours")
                return ICudaEngine(*found) if found else None

        self.Runtime = Runtime

    def learn(self, engine: Engine, bundle: Bundle) -> None:
        """Execute a plan by the graph that it was built from, within the sizes of its buckets."""
        graph = str(engine.record["inputs"]["graph"])
        found = buckets(bundle.served_spec, bundle.max_batch, engine.ends).values()
        self._plans[engine.sha256] = bundle.graph_path(graph), [profile(bundle.inputs(graph), each) for each in found]
