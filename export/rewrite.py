"""Rewrites of a traced graph that keep its function and make it cheaper, on every runtime.

The exporter writes group normalization with shapes computed at run time, and with a scale of ones and a shift of zeros
where there is none; it keeps a squeeze of an axis that is not 1; and a convolution of an image enlarged twice repeats
products that can be summed beforehand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

Rewrite = Callable[["_Rewriter", onnx.NodeProto], Sequence[onnx.NodeProto]]


class _Rewriter:
    """What a rewrite asks about a graph: who makes a value, its constant, its shape (str or None where dynamic)."""

    def __init__(self, proto: onnx.GraphProto, apart: dict[str, np.ndarray]) -> None:
        self.proto, self.apart = proto, apart
        self.maker = {name: node for node in proto.node for name in node.output}
        inside = [tensor for tensor in proto.initializer if tensor.name not in apart]
        self.constants = apart | {tensor.name: numpy_helper.to_array(tensor) for tensor in inside}
        self.uses = Counter(name for node in proto.node for user in nodes_of(node) for name in user.input)
        self.outputs = {value.name for value in proto.output}
        self.shapes = {
            value.name: [d.dim_value or d.dim_param or None for d in value.type.tensor_type.shape.dim]
            for value in (*proto.input, *proto.value_info, *proto.output)
            if value.type.tensor_type.HasField("shape")
        }
        self.shapes |= {name: list(array.shape) for name, array in self.constants.items()}
        self.same: dict[str, str] = {}  # value -> the value that takes its place

    def apply(self, each: Rewrite) -> None:
        """Replace each node, in topological order, by what the rewrite makes of it."""
        nodes: list[onnx.NodeProto] = []
        for node in self.proto.node:
            for user in nodes_of(node):
                user.input[:] = [self.same.get(name, name) for name in user.input]
            nodes += each(self, node)
        del self.proto.node[:]
        self.proto.node.extend(nodes)
        _remove_dead_ends(self.proto)

    def constant(self, array: np.ndarray, name: str) -> str:
        """Where it is one of floats, apart."""
        tensor = numpy_helper.from_array(np.ascontiguousarray(array), name)
        if array.dtype.kind == "f":
            tensor.ClearField("raw_data")
            self.apart[name] = array
        self.proto.initializer.append(tensor)
        return name


def nodes_of(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """A node and all nodes of the graphs within it, which may use any value of the graph around them."""
    yield node
    for attribute in node.attribute:
        for body in (attribute.g, *attribute.graphs):
            for inner in body.node:
                yield from nodes_of(inner)


def constant_shapes(graph: _Rewriter, node: onnx.NodeProto) -> Sequence[onnx.NodeProto]:
    """A Reshape whose result has one dynamic axis: a constant shape, with 0 where that axis is the operand's own.

    Runtimes then know that the axis is unchanged: ONNX Runtime needs it to add in a convolution what follows it.
    """
    if node.op_type != "Reshape":
        return [node]
    source = graph.maker.get(node.input[1])
    of = source.input[0] if source is not None and source.op_type == "Shape" else node.output[0]
    shape, before = graph.shapes.get(of, []), graph.shapes.get(node.input[0], [])
    dynamic = [axis for axis, size in enumerate(shape) if not isinstance(size, int)]
    if len(dynamic) != 1:
        return [node]
    (axis,) = dynamic
    kept = shape[axis] is not None and before[axis : axis + 1] == [shape[axis]]
    sizes = [size if isinstance(size, int) else (0 if kept else -1) for size in shape]
    shape_name = graph.constant(np.array(sizes, np.int64), f"{node.output[0]}.shape")
    return [helper.make_node("Reshape", [node.input[0], shape_name], list(node.output))]


def without_identities(graph: _Rewriter, node: onnx.NodeProto) -> Sequence[onnx.NodeProto]:
    """No product with ones, no sum with zeros, where broadcasting does not enlarge the other operand."""
    neutral = {"Mul": 1.0, "Add": 0.0}.get(node.op_type)
    if neutral is None or node.output[0] in graph.outputs:
        return [node]
    value, constant = node.input[0], graph.constants.get(node.input[1])
    if constant is None or not np.all(constant == neutral):
        return [node]
    shape = graph.shapes.get(value)
    if shape is None or len(shape) < constant.ndim:
        return [node]
    if any(size not in (1, of) for size, of in zip(constant.shape[::-1], shape[::-1], strict=False)):
        return [node]
    graph.same[node.output[0]] = value
    return []


def without_squeezes_of_nothing(graph: _Rewriter, node: onnx.NodeProto) -> Sequence[onnx.NodeProto]:
    """No Squeeze of an axis that is longer than 1: torch leaves one as it is, ONNX refuses it."""
    if node.op_type != "Squeeze" or len(node.input) < 2 or node.output[0] in graph.outputs:
        return [node]
    axes, shape = graph.constants.get(node.input[1]), graph.shapes.get(node.input[0])
    if axes is None or axes.size != 1 or shape is None:
        return [node]
    length = shape[int(axes.reshape(-1)[0])]
    if not isinstance(length, int) or length == 1:
        return [node]
    graph.same[node.output[0]] = node.input[0]
    return []


def subpixel_convolutions(graph: _Rewriter, node: onnx.NodeProto) -> Sequence[onnx.NodeProto]:
    """A 3x3 convolution of an image enlarged twice: four 2x2 convolutions of the image itself, 16 products for 36.

    The output's pixel (2 i + a, 2 j + b) sees rows i - 1 + a and i + a, and of the kernel's three rows the two that see
    the same one are summed; columns alike (Shi et al. 2016, arXiv:1609.05158, section 3).
    """
    resize = graph.maker.get(node.input[0]) if node.op_type == "Conv" else None
    if resize is None or not _doubles(graph, resize) or not _is_plain(graph, node):
        return [node]
    weight = graph.constants[node.input[1]].astype(np.float64)  # (O, I, 3, 3)
    parts, phases = [], []
    for a in (0, 1):
        for b in (0, 1):
            name, kernel = f"{node.output[0]}.phase{a}{b}", f"{node.input[1]}.phase{a}{b}"
            if kernel not in graph.apart:  # a network that is called more than once has one
                graph.constant(_pairs(_pairs(weight, 2, a), 3, b).astype(np.float32), kernel)
            inputs = [resize.input[0], kernel, *node.input[2:]]
            pads = [1 - a, 1 - b, a, b]
            phases.append(helper.make_node("Conv", inputs, [name], kernel_shape=[2, 2], pads=pads))
            parts.append(name)
    joined = f"{node.output[0]}.phases"
    phases.append(helper.make_node("Concat", parts, [joined], axis=1))
    phases.append(helper.make_node("DepthToSpace", [joined], list(node.output), blocksize=2, mode="DCR"))
    return phases


def _pairs(weight: np.ndarray, axis: int, phase: int) -> np.ndarray:
    """The three taps of one axis -> the two that a phase needs."""
    first, second, third = (weight.take([index], axis) for index in range(3))
    taps = (first, second + third) if phase == 0 else (first + second, third)
    return np.concatenate(taps, axis)


def _doubles(graph: _Rewriter, resize: onnx.NodeProto) -> bool:
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in resize.attribute}
    scales = graph.constants.get(resize.input[2]) if resize.op_type == "Resize" and len(resize.input) == 3 else None
    return (
        scales is not None
        and scales.tolist() == [1.0, 1.0, 2.0, 2.0]
        and attributes.get("mode") == b"nearest"
        and attributes.get("coordinate_transformation_mode") == b"asymmetric"
        and attributes.get("nearest_mode") == b"floor"
        and graph.uses[resize.output[0]] == 1
    )


def _is_plain(graph: _Rewriter, conv: onnx.NodeProto) -> bool:
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in conv.attribute}
    weight = graph.constants.get(conv.input[1])
    return (
        weight is not None
        and weight.shape[2:] == (3, 3)
        and list(attributes.get("pads", [])) == [1, 1, 1, 1]
        and list(attributes.get("strides", [1, 1])) == [1, 1]
        and list(attributes.get("dilations", [1, 1])) == [1, 1]
        and attributes.get("group", 1) == 1
    )


def rewrite(model: onnx.ModelProto, apart: dict[str, np.ndarray]) -> onnx.GraphProto:
    """The graph of a model after all rewrites; its initializers hold their data, or `apart` does, by their names."""
    for each in (without_squeezes_of_nothing, constant_shapes, without_identities, subpixel_convolutions):
        model = onnx.shape_inference.infer_shapes(model)
        _Rewriter(model.graph, apart).apply(each)
    sink(model.graph)
    return model.graph


def _remove_dead_ends(proto: onnx.GraphProto) -> None:
    """Remove nodes and constants that lead nowhere."""
    needed = {value.name for value in proto.output}
    nodes = []
    for node in reversed(proto.node):
        if needed & set(node.output):
            nodes.append(node)
            needed |= {name for user in nodes_of(node) for name in user.input}
            needed |= {value.name for attribute in node.attribute for value in attribute.g.output}
    del proto.node[:]
    proto.node.extend(reversed(nodes))
    _keep(proto, needed)


def sink(proto: onnx.GraphProto) -> None:
    """Move each constant that only one Loop's body uses into that body: ONNX Runtime packs weights only there."""
    users: dict[str, set[str]] = {}
    for node in proto.node:
        for name in node.input:
            users.setdefault(name, set()).add("")
        for inner in list(nodes_of(node))[1:]:
            for name in inner.input:
                users.setdefault(name, set()).add(node.output[0])
    for node in proto.node:
        for body in (attribute.g for attribute in node.attribute if attribute.HasField("g")):
            sunk = [tensor for tensor in proto.initializer if users.get(tensor.name) == {node.output[0]}]
            body.initializer.extend(sunk)
            _keep(proto, {tensor.name for tensor in proto.initializer} - {tensor.name for tensor in sunk})
            sink(body)


def _keep(proto: onnx.GraphProto, names: set[str]) -> None:
    kept = [tensor for tensor in proto.initializer if tensor.name in names]
    del proto.initializer[:]
    proto.initializer.extend(kept)
