"""The layers of a graph: its matrix products and convolutions, by their weights' names in the checkpoint."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import onnx

from export.onnx_graph import OnnxGraph
from export.precision import PRODUCTS
from export.rewrite import nodes_of

PHASE = ".phase"  # in the names of what `export.rewrite` makes of one convolution
LEVEL = "c_noise"  # the input that tells a denoiser the noise level


@dataclass(frozen=True)
class Layer:
    """`name` is like "denoiser/blocks.0.conv1"; `output` is the value that it makes in its graph."""

    graph: str
    name: str
    kind: str
    inputs: tuple[str, ...]
    output: str
    of_level: bool  # it sees the noise level and conditions, and nothing of the image

    @property
    def module(self) -> str:
        """The checkpoint's layer that it is, or is a phase of."""
        return self.name.split(PHASE)[0]

    def products(self, given: np.ndarray, made: np.ndarray, weight: np.ndarray | None, images: int) -> int:
        """Multiplications for one of `images`, from what the layer was given and made of all of them."""
        if self.kind in ("Conv", "ConvTranspose"):
            assert weight is not None
            return int((made if self.kind == "Conv" else given).size * weight[0].size // images)
        return int(made.size * given.shape[-1] // images)


def layers(graph: OnnxGraph) -> tuple[Layer, ...]:
    """In the order in which data flows; those within a loop of the graph are none."""
    seen = _downstream(graph)
    level = any(spec.name == LEVEL for spec in graph.inputs)
    found = [
        Layer(
            graph.name,
            _name(graph, node),
            node.op_type,
            tuple(node.input),
            node.output[0],
            level and node.output[0] not in seen,
        )
        for node in graph.proto.node
        if node.op_type in PRODUCTS
    ]
    count = Counter(layer.name for layer in found)
    return tuple(
        layer if count[layer.name] == 1 else replace(layer, name=f"{layer.name}@{layer.output}") for layer in found
    )


def _name(graph: OnnxGraph, node: onnx.NodeProto) -> str:
    """A layer goes by its weight; a product of two values by what it makes."""
    weight = next((name for name in node.input if name in graph.tensors and graph.tensors[name].ndim > 1), None)
    return weight.replace(".weight", "") if weight else f"{graph.name}/{node.output[0]}"


def _downstream(graph: OnnxGraph) -> set[str]:
    """What the first input, the image, has a part in."""
    found = {graph.inputs[0].name}
    for node in graph.proto.node:
        if any(name in found for user in nodes_of(node) for name in user.input):
            found |= set(node.output)
    return found
