"""What shape each value of a graph has at given sizes: one pass in the order of its nodes, each by ONNX's own rules.

ONNX's inference over a whole graph loses a product of two sides, which is the length of attention. Here, what a graph
computes of shapes is computed: integers of few elements.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Protocol

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.defs import get_schema
from onnx.reference import ReferenceEvaluator
from onnx.shape_inference import InferenceError, infer_node_outputs

from zoo.contract.graph import TensorSpec

FEW = 64  # no shape, no axes and no scales have more elements


@dataclass(frozen=True)
class Value:
    """A tensor's element type, as ONNX numbers it, and its shape."""

    kind: int
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return int(prod(self.shape) * helper.tensor_dtype_to_np_dtype(self.kind).itemsize)


class Shaped(Protocol):
    """A graph of which only what shapes follow from is needed: its constants by name, and what it takes."""

    @property
    def proto(self) -> onnx.GraphProto: ...
    @property
    def tensors(self) -> Mapping[str, np.ndarray]: ...
    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...


def value_info(spec: TensorSpec) -> onnx.ValueInfoProto:
    dtype = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
    return helper.make_tensor_value_info(spec.name, dtype, spec.shape)


def values(graph: Shaped, sizes: Mapping[str, int], opset: int) -> dict[str, Value]:
    """What the nodes, inputs and constants of a graph make at sizes of its dynamic axes.

    What depends on a graph within a node, or on the values of a tensor of floats, is left out.
    """
    types, known = _edges(graph, sizes), {}
    for tensor in graph.proto.initializer:
        types[tensor.name] = helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
        if (array := graph.tensors[tensor.name]).size <= FEW:
            known[tensor.name] = array
    imports = [helper.make_opsetid("", opset)]
    for node in graph.proto.node:
        asked = [name for name in node.input if name]
        if not all(name in types for name in asked) or any(a.HasField("g") for a in node.attribute):
            continue
        data = {name: numpy_helper.from_array(known[name], name) for name in asked if name in known}
        try:
            schema = get_schema(node.op_type, opset, node.domain)
            found = infer_node_outputs(schema, node, {name: types[name] for name in asked}, data, opset_imports=imports)
        except InferenceError:
            continue
        types |= {name: each for name, each in found.items() if _is_known(each)}
        known |= _computed(node, types, known, opset)
    return {name: _value(each) for name, each in types.items()}


def _edges(graph: Shaped, sizes: Mapping[str, int]) -> dict[str, onnx.TypeProto]:
    concrete = [TensorSpec(each.name, each.dtype, each.concrete(sizes)) for each in graph.inputs]
    return {each.name: value_info(each).type for each in concrete}


def _is_known(type_: onnx.TypeProto) -> bool:
    tensor = type_.tensor_type
    return tensor.HasField("shape") and all(each.HasField("dim_value") for each in tensor.shape.dim)


def _value(type_: onnx.TypeProto) -> Value:
    tensor = type_.tensor_type
    return Value(tensor.elem_type, tuple(each.dim_value for each in tensor.shape.dim))


def _computed(
    node: onnx.NodeProto, types: Mapping[str, onnx.TypeProto], known: Mapping[str, np.ndarray], opset: int
) -> dict[str, np.ndarray]:
    """The integers that a node makes of known ones, or of a shape."""
    made = [_value(types[name]) for name in node.output if name in types]
    if any(each.kind != onnx.TensorProto.INT64 or prod(each.shape) > FEW for each in made):
        return {}
    given = {name: known[name] for name in node.input if name in known}
    if node.op_type in ("Shape", "Size"):
        source = _value(types[node.input[0]])
        given = {node.input[0]: np.broadcast_to(np.zeros((), np.int8), source.shape)}  # of no size in memory
    if not made or any(name and name not in given for name in node.input):
        return {}
    results = ReferenceEvaluator(node, opsets={"": opset}).run(None, given)
    return dict(zip(node.output, (np.asarray(each) for each in results), strict=True))
