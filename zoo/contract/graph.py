"""What is exported: modules with tensors that are declared once.

ONNX axes, TensorRT profiles, `config.pbtxt`, dummy inputs, the client and the docs all derive from these.
This module knows neither torch nor any runtime; a `Graph` only carries the module that a family built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

OPSET = 20  # of an exported graph: later ones are slower on ONNX Runtime's CPU provider where groups are normalized
BATCH = "batch"  # the dynamic axis that every tensor of an exported graph begins with
MAX_BATCH = 64  # images of one execution, unless a bundle says otherwise


@dataclass(frozen=True)
class TensorSpec:
    """A tensor at a graph's edge: its name, numpy dtype name, and shape, where a `str` is a dynamic axis."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def concrete(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The shape with every dynamic axis replaced from `sizes`; raises KeyError for an axis without a size."""
        return tuple(sizes[axis] if isinstance(axis, str) else axis for axis in self.shape)

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
