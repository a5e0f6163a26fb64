"""Trials of graphs that are in no file yet, on ONNX Runtime's CPU provider: what numbers cost is measured before they
are chosen. 16 bits are emulated, as the gate does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from export.onnx_graph import OnnxGraph, as_model, initializers, subgraphs
from export.precision import OPSETS, emulate
from export.variant import Precision
from zoo.contract.feeds import Tensors

LOW = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


class TrialRunner:
    """A graph on one thread; `names` are values of it, inner ones, inputs and weights too, in place of its outputs."""

    def __init__(self, graph: OnnxGraph, names: Sequence[str] = ()) -> None:
        self.names = list(names) or [spec.name for spec in graph.outputs]
        self._weights = {name: graph.tensors[name] for name in self.names if name in graph.tensors}
        given = {*self._weights, *(spec.name for spec in graph.inputs)}
        self._made = [name for name in self.names if name not in given]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        model = _model(graph, self._made).SerializeToString()
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(self, **tensors: np.ndarray) -> Tensors:
        made = self._session.run(self._made, tensors) if self._made else []
        found = {**tensors, **self._weights, **dict(zip(self._made, made, strict=True))}
        return {name: found[name] for name in self.names}


def run(graph: OnnxGraph, names: Sequence[str], inputs: Sequence[Tensors]) -> Iterator[list[np.ndarray]]:
    """The named values, inner ones too, for each of the inputs."""
    runner = TrialRunner(graph, names)
    for tensors in inputs:
        found = runner.run(**tensors)
        yield [found[name] for name in names]


def _model(graph: OnnxGraph, names: Sequence[str]) -> onnx.ModelProto:
    """The graph around its weights, these values among its outputs."""
    proto = onnx.GraphProto()
    proto.CopyFrom(graph.proto)
    for tensor in initializers(proto):
        if tensor.name in graph.tensors:  # a composition's own constants hold their values
            tensor.CopyFrom(numpy_helper.from_array(graph.tensors[tensor.name], tensor.name))
    outputs = {value.name for value in proto.output}
    proto.output.extend(helper.make_empty_tensor_value_info(name) for name in names if name not in outputs)
    if not _has_16_bits(proto):
        return as_model(proto)
    return emulate(as_model(proto, OPSETS[Precision.BF16]))


def _has_16_bits(proto: onnx.GraphProto) -> bool:
    nodes = [node for graph in subgraphs(proto) for node in graph.node if node.op_type == "Cast"]
    casts = [helper.get_attribute_value(attribute) for node in nodes for attribute in node.attribute]
    return any(kind in LOW for kind in casts) or any(each.data_type in LOW for each in initializers(proto))
