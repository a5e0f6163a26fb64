"""The numbers in which a graph computes: lowering it to 16 bits by explicit casts, and emulating that on a CPU.

TensorRT is strongly typed, so precision is in the graph. Matrix products and convolutions, and what lies between them,
run in 16 bits with accumulation in 32; noise features, norm statistics and softmax stay float32 islands. ONNX Runtime's
CPU provider has no bfloat16 convolution and drops roundings to float16 that it inserts itself, so the gate runs an
emulation: the same values rounded at the same places, float32 kernels between.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from export.onnx_graph import OnnxGraph, as_model, subgraphs
from export.rewrite import nodes_of
from export.variant import Precision
from zoo.contract.graph import OPSET

LOWERED = {Precision.MIXED: Precision.BF16}  # what lies between the int8 layers
ELEMENT_TYPES = {Precision.FP16: TensorProto.FLOAT16, Precision.BF16: TensorProto.BFLOAT16}
# 22 is the first with bfloat16 convolutions.
OPSETS = dict.fromkeys(Precision, OPSET) | dict.fromkeys((Precision.BF16, Precision.MIXED), 22)
PRODUCTS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
FOLLOWERS = {  # they take the type of what they are given
    "Add", "AveragePool", "Clip", "Concat", "DepthToSpace", "Div", "Expand", "Flatten", "Gather", "Identity",
    "LeakyRelu", "MaxPool", "Mul", "Pad", "Relu", "Reshape", "Resize", "Sigmoid", "Slice", "SpaceToDepth", "Split",
    "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze",
}  # fmt: skip
ONLY_FIRST = {"Resize", "Gather"}  # of their float inputs only the first is data
SHAPE_VALUES = 64  # no constant that says a shape has more
UNSUPPORTED = {Precision.BF16: {"ConvTranspose"}}  # by TensorRT


def in_precision(state: Mapping[str, Any], precision: Precision) -> dict[str, np.ndarray]:
    """A module's weights by name, and by `name.precision` as a lowered graph uses them."""
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    precision = LOWERED.get(precision, precision)
    if precision not in ELEMENT_TYPES:
        return arrays
    return arrays | {
        f"{name}.{precision.value}": _rounded(array, precision)
        for name, array in arrays.items()
        if array.dtype.kind == "f"
    }


def _rounded(array: np.ndarray, precision: Precision) -> np.ndarray:
    with np.errstate(over="ignore"):  # what overflows is for the gate to find
        return array.astype(helper.tensor_dtype_to_np_dtype(ELEMENT_TYPES[precision]))


def lower(graph: OnnxGraph, precision: Precision, only: Collection[str] | None = None) -> OnnxGraph:
    """The graph with its products in `precision`, or only those that make the values `only`; its edges stay float32."""
    if precision not in ELEMENT_TYPES:
        return graph
    proto = onnx.GraphProto()
    proto.CopyFrom(graph.proto)
    return _Lowering(replace(graph, proto=proto, tensors=dict(graph.tensors)), precision, only).run()


class _Lowering:
    """One pass over a graph in topological order, that knows for each value whether it has 16 bits."""

    def __init__(self, graph: OnnxGraph, precision: Precision, only: Collection[str] | None) -> None:
        self.graph, self.precision, self.only = graph, precision, only
        self.products = PRODUCTS - UNSUPPORTED.get(precision, set())
        self.floats = {name for name, kind in _types_of(graph).items() if kind == TensorProto.FLOAT}
        self.initializers = {tensor.name for tensor in graph.proto.initializer}
        self.low: set[str] = set()
        self.casts: dict[tuple[str, bool], str] = {}
        self.nodes: list[onnx.NodeProto] = []

    def run(self) -> OnnxGraph:
        proto = self.graph.proto
        for node in proto.node:
            low = self._is_low(node)
            count = 1 if node.op_type in ONLY_FIRST else len(node.input)
            inputs = [self._as(name, low) if i < count else name for i, name in enumerate(node.input)]
            node.input[:] = inputs
            for inner in list(nodes_of(node))[1:]:  # a graph within stays in float32
                inner.input[:] = [self._as(name, False) if name in self.low else name for name in inner.input]
            self.nodes.append(node)
            if low:
                self.low |= set(node.output) & self.floats
        self._raise_outputs()
        del proto.node[:]
        proto.node.extend(self.nodes)
        self._drop_unused()
        return self.graph

    def _is_low(self, node: onnx.NodeProto) -> bool:
        if node.op_type in FOLLOWERS:
            return any(name in self.low for name in node.input)
        return node.op_type in self.products and (self.only is None or node.output[0] in self.only)

    def _as(self, name: str, low: bool) -> str:
        """The name of the same value in the wanted type."""
        if name not in self.floats or (name in self.low) == low:
            return name
        if (name, low) not in self.casts:
            kind = ELEMENT_TYPES[self.precision] if low else TensorProto.FLOAT
            self.casts[name, low] = f"{name}/{self.precision.value if low else 'fp32'}"
            if name in self.initializers:
                self._add_initializer(name, self.casts[name, low], kind)
            else:
                self.nodes.append(helper.make_node("Cast", [name], [self.casts[name, low]], to=kind))
        return self.casts[name, low]

    def _add_initializer(self, name: str, low_name: str, kind: int) -> None:
        self.graph.tensors[low_name] = _rounded(self.graph.tensors[name], self.precision)
        dims = self.graph.tensors[name].shape
        self.graph.proto.initializer.add(name=low_name, data_type=kind, dims=dims)

    def _raise_outputs(self) -> None:
        for value in self.graph.proto.output:
            if value.name in self.low:
                for node in self.nodes:
                    node.input[:] = [f"{value.name}/low" if name == value.name else name for name in node.input]
                    node.output[:] = [f"{value.name}/low" if name == value.name else name for name in node.output]
                cast = helper.make_node("Cast", [f"{value.name}/low"], [value.name], to=TensorProto.FLOAT)
                self.nodes.append(cast)

    def _drop_unused(self) -> None:
        used = {name for node in self.nodes for user in nodes_of(node) for name in user.input}
        kept = [tensor for tensor in self.graph.proto.initializer if tensor.name in used]
        del self.graph.proto.initializer[:]
        self.graph.proto.initializer.extend(kept)
        for name in set(self.graph.tensors) - used:
            del self.graph.tensors[name]


def _types_of(graph: OnnxGraph) -> dict[str, int]:
    """`element_types` of a graph whose constants lie apart: inference needs the values of shapes, axes and scales."""
    proto = onnx.GraphProto()
    proto.CopyFrom(graph.proto)
    for tensor in proto.initializer:
        if graph.tensors[tensor.name].size <= SHAPE_VALUES:
            tensor.raw_data = graph.tensors[tensor.name].tobytes()
    return element_types(as_model(proto))


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """The element type of every value of a model's graph and of the graphs within."""
    types: dict[str, int] = {}
    for graph in subgraphs(onnx.shape_inference.infer_shapes(model).graph):
        types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
        for value in (*graph.input, *graph.value_info, *graph.output):
            types[value.name] = value.type.tensor_type.elem_type
    return types


def emulate(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with float32 kernels, every 16-bit value rounded as before."""
    types = element_types(model)
    low = {name: kind for name, kind in types.items() if kind in (TensorProto.FLOAT16, TensorProto.BFLOAT16)}
    for graph in reversed(subgraphs(model.graph)):
        weights = [tensor.name for tensor in graph.initializer if tensor.name in low]
        nodes = [helper.make_node("Cast", [name], [f"{name}/wide"], to=TensorProto.FLOAT) for name in weights]
        for node in graph.node:
            node.input[:] = [f"{name}/wide" if name in low else name for name in node.input]
            outputs = [name for name in node.output if name in low]
            if node.op_type == "Cast" and outputs:
                nodes.append(node)
            else:
                node.output[:] = [f"{name}/exact" if name in low else name for name in node.output]
                nodes.append(node)
                nodes += [helper.make_node("Cast", [f"{name}/exact"], [name], to=low[name]) for name in outputs]
            nodes += [helper.make_node("Cast", [name], [f"{name}/wide"], to=TensorProto.FLOAT) for name in outputs]
        del graph.node[:]
        graph.node.extend(nodes)
    return model
