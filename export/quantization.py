"""Convolutions in 8 bits: explicit quantization, calibrated on what the generator itself computes while it samples.

Symmetric int8 with one scale a tensor for activations and one a channel for weights. Biases, the first and the last
layer, the residual stream, and convolutions that are measured to be sensitive stay float32. The same file serves ONNX
Runtime and TensorRT. A scale covers a percentile of the magnitudes rather than their maximum (Wu et al. 2020,
arXiv:2004.09602, section 4).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from export.limits import tensor_error
from export.onnx_graph import OnnxGraph, as_model, initializers
from export.parity import encoded, evaluations
from export.rewrite import nodes_of
from export.runners import TorchRunner
from zoo.contract.feeds import Tensors
from zoo.contract.request import SampleRequest

SEEDS = tuple(range(3000, 3016))
ROWS = 8  # of the table, at most, evenly spread
PERCENTILE = 99.99
TOLERANCE = 0.02  # of a graph's outputs, for one convolution
RESIDUAL = ("Add", "Concat")  # what makes the values of a residual stream: they have outliers
LAYERS = ("Conv", "ConvTranspose")


def calibration_inputs(reference: TorchRunner) -> dict[str, list[Tensors]]:
    """What each graph is given while the default sampler makes a few images, by graph."""
    tensors = reference.feeds(SampleRequest(SEEDS))
    if reference.spec.sampling is None:
        return {"generator": [tensors]} | {graph: [given] for graph, given in encoded(reference, SampleRequest(SEEDS))}
    walked = list(evaluations(reference, tensors))
    picked = np.unique(np.linspace(0, len(walked) - 1, ROWS).round().astype(int))
    found = {"denoiser": [walked[index].network_inputs for index in picked]}
    for graph, given in encoded(reference, SampleRequest(SEEDS)):
        found[graph] = [given]
    if "decoder" in reference.graphs:
        (latents,) = reference.graphs["decoder"].inputs
        found["decoder"] = [{latents.name: walked[-1].outputs["x_next"]}]
    return found


def quantize(graph: OnnxGraph, inputs: Sequence[Tensors]) -> OnnxGraph:
    """The graph with int8 convolutions, but for those that by themselves move its outputs too far on `inputs`."""
    maker = {name: node.op_type for node in graph.proto.node for name in node.output}
    layers = [node for node in graph.proto.node if node.op_type in LAYERS]
    inner = [node for node in layers[1:-1] if node.op_type == "Conv"]
    convolutions = [node for node in inner if maker.get(node.input[0]) not in RESIDUAL]
    if not convolutions:
        return graph
    names = sorted({name for node in convolutions for name in (node.input[0], node.output[0])})
    scales = _scales(graph, names, inputs)
    expected = list(_run(graph, [spec.name for spec in graph.outputs], inputs))
    robust = {
        node.output[0]
        for node in convolutions
        if _error(_Quantization(graph, scales).run({node.output[0]}), inputs, expected) <= TOLERANCE
    }
    return _Quantization(graph, scales).run(robust)


def _error(graph: OnnxGraph, inputs: Sequence[Tensors], expected: Sequence[list[np.ndarray]]) -> float:
    """The largest relative error of any output on any input."""
    found = _run(graph, [spec.name for spec in graph.outputs], inputs)
    pairs = zip(expected, found, strict=True)
    return max(tensor_error(a, b) for before, after in pairs for a, b in zip(before, after, strict=True))


def _scales(graph: OnnxGraph, names: list[str], inputs: Sequence[Tensors]) -> dict[str, float]:
    """The scale of each named activation: the percentile of its magnitudes over 127."""
    largest = dict.fromkeys(names, 1e-8)
    for values in _run(graph, names, inputs):
        for name, value in zip(names, values, strict=True):
            largest[name] = max(largest[name], float(np.percentile(np.abs(value), PERCENTILE)))
    return {name: value / 127.0 for name, value in largest.items()}


def _run(graph: OnnxGraph, names: list[str], inputs: Sequence[Tensors]) -> Iterator[list[np.ndarray]]:
    """The named values, inner ones too, for each of the inputs."""
    proto = onnx.GraphProto()
    proto.CopyFrom(graph.proto)
    for tensor in initializers(proto):
        tensor.CopyFrom(numpy_helper.from_array(graph.tensors[tensor.name], tensor.name))
    outputs = {value.name for value in proto.output}
    proto.output.extend(helper.make_empty_tensor_value_info(name) for name in names if name not in outputs)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    model = as_model(proto).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    for tensors in inputs:
        yield session.run(names, tensors)


class _Quantization:
    """One pass that puts QuantizeLinear and DequantizeLinear around the chosen convolutions."""

    def __init__(self, graph: OnnxGraph, scales: Mapping[str, float]) -> None:
        proto = onnx.GraphProto()
        proto.CopyFrom(graph.proto)
        self.graph = replace(graph, proto=proto, tensors=dict(graph.tensors))
        self.scales = scales
        self.nodes: list[onnx.NodeProto] = []
        self.done: set[str] = set()

    def run(self, chosen: set[str]) -> OnnxGraph:
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
            scale = np.maximum(np.abs(weight).max(axis=(1, 2, 3)), 1e-8).astype(np.float32) / np.float32(127.0)
            codes = np.clip(np.round(weight / scale[:, None, None, None]), -127, 127).astype(np.int8)
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
