"""How much memory the graphs of a bundle hold where they run, read from its files; no torch.

Weights are what their file has. Beside them lie the values of a graph that are needed again, and the most of these at
once, in the order of its nodes at the largest sizes of a request, is what an execution holds at least where nothing is
fused and nothing is computed in place; a runtime that does both holds less, and adds scratch space of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx
from onnx import numpy_helper

from export.bundle import Bundle
from export.profiles import axes
from export.shapes import FEW, values
from zoo.contract.graph import OPSET, TensorSpec

LOOPS = {"sampler": ("step", "decoder")}  # what an entry runs again and again, which lies beside it as graphs


@dataclass(frozen=True)
class Read:
    """A graph of a bundle, as `export.shapes` takes it; large tensors have their shape and no numbers."""

    proto: onnx.GraphProto
    tensors: Mapping[str, np.ndarray]
    inputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class Footprint:
    """Bytes of a bundle's weights, of what an execution of `images` holds beside them, and whether that is all of it.

    `whole` is False where a loop has values that no graph beside it shows.
    """

    weights: int
    activations: int
    images: int
    whole: bool


def footprint(bundle: Bundle, images: int | None = None) -> Footprint:
    """Of the entry, at the largest sizes of a request, for so many images; the most of an execution without."""
    count = bundle.max_batch if images is None else images
    sizes = {name: each.maximum for name, each in axes(bundle.served_spec, count).items()}
    inside = [name for name in LOOPS.get(bundle.entry, ()) if name in bundle.graphs]
    graphs = [read(bundle, name) for name in inside or [bundle.entry]]
    taken = sum(_bytes(each, sizes) for each in bundle.inputs(bundle.entry)) if inside else 0
    held = taken + max(most(graph, sizes) for graph in graphs)
    weights = (bundle.path / str(bundle.manifest["weights"]["file"])).stat().st_size
    return Footprint(weights, held, count, not any(_has_loop(graph) for graph in graphs))


def read(bundle: Bundle, name: str) -> Read:
    model = onnx.load(bundle.graph_path(name), load_external_data=False)
    return Read(model.graph, dict(_tensors(bundle, model.graph)), bundle.inputs(name))


def _tensors(bundle: Bundle, proto: onnx.GraphProto) -> Iterator[tuple[str, np.ndarray]]:
    for tensor in proto.initializer:
        few = prod(tensor.dims) <= FEW
        no_numbers = np.broadcast_to(np.zeros((), np.int8), tuple(tensor.dims))
        yield tensor.name, numpy_helper.to_array(tensor, str(bundle.path)) if few else no_numbers


def most(graph: Read, sizes: Mapping[str, int]) -> int:
    """Bytes of the values that are needed at once, at most: from where each is made to where it is read last."""
    found = values(graph, sizes, OPSET)
    last = {name: place for place, node in enumerate(graph.proto.node) for name in node.input}
    last |= {each.name: len(graph.proto.node) for each in (*graph.proto.input, *graph.proto.output)}
    held = sum(found[each.name].bytes for each in graph.proto.input if each.name in found)
    most = held
    for place, node in enumerate(graph.proto.node):
        held += sum(found[name].bytes for name in node.output if name in found)
        most = max(most, held)
        dropped = {name for name in (*node.input, *node.output) if last.get(name, place) == place}
        held -= sum(found[name].bytes for name in dropped - graph.tensors.keys() if name in found)
    return most


def _has_loop(graph: Read) -> bool:
    return any(attribute.HasField("g") for node in graph.proto.node for attribute in node.attribute)


def _bytes(tensor: TensorSpec, sizes: Mapping[str, int]) -> int:
    return prod(tensor.concrete(sizes)) * np.dtype(tensor.dtype).itemsize
