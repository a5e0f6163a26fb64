"""What the tensors at the edge of an ONNX generator are: its noise, its class, its numbers and its images."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.exchange.importing.draft import ImportingError
from zoo.untrusted.onnx import STANDARD, nodes

CHANNELS = (1, 3, 4)
MAX_LATENT = 1 << 22  # numbers of noise in one image
# A seed is an image: what draws numbers of its own makes another each time.
RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
ID_OPERATORS = ("Squeeze", "Reshape", "Unsqueeze", "Flatten", "Identity", "Cast")
CLASS_NAMES = re.compile(r"c|y|(class|label|category)(_?(id|label|vector|one_?hot))?s?|one_?hot")
# From, to, and where nobody says: the truncation of StyleGAN's latents (Karras et al. 2019, appendix B), 1 is none.
NUMBERS = {"psi": (-1.0, 1.0, 1.0), "truncation_psi": (-1.0, 1.0, 1.0), "truncation": (-1.0, 1.0, 1.0)}
ANY_NUMBER = (-10.0, 10.0, 1.0)
IR_WITH_DEFAULTS = 4  # from which an input with an initializer is one that may be given


@dataclass(frozen=True)
class Edge:
    """A tensor at the model's edge; None for an axis that is not fixed."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    @property
    def is_number(self) -> bool:
        """Whether it is a single number, for each image or for all: (), (1,), (B,), (B, 1)."""
        first, rest = self.shape[:1], self.shape[1:]
        return self.dtype == "float32" and first in ((), (None,), (1,)) and rest in ((), (1,))

    @property
    def is_of_one(self) -> bool:
        """Whether it is one value for all images of an execution."""
        return not self.shape or self.shape[0] == 1


@dataclass(frozen=True)
class Tensors:
    """What a model takes and gives, and how it becomes what a request may say."""

    noise: Edge
    images: Edge
    latent: tuple[int, ...]
    squeezed: bool  # the noise is (B, *latent) rather than (B, 1, *latent)
    alone: bool  # it takes one image at a time
    classes: Edge | None = None
    class_form: str = "int64"  # of OnnxConfig
    class_count: int = 0
    scalars: Mapping[str, Edge] = field(default_factory=dict)  # by the names of their conditions
    numbers: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)  # low, high, default
    notes: tuple[str, ...] = ()


def read(model: Any, path: Path) -> Tensors:
    """Raises ImportingError for what is no one-shot generator. Numbers with a default lose it in the model."""
    _refuse_randomness(model, path)
    given, defaults = _inputs(model), _take_defaults(model)
    floats = [edge for edge in given if edge.dtype == "float32"]
    ids = [edge for edge in given if edge.dtype in ("int32", "int64")]
    images = [_edge(value) for value in model.graph.output]
    images = [edge for edge in images if edge.name == "images"] or images
    seen = ", ".join(f"{edge.name} {edge.dtype} {list(edge.shape)}" for edge in (*given, *images))[:400]
    numbers = [edge for edge in floats if edge.is_number] if len(floats) > 1 else []
    arrays = [edge for edge in floats if edge not in numbers]
    if len(arrays) == 2 and not ids:
        ids = [edge for edge in arrays if len(edge.shape) == 2 and CLASS_NAMES.fullmatch(edge.name.lower())]
        arrays = [edge for edge in arrays if edge not in ids]
    if len(arrays) != 1 or len(ids) > 1 or len(given) != len(arrays) + len(ids) + len(numbers) or len(images) != 1:
        raise ImportingError(
            f"{path} has the tensors {seen}: a one-shot generator takes float32 noise, perhaps class_ids (int64, "
            "int32, or one-hot float32 called like label) and single numbers, and gives images"
        )
    if images[0].dtype not in ("uint8", "float32") or len(images[0].shape) != 4:
        raise ImportingError(f"{path} gives {seen}: expected uint8 or float32 images, NHWC or NCHW")
    if ids and len(ids[0].shape) not in (1, 2):
        raise ImportingError(f"{path} takes {seen}: expected one class an image")
    form, count = _classes(model, ids[0], path) if ids else ("int64", 0)
    latent, squeezed = _latent(arrays[0], path)
    alone = arrays[0].shape[0] == 1 or any(edge.is_of_one for edge in numbers)
    if not alone and images[0].shape[0] is not None:
        raise ImportingError(f"{path} gives {images[0].shape}: expected a batch that is not fixed, or one image")
    scalars = {_condition_name(edge.name): edge for edge in numbers}
    if len(scalars) < len(numbers):
        raise ImportingError(f"{path} takes numbers whose names are the same here: {seen}")
    ranges = {name: _range(name, defaults.get(edge.name)) for name, edge in scalars.items()}
    return Tensors(
        arrays[0], images[0], latent, squeezed, alone, ids[0] if ids else None, form, count, scalars, ranges,
        tuple(_told(ranges, alone)),
    )  # fmt: skip


def imports(model: Any) -> Iterator[Any]:
    """The versions of the standard operators that a model asks for."""
    return (entry for entry in model.opset_import if entry.domain in STANDARD)


def _refuse_randomness(model: Any, path: Path) -> None:
    import onnx

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in nodes(model):
        training = node.op_type == "Dropout" and len(node.input) > 2 and bool(node.input[2])
        if training and node.input[2] in constants:
            training = bool(onnx.numpy_helper.to_array(constants[node.input[2]]).any())
        if node.domain in STANDARD and (node.op_type in RANDOM or training):
            raise ImportingError(
                f"{path} draws random numbers itself ({node.op_type} {str(node.name)[:60]}): "
                "a seed would not be an image; export it with its noise as an input"
            )


def _inputs(model: Any) -> list[Edge]:
    """What has to be given, and what may be."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    edges = [_edge(value) for value in model.graph.input]
    return [edge for edge in edges if edge.name not in constants or _is_default(model, edge)]


def _is_default(model: Any, edge: Edge) -> bool:
    """Whether an input that has a value is one that someone may give: exporters once listed every constant so."""
    given, constants = ({each.name for each in values} for values in (model.graph.input, model.graph.initializer))
    on_purpose = edge.name.lower() in NUMBERS or not constants <= given
    return model.ir_version >= IR_WITH_DEFAULTS and edge.is_number and on_purpose


def _take_defaults(model: Any) -> dict[str, float]:
    """Take the values of numbers that may be given out of the model."""
    import onnx

    optional = {edge.name for edge in map(_edge, model.graph.input) if _is_default(model, edge)}
    floats = (each for each in model.graph.initializer if each.data_type == onnx.TensorProto.FLOAT)
    found = {each.name: each for each in floats if each.name in optional and math.prod(each.dims) == 1}
    kept = [each for each in model.graph.initializer if each.name not in found]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return {name: float(onnx.numpy_helper.to_array(each).flat[0]) for name, each in found.items()}


def _edge(value: Any) -> Edge:
    import onnx

    kind = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name if kind.elem_type else "none"
    shape = tuple(axis.dim_value if axis.HasField("dim_value") else None for axis in kind.shape.dim)
    return Edge(value.name, dtype, shape)


def _latent(edge: Edge, path: Path) -> tuple[tuple[int, ...], bool]:
    """The shape of one image's noise, and whether the model has no axis of draws before it."""
    squeezed = not (len(edge.shape) > 2 and edge.shape[1] == 1)
    latent = edge.shape[1:] if squeezed else edge.shape[2:]
    fixed = tuple(axis for axis in latent if axis is not None)
    whole = fixed and len(fixed) == len(latent) and 1 <= math.prod(fixed) <= MAX_LATENT
    if not whole or edge.shape[0] not in (None, 1):
        raise ImportingError(
            f"{path} takes {edge.name} {list(edge.shape)}: expected a batch that is not fixed, or of one, "
            "and axes that are"
        )
    return fixed, squeezed


def _classes(model: Any, edge: Edge, path: Path) -> tuple[str, int]:
    """The form in which the model takes a class, and how many there are."""
    if edge.dtype == "float32":
        if not edge.shape[1] or edge.shape[1] < 2:
            raise ImportingError(f"{path} takes {edge.name} {list(edge.shape)}: expected rows of a fixed length")
        return "one_hot", edge.shape[1]
    return edge.dtype, _count(model, edge, path)


def _count(model: Any, edge: Edge, path: Path) -> int:
    """The rows of the table that the class picks from, or the length of the row that it becomes."""
    import onnx

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    names = {edge.name}
    for node in model.graph.node:
        if node.op_type in ID_OPERATORS and node.input[0] in names:
            names.update(node.output)
        table = constants.get(node.input[0]) if node.op_type == "Gather" and node.input[1] in names else None
        if table is not None and table.dims:
            return int(table.dims[0])
        if node.op_type == "OneHot" and node.input[0] in names and node.input[1] in constants:
            return int(onnx.numpy_helper.to_array(constants[node.input[1]]).flat[0])
    raise ImportingError(f"{path} takes {edge.name}, and no table shows how many classes there are")


def _condition_name(name: str) -> str:
    found = re.sub(r"[^a-z0-9_]+", "_", name.lower()).strip("_")[:60]
    return found if re.match(r"[a-z]", found) else f"number_{found}"


def _range(name: str, default: float | None) -> tuple[float, float, float]:
    low, high, usual = NUMBERS.get(name, ANY_NUMBER)
    value = usual if default is None or not math.isfinite(default) else default
    return min(low, value), max(high, value), value


def _told(ranges: Mapping[str, Sequence[float]], alone: bool) -> Iterator[str]:
    for name, (low, high, default) in ranges.items():
        yield f"it takes the number {name}: from {low:g} to {high:g}, {default:g} where nobody says"
    if alone:
        yield "it takes one image at a time: a batch is a loop, which gains nothing from more images"
