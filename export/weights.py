"""One `model.safetensors` behind all graphs of a checkpoint, as ONNX external data with offsets into it.

An initializer finds its weight by content, in any shape or transposed, so each weight is stored once, under the name
that it has in the checkpoint. What export derived from weights is stored beside them; small constants stay in
the graph.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from safetensors.numpy import save_file

from export.onnx_graph import OnnxGraph, subgraphs
from zoo import files

INLINE_BYTES = 1024  # constants of fewer bytes stay in the graph's file, unless they are weights


class Weights:
    """The tensors of a checkpoint (name -> array), those that graphs use, and where they lie in the file."""

    def __init__(self, state: Mapping[str, np.ndarray]) -> None:
        self._tensors = dict(state)
        self._by_content: dict[str, tuple[str, bool]] = {}  # digest -> (name, stored transposed)
        self._used: set[str] = set()
        for name, tensor in state.items():
            self._by_content.setdefault(_content(tensor), (name, False))
            if tensor.ndim == 2:
                self._by_content.setdefault(_content(tensor.T), (name, True))

    def find(self, name: str, tensor: np.ndarray) -> tuple[str, bool] | None:
        """(stored name, stored transposed) of a graph's tensor, stored now if need be; None to keep it in the graph."""
        content = _content(tensor)
        if content not in self._by_content:
            if tensor.nbytes < INLINE_BYTES:
                return None
            self._tensors[name], self._by_content[content] = tensor, (name, False)
        found = self._by_content[content]
        self._used.add(found[0])
        return found

    def save(self, path: Path) -> dict[str, int]:
        """Write the tensors in use; the offset in the file of each."""
        used = {name: np.ascontiguousarray(self._tensors[name]) for name in sorted(self._used)}
        with files.atomic(path) as temporary:
            save_file(used, temporary, metadata={"format": "pt"})
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        return {name: 8 + length + header[name]["data_offsets"][0] for name in used}


def _content(tensor: np.ndarray) -> str:
    digest = hashlib.sha256(f"{tensor.dtype}".encode())
    digest.update(np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def write(graphs: Mapping[str, OnnxGraph], weights: Weights, path: Path) -> dict[str, onnx.GraphProto]:
    """Save the weights of all graphs; the graphs, which are to lie in the same folder, with their weights in place."""
    for graph in graphs.values():
        for name, tensor in graph.tensors.items():
            weights.find(name, tensor)
    offsets = weights.save(path)
    placed = {}
    for key, graph in graphs.items():
        placed[key] = proto = onnx.GraphProto()
        proto.CopyFrom(graph.proto)
        for body in reversed(subgraphs(proto)):  # innermost first, because an outer graph copies its nodes
            _place(body, graph.tensors, weights, offsets, path.name)
    return placed


def _place(
    body: onnx.GraphProto, tensors: Mapping[str, np.ndarray], weights: Weights, offsets: Mapping[str, int], file: str
) -> None:
    """Give each initializer of one graph its values: its place in the file, or the bytes of a small constant."""
    transposes = []
    for initializer in body.initializer:
        tensor = tensors.get(initializer.name)
        if tensor is None:  # a constant of the composition
            continue
        found = weights.find(initializer.name, tensor)
        if found is None:
            initializer.raw_data = np.ascontiguousarray(tensor).tobytes()
            continue
        stored, transposed = found
        initializer.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", file), ("offset", offsets[stored]), ("length", tensor.nbytes)):
            initializer.external_data.add(key=key, value=str(value))
        if transposed:
            name, initializer.name = initializer.name, f"{initializer.name}/stored"
            initializer.dims[:] = tensor.shape[::-1]
            transposes.append(onnx.helper.make_node("Transpose", [initializer.name], [name], perm=[1, 0]))
    nodes = [*transposes, *body.node]
    del body.node[:]
    body.node.extend(nodes)
