"""The stand-ins for CUDA and TensorRT offer nothing that the installed packages lack, and take the same parameters."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

cuda_runtime = pytest.importorskip("cuda.bindings.runtime")
tensorrt_rtx = pytest.importorskip("tensorrt_rtx")

from tests import stand_ins  # noqa: E402

CLASSES = ("DataType", "TensorIOMode", "ILogger", "ICudaEngine", "IExecutionContext", "Runtime")


def public(thing: Any) -> list[str]:
    return [name for name in vars(thing) if not name.startswith("_")]


def parameters(function: Any) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


def overloads(function: Any) -> list[list[str]]:
    """The parameters of a bound C++ method, by its docstring: one list for each of its signatures."""
    signatures = re.findall(rf"^(?:\d+\. )?{function.__name__}\((.*)\) -> ", function.__doc__, re.MULTILINE)
    found = [re.findall(r"(?:^|, )(\*{0,2}\w+)(?=[:,]|$)", each) for each in signatures]
    return [[name for name in each if name != "self"] for each in found]


@pytest.mark.parametrize("name", public(stand_ins.Cuda))
def test_cuda(name: str) -> None:
    real, ours = getattr(cuda_runtime, name), getattr(stand_ins.Cuda, name)
    if inspect.isclass(ours):
        assert ours is real
    else:
        assert parameters(ours) == parameters(real)


def test_a_gpu_s_properties() -> None:
    _, properties = stand_ins.Cuda().cudaGetDeviceProperties(0)
    assert set(vars(properties)) <= set(dir(cuda_runtime.cudaDeviceProp))


@pytest.mark.parametrize("kind", CLASSES)
def test_a_class_of_tensorrt(kind: str) -> None:
    real, ours = getattr(tensorrt_rtx, kind), getattr(stand_ins.TensorRT("tensorrt_rtx", "1"), kind)
    names = public(ours)
    assert names
    for name in names:
        assert hasattr(real, name), f"{kind} has no {name}"
        if inspect.isfunction(getattr(ours, name)):
            assert parameters(getattr(ours, name)) in overloads(getattr(real, name)), f"{kind}.{name}"


def test_a_builder_s_timings() -> None:
    for name in ("create_timing_cache", "set_timing_cache", "get_timing_cache"):
        ours, real = getattr(stand_ins.IBuilderConfig, name), getattr(tensorrt_rtx.IBuilderConfig, name)
        assert parameters(ours) in overloads(real), name
    assert hasattr(tensorrt_rtx.ITimingCache, "serialize")


def test_a_function_of_tensorrt() -> None:
    assert parameters(stand_ins.nptype) == parameters(tensorrt_rtx.nptype)
    assert set(public(stand_ins.TensorRT)) - {"learn"} <= set(dir(tensorrt_rtx))
    assert isinstance(tensorrt_rtx.__version__, str)
