"""ONNX models from outside, checked before a runtime sees them; the rules that onnx's own checker lacks come first.

The wire format is walked before protobuf allocates for it, so that a small file cannot become a large one in memory.
External data must be plain files below the model's folder: onnx 1.23 accepts the model file itself, folders that are
links, and ranges that the tensor does not fill. Operators are the standard domain's, and the model's own functions.
"""

from __future__ import annotations

import mmap
import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from zoo.files import fault_of_name
from zoo.untrusted import MAX_AXES, MAX_FILE_BYTES, UntrustedError, plain_file, wire_format

MAX_PROTO_BYTES = (2 << 30) - 1  # protobuf's own limit
MAX_CALLS = 60  # functions in functions
MAX_NODES = 200_000  # after functions are expanded
MIN_OPSET = 7
STANDARD = ("", "ai.onnx")


def check_onnx(path: Path) -> Any:
    """The model in a file, an `onnx.ModelProto` without its external data. Raises UntrustedError."""
    import onnx

    check_cost(path)
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's and onnx's errors have no common root
        raise UntrustedError(f"{path} is not an ONNX model ({first_line(error)})") from error
    check_model(model, path)
    try:
        onnx.checker.check_model(str(path))
    except Exception as error:
        raise UntrustedError(f"{path} is not a valid ONNX model: {first_line(error)}") from error
    return model


def check_model(model: Any, path: Path, empty: str | None = None) -> None:
    """What onnx's checker does not ask of a model in memory. Raises UntrustedError.

    Tensors whose names begin with `empty`, if that is given, have no values yet; none may then lie outside.
    """
    _check_header(model, path)
    _check_types(model, path)
    _check_operators(model, path)
    for tensor in tensors(model):
        if empty and (tensor.external_data or tensor.data_location):
            raise UntrustedError(f"{path}: the tensor {str(tensor.name)[:80]!r} lies outside, where nothing is read")
        if empty and tensor.name.startswith(empty):
            _bytes_of(tensor, f"{path}: the tensor {str(tensor.name)[:80]!r}")
        else:
            _check_tensor(tensor, path)


def check_bytes(data: bytes | mmap.mmap, path: Path) -> None:
    """What a model in the wire format would cost, before it is parsed. Raises UntrustedError."""
    import onnx

    try:
        wire_format.walk(data, onnx.ModelProto.DESCRIPTOR)
    except wire_format.WireFormatError as error:
        raise UntrustedError(f"{path} is not an ONNX model: {error}") from error


def check_cost(path: Path) -> None:
    """What the model in a file would cost, before it is parsed. Raises UntrustedError."""
    with plain_file(path) as (stream, size):
        if not 0 < size <= MAX_PROTO_BYTES:
            raise UntrustedError(f"{path} has {size} bytes, an ONNX model has from 1 to {MAX_PROTO_BYTES}")
        with mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ) as data:
            check_bytes(data, path)


def _check_header(model: Any, path: Path) -> None:
    import onnx

    if not model.HasField("graph") or model.training_info:
        raise UntrustedError(f"{path} has no graph, or one for training; export it for inference")
    newest = onnx.defs.onnx_opset_version()
    imports = [*model.opset_import, *(entry for function in model.functions for entry in function.opset_import)]
    for entry in imports:
        if entry.domain in STANDARD and not MIN_OPSET <= entry.version <= newest:
            raise UntrustedError(f"{path} uses opset {entry.version}, opsets {MIN_OPSET} to {newest} are read")
    if not any(entry.domain in STANDARD for entry in model.opset_import):
        raise UntrustedError(f"{path} imports no standard opset")


def _check_types(model: Any, path: Path) -> None:
    """What the graphs say of their values has types that ONNX knows; 0 is one that is not said."""
    import onnx

    known = set(onnx.TensorProto.DataType.values())
    functions = [graph for function in model.functions for node in function.node for graph in _graphs_of_node(node)]
    for graph in (*graphs_of(model.graph), *functions):
        for value in (*graph.input, *graph.output, *graph.value_info):
            for kind in _element_types(value.type):
                if kind not in known:
                    raise UntrustedError(f"{path}: {str(value.name)[:80]!r} has elements of type {kind}, {_known()}")


def _element_types(kind: Any) -> Iterator[int]:
    """The element types in a value's type: a tensor's, or those of what a sequence, a map or an optional holds."""
    for field, held in kind.ListFields():
        if field.message_type is None:
            yield from [held] if field.name in ("elem_type", "key_type") else []
        elif field.name != "shape":
            yield from _element_types(held)


def _known() -> str:
    import onnx

    return f"known are {', '.join(onnx.TensorProto.DataType.keys())}"


def graphs_of(graph: Any) -> Iterator[Any]:
    """A graph and every graph in its nodes' attributes."""
    yield graph
    for node in graph.node:
        yield from _graphs_of_node(node)


def _graphs_of_node(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield from graphs_of(attribute.g)
        for inner in attribute.graphs:
            yield from graphs_of(inner)


def nodes(model: Any) -> Iterator[Any]:
    """Every node of a model, however deeply nested, and of its functions."""
    for graph in graphs_of(model.graph):
        yield from graph.node
    for function in model.functions:
        yield from _nodes_of_function(function)


def _nodes_of_function(function: Any) -> Iterator[Any]:
    for node in function.node:
        yield node
        for graph in _graphs_of_node(node):
            yield from graph.node


def _check_operators(model: Any, path: Path) -> None:
    """Only standard operators and the model's own functions, none of which contains itself or grows without bound."""
    own = {(function.domain, function.name): function for function in model.functions}
    if len(own) != len(model.functions):
        raise UntrustedError(f"{path} defines a function twice")
    for node in nodes(model):
        domain, name = str(node.domain), str(node.op_type)
        if domain not in STANDARD and (domain, name) not in own:
            raise UntrustedError(
                f"{path} uses the operator {domain[:80]}.{name[:80]}, which is not of the standard domain ai.onnx; "
                "export it with standard operators"
            )
    sizes: dict[tuple[str, str], int] = {}
    total = sum(_expanded(node, own, sizes, path, 0) for graph in graphs_of(model.graph) for node in graph.node)
    if total > MAX_NODES:
        raise UntrustedError(f"{path} has {total} nodes once its functions are expanded, at most {MAX_NODES} are read")


def _expanded(
    node: Any, own: dict[tuple[str, str], Any], sizes: dict[tuple[str, str], int], path: Path, depth: int
) -> int:
    """The number of nodes that a node stands for."""
    key = (str(node.domain), str(node.op_type))
    if key not in own:
        return 1
    if depth > MAX_CALLS:
        raise UntrustedError(f"{path}: the function {key[1][:80]} contains itself, or nests deeper than {MAX_CALLS}")
    if key not in sizes:
        sizes[key] = sum(_expanded(inner, own, sizes, path, depth + 1) for inner in _nodes_of_function(own[key]))
    return min(sizes[key], 2 * MAX_NODES)


def tensors(model: Any) -> Iterator[Any]:
    """Every tensor of a model: initializers, sparse ones, and those in attributes, however deeply nested."""
    for graph in graphs_of(model.graph):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for function in model.functions:
        for node in function.node:
            for graph in _graphs_of_node(node):
                yield from graph.initializer
                for sparse in graph.sparse_initializer:
                    yield from (sparse.values, sparse.indices)
    for attribute in _attributes(model):
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for sparse in (
            *attribute.sparse_tensors,
            *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),
        ):
            yield from (sparse.values, sparse.indices)


def _attributes(model: Any) -> Iterator[Any]:
    for node in nodes(model):
        yield from node.attribute
    for function in model.functions:
        yield from function.attribute_proto


def _check_tensor(tensor: Any, path: Path) -> None:
    import onnx

    label = f"{path}: the tensor {str(tensor.name)[:80]!r}"
    if tensor.data_type not in onnx.TensorProto.DataType.values() or tensor.data_type == onnx.TensorProto.UNDEFINED:
        raise UntrustedError(f"{label} is of type {tensor.data_type}, {_known()}")
    needed = _bytes_of(tensor, label)
    external = tensor.data_location == onnx.TensorProto.EXTERNAL
    if external or tensor.external_data:
        _check_external(tensor, label, path, needed)
        if not external or any(tensor.HasField(f) for f in ("raw_data",)):
            raise UntrustedError(f"{label} has data both in the model and outside")
    elif tensor.HasField("raw_data") and needed is not None and len(tensor.raw_data) != needed:
        raise UntrustedError(f"{label} has {len(tensor.raw_data)} bytes, its shape needs {needed}")


def _bytes_of(tensor: Any, label: str) -> int | None:
    """The bytes that a tensor's shape needs; None for strings."""
    import onnx

    if len(tensor.dims) > MAX_AXES or any(axis < 0 for axis in tensor.dims):
        raise UntrustedError(f"{label} has a shape that is not a list of up to {MAX_AXES} natural numbers")
    count = 1
    for axis in tensor.dims:
        count *= axis
        if count > MAX_FILE_BYTES:
            raise UntrustedError(f"{label} has a shape whose product overflows")
    if tensor.data_type == onnx.TensorProto.STRING:
        return None
    bits = _bits(tensor.data_type)
    return (count * bits + 7) // 8


def _bits(data_type: int) -> int:
    import onnx

    name = onnx.TensorProto.DataType.Name(data_type)
    for suffix, bits in (("INT2", 2), ("INT4", 4), ("FLOAT4E2M1", 4)):
        if name.endswith(suffix):
            return bits
    return int(onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize) * 8


def _check_external(tensor: Any, label: str, path: Path, needed: int | None) -> None:
    keys = Counter(entry.key for entry in tensor.external_data)
    if not set(keys) <= {"location", "offset", "length", "checksum"} or max(keys.values(), default=0) > 1:
        raise UntrustedError(f"{label} describes its external data by {sorted(keys)}, some twice or unknown")
    entry = {item.key: item.value for item in tensor.external_data}
    location = entry.get("location", "")
    if fault := fault_of_name(location):
        raise UntrustedError(f"{label} lies in {location[:120]!r}, which {fault}: it must lie below the model's folder")
    size = _external_size(path, location, label)
    offset = _number(entry.get("offset", "0"), label)
    length = _number(entry.get("length", str(size - min(offset, size))), label)
    if needed is None or ("length" in entry and length != needed):
        raise UntrustedError(f"{label} has {length} bytes outside, its shape needs {needed}")
    if offset + needed > size:
        raise UntrustedError(
            f"{label} reaches to byte {offset + needed} of {location}, which has {size}: it is truncated"
        )


def _number(text: str, label: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 16:
        raise UntrustedError(f"{label} has an offset or a length of {text[:20]!r}")
    return int(text)


def _external_size(path: Path, location: str, label: str) -> int:
    """The size of an external file, no step of whose path is a link."""
    at = path.parent
    status = None
    for part in PurePosixPath(location).parts:
        at /= part
        try:
            status = os.lstat(at)
        except (OSError, ValueError) as error:
            raise UntrustedError(f"{label} lies in {location[:120]!r}, which is not there") from error
        if stat.S_ISLNK(status.st_mode):
            raise UntrustedError(f"{label} lies in {location[:120]!r}, which goes through a link")
    if status is None or not stat.S_ISREG(status.st_mode):
        raise UntrustedError(f"{label} lies in {location[:120]!r}, which is not a plain file")
    if os.path.samestat(status, os.stat(path)):
        raise UntrustedError(f"{label} lies in the model's own file")
    if status.st_nlink > 1:
        raise UntrustedError(f"{label} lies in {location[:120]!r}, which is a hard link: copy the file")
    return status.st_size


def first_line(error: Exception) -> str:
    """What an error of another library's says, in one line that is not too long."""
    lines = str(error).splitlines()
    return lines[0][:200] if lines else type(error).__name__
