"""Attention whose scores are too large to be whole: executed by blocks of rows of queries, one image at a time.

A row of softmax(q k) v depends on one query alone, so blocks change no result. An ONNX Loop goes over the blocks of all
images: what it holds at once depends neither on their number nor on the terms of guidance. The rows of a block follow
from the largest sizes alone, and the last block of an image is filled with zeros, because TensorRT reserves memory by
shapes that it can bound (Rabe and Staats 2021, arXiv:2112.05682, cut the keys as well).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import onnx
import onnx.parser
from onnx import TensorProto, numpy_helper

from export.onnx_graph import IR_VERSION, OnnxGraph, rename, subgraphs
from export.rewrite import nodes_of
from export.shapes import Value
from zoo.contract.graph import OPSET

SCORES_BYTES = 256 << 20  # of one block, and of one image whose attention stays whole
BETWEEN = {"Add", "Cast", "Div", "Mul", "Sub"}  # what may stand between a product and softmax, with one operand a row
KINDS = {TensorProto.FLOAT: "float", TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16"}


@dataclass(frozen=True)
class Attention:
    """The nodes from the product of queries (N, H, T, D) and keys (N, H, D, S) to that with values (N, H, S, V)."""

    nodes: tuple[onnx.NodeProto, ...]
    heads: int
    depth: int
    width: int
    rows: int
    kind: int
    block_bytes: int

    @property
    def scores(self) -> tuple[str, ...]:
        """The values that are never whole."""
        return tuple(node.output[0] for node in self.nodes[:-1])


def large(graph: OnnxGraph, values: Mapping[str, Value], budget: int = SCORES_BYTES) -> list[Attention]:
    """Those of a graph whose scores have more bytes than `budget` at the sizes of `values`."""
    makers = {name: node for node in graph.proto.node for name in node.output}
    used = Counter(name for node in graph.proto.node for user in nodes_of(node) for name in user.input)
    used.update(value.name for value in graph.proto.output)
    takers = {name: node for node in graph.proto.node for name in node.input if used[name] == 1}
    found = []
    for node in graph.proto.node:
        scores = values.get(node.output[0])
        if node.op_type != "Softmax" or scores is None or len(scores.shape) != 4 or scores.bytes <= budget:
            continue
        nodes = [*_back(node, makers, used, values), node, *_forth(node, takers)]
        if attention := _attention(nodes, values, budget):
            found.append(attention)
    return found


def _back(
    softmax: onnx.NodeProto, makers: Mapping[str, onnx.NodeProto], used: Counter[str], values: Mapping[str, Value]
) -> list[onnx.NodeProto]:
    """The nodes that lead from the scores' product to softmax, in their order."""
    nodes: list[onnx.NodeProto] = []
    name, shape = softmax.input[0], values[softmax.output[0]].shape
    while used[name] == 1 and (node := makers.get(name)) is not None:
        nodes.insert(0, node)
        whole = [each for each in node.input if each in values and values[each].shape == shape]
        others = [values[each].shape for each in node.input if each in values and each not in whole]
        if node.op_type not in BETWEEN or len(whole) != 1 or any(set(other[:-1]) - {1} for other in others):
            break
        (name,) = whole
    return nodes


def _forth(softmax: onnx.NodeProto, takers: Mapping[str, onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes that lead from softmax to the product with values."""
    node = takers.get(softmax.output[0])
    while node is not None:
        yield node
        node = takers.get(node.output[0]) if node.op_type == "Cast" else None


def _attention(nodes: Sequence[onnx.NodeProto], values: Mapping[str, Value], budget: int) -> Attention | None:
    """None where the nodes are no attention that can be cut."""
    first, last, before = nodes[0], nodes[-1], nodes[-2]
    softmax = next(node for node in nodes if node.op_type == "Softmax")
    axis = next((attribute.i for attribute in softmax.attribute if attribute.name == "axis"), -1)
    if (first.op_type, last.op_type, axis in (-1, 3)) != ("MatMul", "MatMul", True):
        return None
    edges = [values.get(name) for name in (*first.input, *last.input)]
    if None in edges or last.input[0] != before.output[0]:
        return None
    queries, keys, scores, seen = (each.shape for each in edges if each)
    if not queries[:2] == keys[:2] == scores[:2] == seen[:2]:
        return None
    row = scores[1] * scores[3] * max(Value(values[node.output[0]].kind, ()).bytes for node in nodes)
    rows = max(1, budget // row)
    rows = 1 << (rows.bit_length() - 1)  # most lengths are multiples of it
    kind = values[last.output[0]].kind
    return Attention(tuple(nodes), scores[1], queries[3], seen[3], rows, kind, rows * row)


def in_blocks(graph: OnnxGraph, attentions: Sequence[Attention]) -> OnnxGraph:
    """The graph with these attentions by blocks; itself where there are none."""
    if not attentions:
        return graph
    proto, tensors = onnx.GraphProto(), dict(graph.tensors)
    proto.CopyFrom(graph.proto)
    ends = {each.nodes[-1].output[0]: each for each in attentions}
    gone = {name for each in attentions for name in each.scores}
    del proto.node[:]
    for node in graph.proto.node:
        if node.output[0] in ends:
            part = _loop(ends[node.output[0]], graph.name)
            for tensor in part.initializer:
                if tensor.name not in tensors:
                    tensors[tensor.name] = numpy_helper.to_array(tensor)
                    proto.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
            proto.node.extend(part.node)
        elif node.output[0] not in gone:
            proto.node.append(node)
    return replace(graph, proto=proto, tensors=tensors)


def _loop(attention: Attention, name: str) -> onnx.GraphProto:
    """Nodes that make what the attention's last node makes; constants are those of its shapes, named by them."""
    heads, rows, depth, width = attention.heads, attention.rows, attention.depth, attention.width
    kind = KINDS[attention.kind]
    text = f"""
    <ir_version: {IR_VERSION}, opset_import: ["": {OPSET}]>
    part () => ()
    <bool always = {{1}}, int64[1] rows = {{{rows}}}, int64[1] less = {{{rows - 1}}}, int64[1] zero = {{0}},
     int64[1] two = {{2}}, int64[6] before = {{0, 0, 0, 0, 0, 0}}, int64[5] cut = {{0, {heads}, -1, {rows}, {depth}}},
     int64[4] block = {{-1, {heads}, {rows}, {depth}}}, int64[4] of_image = {{-1, {heads}, {rows}, {width}}},
     int64[4] joined = {{0, {heads}, -1, {width}}}>
    {{
        length = Shape <start = 2, end = 3> (queries)
        raised = Add (length, less)
        blocks = Div (raised, rows)
        filled = Mul (blocks, rows)
        missing = Sub (filled, length)
        pads = Concat <axis = 0> (before, missing, zero)
        padded = Pad (queries, pads)
        by_head = Reshape (padded, cut)
        by_block = Transpose <perm = [0, 2, 1, 3, 4]> (by_head)
        of_all = Reshape (by_block, block)
        count_1 = Shape <start = 0, end = 1> (of_all)
        count = Squeeze (count_1)
        an_image = Squeeze (blocks)
        seen = Loop (count, always) <body = a_block (int64 index, bool go_on) =>
            (bool going, {kind}[{heads}, {rows}, {width}] seen_by)
        {{
            going = Identity (go_on)
            image = Div (index, an_image)
            queries_now = Gather <axis = 0> (of_all, index)
            keys_now = Gather <axis = 0> (keys, image)
            values_now = Gather <axis = 0> (values, image)
        }}>
        images = Shape <start = 0, end = 1> (queries)
        shape = Concat <axis = 0> (images, of_image)
        seen_by_block = Reshape (seen, shape)
        seen_by_head = Transpose <perm = [0, 2, 1, 3, 4]> (seen_by_block)
        seen_by_all = Reshape (seen_by_head, joined)
        attended = Slice (seen_by_all, zero, length, two)
    }}"""
    proto = onnx.parser.parse_model(text).graph
    loop = next(node for node in proto.node if node.op_type == "Loop")
    body = loop.attribute[0].g
    first, last = attention.nodes[0], attention.nodes[-1]
    constants = {each.name: f"{name}/blocks.{each.name}.{_words(each)}" for each in proto.initializer}
    edges = {"queries": first.input[0], "keys": first.input[1], "values": last.input[1], "attended": last.output[0]}
    ours = {each for graph in subgraphs(proto) for node in graph.node for each in (*node.input, *node.output)}
    ours = {each for each in ours if each} | {each.name for each in body.input}
    rename(proto, {each: f"{last.output[0]}/{each}" for each in ours} | constants | edges)
    body.node.extend(attention.nodes)
    body.node[-len(attention.nodes)].input[:] = [f"{last.output[0]}/{each}_now" for each in ("queries", "keys")]
    body.node[-1].input[1] = f"{last.output[0]}/values_now"
    body.node[-1].output[0] = body.output[1].name
    return proto


def _words(tensor: onnx.TensorProto) -> str:
    return "_".join(map(str, numpy_helper.to_array(tensor).ravel().tolist()))
