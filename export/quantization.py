"""Convolutions in 8 bits: explicit quantization, calibrated on what the generator itself computes while it samples.

Symmetric int8 with one scale a tensor for activations and one a channel for weights. Biases, the first and the last
layer, the residual stream, and convolutions that are measured to be sensitive stay float32. The same file serves ONNX
Runtime and TensorRT. `export.search` chooses layer by layer instead, the residual stream's among them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper

from export.calibration import scales
from export.limits import tensor_error
from export.onnx_graph import OnnxGraph
from export.rewrite import nodes_of
from export.trial import run
from zoo.contract.feeds import Tensors

TOLERANCE = 0.02  # of a graph's outputs, for one convolution
RESIDUAL = ("Add", "Concat")  # what makes the values of a residual stream: they have outliers
LAYERS = ("Conv", "ConvTranspose")


def inner_convolutions(graph: OnnxGraph) -> list[onnx.NodeProto]:
    """Those with weights, but for the first and the last layer of an image's way."""
    layers = [node for node in graph.proto.node if node.op_type in LAYERS]
    return [node for node in layers[1:-1] if node.op_type == "Conv" and node.input[1] in graph.tensors]


def quantize(graph: OnnxGraph, inputs: Sequence[Tensors]) -> OnnxGraph:
    """The graph with int8 convolutions, but for those that by themselves move its outputs too far on `inputs`."""
    maker = {name: node.op_type for node in graph.proto.node for name in node.output}
    convolutions = [node for node in inner_convolutions(graph) if maker.get(node.input[0]) not in RESIDUAL]
    if not convolutions:
        return graph
    names = sorted({name for node in convolutions for name in (node.input[0], node.output[0])})
    found = scales(graph, names, inputs)
    expected = list(run(graph, [spec.name for spec in graph.outputs], inputs))
    robust = {
        node.output[0]
        for node in convolutions
        if _error(in_int8(graph, found, {node.output[0]}), inputs, expected) <= TOLERANCE
    }
    return in_int8(graph, found, robust)


def _error(graph: OnnxGraph, inputs: Sequence[Tensors], expected: Sequence[list[np.ndarray]]) -> float:
    """The largest relative error of any output on any input."""
    found = run(graph, [spec.name for spec in graph.outputs], inputs)
    pairs = zip(expected, found, strict=True)
    return max(tensor_error(a, b) for before, after in pairs for a, b in zip(before, after, strict=True))


def in_int8(graph: OnnxGraph, scales: Mapping[str, float], chosen: Collection[str]) -> OnnxGraph:
    """The graph with QuantizeLinear and DequantizeLinear around the convolutions that make the values `chosen`."""
    return _Quantization(graph, scales).run(chosen)


class _Quantization:
    """One pass over a graph in topological order."""

    def __init__(self, graph: OnnxGraph, scales: Mapping[str, float]) -> None:
        proto = onnx.GraphProto()
        proto.CopyFrom(graph.proto)
        self.graph = replace(graph, proto=proto, tensors=dict(graph.tensors))
        self.scales = scales
        self.nodes: list[onnx.NodeProto] = []
        self.done: set[str] = set()

    def run(self, chosen: Collection[str]) -> OnnxGraph:
        proto = self.graph.proto
        for node in proto.node:
            if node.output[0] not in chosen:
                self.nodes.append(node)
                continue
            result = node.output[0]
            node.input[0], node.input[1] = self._activation(node.input[0]), self._weight(node.input[1])
            node.output[0] = f"{result}/float"
            self.nodes.append(node)
            self._round_trip(f"{result}/float", result, self.scales[result])
        del proto.node[:]
        proto.node.extend(self.nodes)
        used = {name for node in self.nodes for user in nodes_of(node) for name in user.input}
        kept = [tensor for tensor in proto.initializer if tensor.name in used]
        del proto.initializer[:]
        proto.initializer.extend(kept)
        tensors = {name: array for name, array in self.graph.tensors.items() if name in used}
        return replace(self.graph, tensors=tensors)

    def _activation(self, name: str) -> str:
        """The quantized and dequantized form of a value, made once."""
        result = f"{name}/int8"
        if result not in self.done:
            self.done.add(result)
            self._round_trip(name, result, self.scales[name])
        return result

    def _round_trip(self, source: str, result: str, scale: float) -> None:
        constants = [
            self._constant(f"{result}.scale", np.array(scale, np.float32)),
            self._constant(f"{result}.zero", np.array(0, np.int8)),
        ]
        self.nodes.append(helper.make_node("QuantizeLinear", [source, *constants], [f"{result}.codes"]))
        self.nodes.append(helper.make_node("DequantizeLinear", [f"{result}.codes", *constants], [result]))

    def _weight(self, name: str) -> str:
        result = f"{name}/int8"
        if result not in self.done:
            self.done.add(result)
            weight = self.graph.tensors[name]
            rest = tuple(range(1, weight.ndim))
            scale = np.maximum(np.abs(weight).max(axis=rest), 1e-8).astype(np.float32) / np.float32(127.0)
            codes = np.clip(np.round(weight / np.expand_dims(scale, rest)), -127, 127).astype(np.int8)
            constants = [
                self._constant(f"{result}.codes", codes),
                self._constant(f"{result}.scale", scale),
                self._constant(f"{result}.zero", np.zeros(len(scale), np.int8)),
            ]
            self.nodes.append(helper.make_node("DequantizeLinear", constants, [result], axis=0))
        return result

    def _constant(self, name: str, array: np.ndarray) -> str:
        kind = TensorProto.INT8 if array.dtype == np.int8 else TensorProto.FLOAT
        self.graph.proto.initializer.add(name=name, data_type=kind, dims=array.shape)
        self.graph.tensors[name] = array
        return name


def smooth(graph: OnnxGraph, factors: Mapping[str, np.ndarray]) -> OnnxGraph:
    """The same function, with each channel of some convolutions' inputs divided and of their weights multiplied.

    `factors`: by the value that the convolution makes, (C,).
    """
    proto = onnx.GraphProto()
    proto.CopyFrom(graph.proto)
    tensors = dict(graph.tensors)
    nodes: list[onnx.NodeProto] = []

    def constant(name: str, array: np.ndarray) -> str:
        proto.initializer.add(name=name, data_type=TensorProto.FLOAT, dims=array.shape)
        tensors[name] = np.ascontiguousarray(array, np.float32)
        return name

    for node in proto.node:
        if (result := node.output[0]) in factors:
            weight = tensors[node.input[1]]
            factor = factors[result].reshape(1, -1, *[1] * (weight.ndim - 2))
            inverse = constant(f"{graph.name}/{result}.smoothing", 1.0 / factor)
            nodes.append(helper.make_node("Mul", [node.input[0], inverse], [smoothed(result)]))
            node.input[0] = smoothed(result)
            node.input[1] = constant(f"{node.input[1]}.smooth", weight * factor)
        nodes.append(node)
    del proto.node[:]
    proto.node.extend(nodes)
    return replace(graph, proto=proto, tensors=tensors)


def smoothed(result: str) -> str:
    """The name of a convolution's divided input."""
    return f"{result}/smooth"
