"""The GPU of this process, by CUDA's own Python bindings, imported here only: what it is, and memory on it.

torch is not needed: a host that serves engines has NumPy and these.
"""

from __future__ import annotations

import re
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import GenzooError

DRIVER = Path("/proc/driver/nvidia/version")


class GpuError(GenzooError):
    """There is no NVIDIA GPU that can be used, or it refused; the message has CUDA's own words."""


@dataclass(frozen=True)
class Gpu:
    """A GPU as its driver names it: "NVIDIA L4", "sm89", "580.95.05"."""

    name: str
    generation: str
    driver: str

    @property
    def capability(self) -> str:
        """Its compute capability, as Triton writes it: "8.9"."""
        return capability(self.generation)

    def __str__(self) -> str:
        return f"{self.name} ({self.generation}, driver {self.driver})"


def capability(generation: str) -> str:
    """The compute capability of a generation: "8.9" for sm89, "12.0" for sm120."""
    digits = generation.removeprefix("sm")
    return f"{digits[:-1]}.{digits[-1]}"


def gpu() -> Gpu:
    """The current GPU. Raises GpuError where there is none."""
    runtime = _runtime()
    properties = _checked(runtime.cudaGetDeviceProperties(_checked(runtime.cudaGetDevice())))
    name = properties.name.split(b"\0")[0].decode()
    return Gpu(name, f"sm{properties.major}{properties.minor}", _driver(runtime))


def use(device: int) -> None:
    """Make a GPU, by its number, this thread's current one. Raises GpuError."""
    _checked(_runtime().cudaSetDevice(device))


def _driver(runtime: Any) -> str:
    """The driver's release; where the kernel does not tell it, the newest CUDA that it takes."""
    try:
        found = re.search(r"\d+\.\d+(\.\d+)?", DRIVER.read_text())
    except OSError:
        found = None
    if found:
        return found.group()
    version = _checked(runtime.cudaDriverGetVersion())
    return f"for CUDA {version // 1000}.{version % 1000 // 10}"


class DeviceMemory:
    """Arrays on the GPU that was current, by name, and the stream that copies them.

    An allocation is kept until more is asked for.
    """

    def __init__(self) -> None:
        self._runtime = _runtime()
        self._device = _checked(self._runtime.cudaGetDevice())
        self._stream = _checked(self._runtime.cudaStreamCreate())
        self._under_way: list[np.ndarray] = []  # a copy may read an array until the stream is done
        self._held: dict[str, tuple[int, int]] = {}  # address and bytes
        weakref.finalize(self, _free, self._runtime, self._held, self._stream)

    @property
    def stream(self) -> int:
        """The stream's handle."""
        return int(self._stream)

    def enter(self) -> None:
        """Make its GPU the current one, which every thread has of its own. Raises GpuError."""
        use(self._device)

    def reserve(self, name: str, size_bytes: int) -> int:
        """The address of at least so many bytes. Raises GpuError."""
        address, held = self._held.get(name, (0, 0))
        if size_bytes > held:
            if address:
                del self._held[name]
                _checked(self._runtime.cudaFree(address))
            address = int(_checked(self._runtime.cudaMalloc(size_bytes)))
            self._held[name] = address, size_bytes
        return address

    def upload(self, name: str, array: np.ndarray) -> int:
        """The address of a copy of an array, which is kept as long as it may be read. Raises GpuError."""
        array = np.ascontiguousarray(array)
        self._under_way.append(array)
        address = self.reserve(name, max(array.nbytes, 1))
        self._copy(address, array.ctypes.data, array.nbytes, self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice)
        return address

    def download(self, name: str, array: np.ndarray) -> None:
        """Fill a contiguous array once the stream has done what it was asked before. Raises GpuError."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(array.ctypes.data, self._held[name][0], array.nbytes, kind)
        self.wait()

    def wait(self) -> None:
        """Until the stream has done what it was asked. Raises GpuError."""
        try:
            _checked(self._runtime.cudaStreamSynchronize(self._stream))
        finally:
            self._under_way.clear()

    def _copy(self, to: int, source: int, size_bytes: int, kind: Any) -> None:
        _checked(self._runtime.cudaMemcpyAsync(to, source, size_bytes, kind, self._stream))


def _free(runtime: Any, held: dict[str, tuple[int, int]], stream: Any) -> None:
    for address, _ in held.values():
        runtime.cudaFree(address)
    runtime.cudaStreamDestroy(stream)


def _runtime() -> Any:
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise GpuError("CUDA's Python bindings are not installed: `pip install genzoo[gpu]`") from error
    return runtime


def _checked(answer: tuple[Any, ...]) -> Any:
    """What a call returned beside its status. Raises GpuError."""
    status, *values = answer
    if int(status):
        _, words = _runtime().cudaGetErrorString(status)
        raise GpuError(f"no NVIDIA GPU can be used here: {words.decode()} ({status.name})")
    return values[0] if values else None
