"""An ONNX model that makes images in one call -> a checkpoint of the family `onnx_generator`.

Its tensors say what it is: one float32 input is the noise, an int64 one the class, and the output uint8 NHWC, or float
NCHW, whose range is measured by running it once on the noise of sixteen seeds.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from zoo import shelf
from zoo.contract.layout import WEIGHTS
from zoo.exchange.importing import weights
from zoo.exchange.importing.draft import UNKNOWN, Draft, ImportingError
from zoo.family import Checkpoint, class_conditional
from zoo.files import atomic
from zoo.sampling import noise
from zoo.untrusted.onnx import check_onnx, first_line, tensors

MAX_MODEL_BYTES = 2 << 20  # without its weights; it becomes text in config.json
WEIGHT_BYTES = 1024  # from which a tensor lies in the checkpoint's file
SEEDS = range(16)
LIMIT_S = 120.0  # for all of them together
SLACK = 0.05  # how far beyond its range a float image may reach
ID_OPERATORS = ("Squeeze", "Reshape", "Unsqueeze", "Flatten", "Identity", "Cast")


@dataclass(frozen=True)
class Edge:
    """A tensor at the model's edge; None for an axis that is not fixed."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


def draft(path: Path, scratch: Path) -> Draft:
    """Raises UntrustedError for a model that is not sound, ImportingError for one that is no one-shot generator."""
    import onnx
    import onnx.external_data_helper

    model = check_onnx(path)
    try:
        onnx.external_data_helper.load_external_data_for_model(model, str(path.parent))
        stored = _take_weights(model)
    except (ValueError, OSError, onnx.checker.ValidationError) as error:
        raise ImportingError(f"{path}: its tensors cannot be read ({first_line(error)})") from error
    return _draft(model, stored, path, scratch)


def _draft(model: Any, stored: dict[str, np.ndarray], path: Path, scratch: Path) -> Draft:
    from safetensors.numpy import save_file

    from zoo.families import onnx_generator

    given, classes_edge, output = _edges(model, path)
    classes = _classes(model, classes_edge, path) if classes_edge else 0
    squeezed = not (len(given.shape) > 2 and given.shape[1] == 1)
    latent = given.shape[1:] if squeezed else given.shape[2:]
    if not latent or None in latent or given.shape[0] is not None or output.shape[0] is not None:
        raise ImportingError(f"{path} takes {given.shape}: expected a batch that is not fixed, and axes that are")
    config = onnx_generator.OnnxConfig(
        model={"onnx": _text(model, path)},
        inputs=(given.name,) + ((classes_edge.name,) if classes_edge else ()),
        squeezed=squeezed,
        class_axes=len(classes_edge.shape) if classes_edge else 1,
        output=output.name,
    )
    file = scratch / WEIGHTS
    with atomic(file) as temporary:
        save_file(stored, temporary, metadata={"format": "np"})
    values, kind, notes = _range(config, stored, latent, classes, path)
    _, *axes = values.shape
    height, width, channels = axes if kind == "uint8" else (*axes[1:], axes[0])
    sizes = tuple(int(size or 0) for size in latent)
    spec = class_conditional("", "onnx_generator", sizes, (height, width, channels), classes)
    known = Checkpoint(spec, replace(config, range=kind), dataset=UNKNOWN, licence=UNKNOWN)
    found = weights.read(file)
    record = shelf.record(known, file, found, weights.dtype(found), {})
    return Draft("ONNX generator", record, {WEIGHTS: file}, notes=notes)


def _edges(model: Any, path: Path) -> tuple[Edge, Edge | None, Edge]:
    """Noise, class and images. Raises ImportingError."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [_edge(value) for value in model.graph.input if value.name not in constants]
    floats, ids = ([edge for edge in inputs if edge.dtype == dtype] for dtype in ("float32", "int64"))
    outputs = [_edge(value) for value in model.graph.output]
    images = [edge for edge in outputs if edge.name == "images"] or outputs
    seen = ", ".join(f"{edge.name} {edge.dtype} {list(edge.shape)}" for edge in (*inputs, *outputs))[:400]
    if len(floats) != 1 or len(ids) > 1 or len(inputs) != len(floats) + len(ids) or len(images) != 1:
        raise ImportingError(
            f"{path} has the tensors {seen}: a one-shot generator takes float32 noise, perhaps int64 class_ids, "
            "and gives images"
        )
    if images[0].dtype not in ("uint8", "float32") or len(images[0].shape) != 4:
        raise ImportingError(f"{path} gives {seen}: expected uint8 NHWC or float32 NCHW images")
    if ids and len(ids[0].shape) not in (1, 2):
        raise ImportingError(f"{path} takes {seen}: expected one class an image")
    return floats[0], ids[0] if ids else None, images[0]


def _edge(value: Any) -> Edge:
    import onnx

    kind = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name if kind.elem_type else "none"
    shape = tuple(axis.dim_value if axis.HasField("dim_value") else None for axis in kind.shape.dim)
    return Edge(value.name, dtype, shape)


def _classes(model: Any, edge: Edge, path: Path) -> int:
    """The rows of the table that the class picks from."""
    constants = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    names = {edge.name}
    for node in model.graph.node:
        if node.op_type in ID_OPERATORS and node.input[0] in names:
            names.update(node.output)
        if node.op_type == "Gather" and node.input[1] in names and constants.get(node.input[0]):
            return int(constants[node.input[0]][0])
    raise ImportingError(f"{path} takes {edge.name}, and no table shows how many classes there are")


def _take_weights(model: Any) -> dict[str, np.ndarray]:
    """Move the large floating tensors of a model out of it, under names of their own."""
    import onnx

    from zoo.families.onnx_generator import TORCH, WEIGHT

    found: dict[str, np.ndarray] = {}
    names: dict[str, str] = {}
    for tensor in tensors(model):
        if not tensor.HasField("raw_data") and not tensor.string_data:
            values = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name)
            tensor.CopyFrom(values)
    for tensor in model.graph.initializer:
        if tensor.data_type not in TORCH or len(tensor.raw_data) < WEIGHT_BYTES:
            continue
        name = f"{WEIGHT}{tensor.name.replace('.', '/')}"
        if name in found:
            raise ValueError(f"two tensors are called {tensor.name}")
        found[name], names[tensor.name] = onnx.numpy_helper.to_array(tensor), name
        tensor.ClearField("raw_data")
        tensor.name = name
    _rename_inputs(model.graph, names)
    return found


def _rename_inputs(graph: Any, names: dict[str, str]) -> None:
    from zoo.untrusted.onnx import graphs_of

    kept = [value for value in graph.input if value.name not in names]
    del graph.input[:]
    graph.input.extend(kept)
    for inner in graphs_of(graph):
        for node in inner.node:
            node.input[:] = [names.get(name, name) for name in node.input]


def _text(model: Any, path: Path) -> str:
    data = model.SerializeToString(deterministic=True)
    if len(data) > MAX_MODEL_BYTES:
        raise ImportingError(f"{path} has {len(data)} bytes beside its weights, at most {MAX_MODEL_BYTES} are taken")
    return base64.b64encode(data).decode()


def _range(
    config: Any, stored: dict[str, np.ndarray], latent: tuple[int | None, ...], classes: int, path: Path
) -> tuple[np.ndarray, str, tuple[str, ...]]:
    """What the model gives for a few seeds; its range, and a sentence that says so. Raises ImportingError."""
    import torch

    from zoo.families.onnx_generator import OnnxGenerator

    module = OnnxGenerator(config)
    module.load_state_dict({name: torch.from_numpy(values.astype(np.float32)) for name, values in stored.items()})
    draws = noise.normal(SEEDS, (1, *(int(size or 0) for size in latent)))
    ids = torch.arange(len(SEEDS))[:, None] % classes if classes else None
    try:
        values = module.raw(torch.from_numpy(draws), ids, LIMIT_S).numpy()
    except TimeoutError as error:
        raise ImportingError(
            f"{path} was run on the noise of {len(SEEDS)} seeds, and {error}: it has a Loop that does not end, or is "
            "too large to be imported here"
        ) from error
    except Exception as error:  # ONNX Runtime's errors have no common root
        raise ImportingError(f"{path} cannot be run: {first_line(error)[:300]}") from error
    if values.ndim != 4 or len(values) != len(SEEDS):
        raise ImportingError(f"{path} gave {list(values.shape)} for {len(SEEDS)} seeds, expected an image each")
    if values.dtype == np.uint8:
        return values, "uint8", ()
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(values).all() and low >= -1.0 - SLACK and high <= 1.0 + SLACK):
        raise ImportingError(f"{path} gave values from {low:.3g} to {high:.3g}, expected images in [-1, 1] or [0, 1]")
    kind, words = ("unit", "[0, 1]") if low >= -SLACK else ("symmetric", "[-1, 1]")
    note = f"its images were taken to lie in {words}: {len(SEEDS)} seeds gave {low:.3f} to {high:.3f}"
    return values, kind, (note,)
