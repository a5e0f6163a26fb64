"""A torch module -> an ONNX graph and, apart from it, its tensors.

The dynamo exporter traces each module once, at batch 2, with the dynamic axes of its `TensorSpec`s. Stack traces and
inferred shapes are stripped, so equal inputs give equal bytes.
"""

from __future__ import annotations

import inspect
import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import torch
from torch.onnx._internal.exporter import _registration

from export.rewrite import rewrite
from export.shapes import value_info
from zoo.contract.graph import OPSET, Graph, OnnxSource, TensorSpec, factor

IR_VERSION = 10
APART_BYTES = 1 << 16  # tensors of so many are not in a graph while it is rewritten
_FROM_TORCHLIB = _registration.ONNXRegistry.from_torchlib
TRACE_SIZE = 2  # of each dynamic axis; 0 and 1 would be specialised


@dataclass(frozen=True)
class OnnxGraph:
    """One graph, and its weights by name: the graph itself holds their names, types and shapes only."""

    proto: onnx.GraphProto
    tensors: dict[str, np.ndarray]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def name(self) -> str:
        return str(self.proto.name)


def to_onnx(graph: Graph) -> OnnxGraph:
    """One graph, traced unless it is ONNX already; its tensors are named as declared."""
    apart: dict[str, np.ndarray] = {}
    if isinstance(graph.module, OnnxSource):
        proto = graph.module.onnx_model().graph
    else:
        model, apart = _apart(_trace(graph).model)
        proto = rewrite(model, apart)
    proto.name = graph.name
    _strip(proto)
    tensors = {}
    for tensor in initializers(proto):
        array = apart.get(tensor.name)
        tensors[f"{graph.name}/{tensor.name}"] = onnx.numpy_helper.to_array(tensor) if array is None else array
        tensor.ClearField("raw_data")
    rename(proto, {tensor.name: f"{graph.name}/{tensor.name}" for tensor in initializers(proto)})
    declare(proto, graph.inputs, graph.outputs)
    return OnnxGraph(proto, tensors, graph.inputs, graph.outputs)


def _trace(graph: Graph) -> Any:
    edges = (*graph.inputs, *graph.outputs)  # an image's sides are multiples of what its latents divide them by
    axes, sizes = _dimensions({axis for spec in edges for axis in spec.dynamic_axes.values()})
    examples = tuple(torch.from_numpy(spec.zeros(sizes)) for spec in graph.inputs)
    shapes = tuple({index: axes[axis] for index, axis in spec.dynamic_axes.items()} for spec in graph.inputs)
    # The exporter tells of torchvision's absence, and torch warns of its own use of what it deprecates.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad(), _one_registry():
        warnings.simplefilter("ignore")
        return torch.onnx.export(
            graph.module.eval(),
            examples,
            dynamo=True,
            dynamic_shapes=(shapes,) if _takes_any(graph.module) else shapes,
            opset_version=OPSET,
            input_names=[spec.name for spec in graph.inputs],
            output_names=[spec.name for spec in graph.outputs],
            external_data=False,
            verbose=False,
        )


@contextmanager
def _one_registry() -> Iterator[None]:
    """The exporter makes the table of what it can translate anew for each graph, a second: here once in a process.

    It reads that table alone, as long as no translation of one's own is given.
    """
    with patch.object(_registration.ONNXRegistry, "from_torchlib", staticmethod(_registry)):
        yield


@cache
def _registry(opset_version: int) -> Any:
    return _FROM_TORCHLIB(opset_version)


def _apart(model: Any) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A traced model without its large tensors' bytes, and those tensors by name, which are the module's own memory.

    A model that holds its weights is copied with them at each rewrite, and above 2 GiB it cannot be.
    """
    import onnx_ir

    tensors = {}
    for name, value in model.graph.initializers.items():
        if value.const_value.nbytes >= APART_BYTES:
            tensors[name] = value.const_value.numpy()
            value.const_value = onnx_ir.ExternalTensor(
                "", 0, tensors[name].nbytes, value.const_value.dtype, shape=value.const_value.shape, name=name
            )
    proto = onnx_ir.serde.serialize_model(model)
    for tensor in proto.graph.initializer:
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
    return proto, tensors


def _takes_any(module: torch.nn.Module) -> bool:
    """Whether its inputs are one parameter, which has their shapes as one."""
    kinds = [each.kind for each in inspect.signature(module.forward).parameters.values()]
    return kinds == [inspect.Parameter.VAR_POSITIONAL]


def _dimensions(names: set[str]) -> tuple[dict[str, Any], dict[str, int]]:
    """torch's dimension of each axis, and its size in the trace: "height" and "height/8" are multiples of one."""
    found = {name: factor(name) for name in sorted(names)}
    units = {
        axis: math.lcm(*(part for other, _, part in found.values() if other == axis)) for axis, _, _ in found.values()
    }
    roots = {axis: torch.export.Dim(axis) for axis in units}
    times = {name: units[axis] * whole // part for name, (axis, whole, part) in found.items()}
    axes = {name: times[name] * roots[axis] if times[name] > 1 else roots[axis] for name, (axis, _, _) in found.items()}
    return axes, {name: times[name] * TRACE_SIZE for name in found}


def _strip(proto: onnx.GraphProto) -> None:
    """Remove what no runtime reads: stack traces, doc strings, inferred shapes."""
    for graph in subgraphs(proto):
        for field in ("metadata_props", "value_info", "doc_string"):
            graph.ClearField(field)
        for node in graph.node:
            node.ClearField("metadata_props")
            node.ClearField("doc_string")
        for value in (*graph.input, *graph.output):
            value.ClearField("metadata_props")


def subgraphs(proto: onnx.GraphProto) -> list[onnx.GraphProto]:
    """A graph and every graph inside its nodes, outermost first."""
    attributes = [attribute for node in proto.node for attribute in node.attribute]
    inner = [attribute.g for attribute in attributes if attribute.HasField("g")]
    inner += [body for attribute in attributes for body in attribute.graphs]
    return [proto, *(graph for body in inner for graph in subgraphs(body))]


def initializers(proto: onnx.GraphProto) -> list[onnx.TensorProto]:
    """Those of a graph and of every graph inside its nodes."""
    return [tensor for graph in subgraphs(proto) for tensor in graph.initializer]


def rename(proto: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Rename values wherever a graph, or a graph within, defines or uses them."""
    for graph in subgraphs(proto):
        for named in (*graph.initializer, *graph.input, *graph.output):
            named.name = names.get(named.name, named.name)
        for node in graph.node:
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]


def declare(proto: onnx.GraphProto, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
    """Write the specs' types and shapes, with the names of dynamic axes, over the graph's edges."""
    for values, specs in ((proto.input, inputs), (proto.output, outputs)):
        del values[:]
        values.extend(value_info(spec) for spec in specs)


def save(proto: onnx.GraphProto, path: Path, opset: int = OPSET) -> None:
    """Write a graph as a model; each node is named by its first output, so a runtime's profile can be read."""
    for graph in subgraphs(proto):
        for node in graph.node:
            node.name = node.output[0]
    path.write_bytes(as_model(proto, opset).SerializeToString(deterministic=True))
    onnx.checker.check_model(str(path), full_check=True)


def as_model(proto: onnx.GraphProto, opset: int = OPSET) -> onnx.ModelProto:
    imports = [onnx.helper.make_opsetid("", opset)]
    return onnx.helper.make_model(proto, opset_imports=imports, ir_version=IR_VERSION, producer_name="genzoo")
