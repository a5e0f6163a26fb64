"""What is exported: modules with tensors that are declared once.

ONNX axes, TensorRT profiles, `config.pbtxt`, dummy inputs, the client and the docs all derive from these.
This module knows neither torch nor any runtime; a `Graph` only carries the module that a family built.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

OPSET = 20  # of an exported graph: later ones are slower on ONNX Runtime's CPU provider where groups are normalized
ENCODE = "encode_"  # before a condition's name: the graph that it goes through before the network
BATCH = "batch"  # the dynamic axis that every tensor of an exported graph begins with
AXIS = re.compile(r"(?:(?P<times>[1-9][0-9]{0,3})\*)?(?P<name>[a-z_]+)(?:/(?P<part>[1-9][0-9]{0,3}))?")
MAX_SIZE = 1 << 16  # of any number in a spec from outside
MAX_VALUES = 1 << 26  # of all that a generator takes for one image, or gives
MAX_BATCH = 64  # images of one execution, unless a bundle says otherwise


def size(axis: int | str, sizes: Mapping[str, int]) -> int:
    """The length of an axis: a number, or a name in `sizes`, perhaps with a factor: "height", "height/8", "2*height".

    Raises KeyError for a name without a size.
    """
    if isinstance(axis, int):
        return axis
    if axis in sizes:
        return sizes[axis]
    name, times, part = factor(axis)
    return sizes[name] * times // part


def factor(axis: str) -> tuple[str, int, int]:
    """The name in an axis, and what it is multiplied and divided by. Raises KeyError for what is no axis."""
    found = AXIS.fullmatch(axis)
    if found is None:
        raise KeyError(axis)
    return found["name"], int(found["times"] or 1), int(found["part"] or 1)


def concrete(shape: tuple[int | str, ...], sizes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(size(axis, sizes) for axis in shape)


@dataclass(frozen=True)
class TensorSpec:
    """A tensor at a graph's edge: its name, numpy dtype name, and shape, where a `str` is a dynamic axis."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def concrete(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The shape with every dynamic axis replaced from `sizes`; raises KeyError for an axis without a size."""
        return concrete(self.shape, sizes)

    def batched(self, *axes: int | str) -> TensorSpec:
        """The same for a batch: (batch, *axes, *shape)."""
        return TensorSpec(self.name, self.dtype, (BATCH, *axes, *self.shape))

    def zeros(self, sizes: Mapping[str, int]) -> np.ndarray:
        return np.zeros(self.concrete(sizes), np.dtype(self.dtype))

    @property
    def dynamic_axes(self) -> dict[int, str]:
        return {index: axis for index, axis in enumerate(self.shape) if isinstance(axis, str)}


@runtime_checkable
class OnnxSource(Protocol):
    """A module that is an ONNX model already, and need not be traced."""

    def onnx_model(self) -> Any:
        """An `onnx.ModelProto` with its weights inside, and with the edges of the graph that holds the module."""


@dataclass(frozen=True)
class Graph:
    """One exportable module (`torch.nn.Module`) with named tensors, called with its inputs in their order."""

    name: str
    module: Any
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
