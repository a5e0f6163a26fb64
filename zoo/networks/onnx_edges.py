"""A generator's ONNX model -> the same between the house's edges: noise and class in, uint8 NHWC images out.

The arithmetic of the conversion is that of `zoo.images.to_images`, which every exported graph ends with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zoo.errors import GenzooError
from zoo.untrusted.onnx import graphs_of

RANGES = ("uint8", "symmetric", "unit")  # NHWC [0, 255]; NCHW [-1, 1]; NCHW [0, 1]
INNER = "model/"  # before every name of the model itself


@dataclass(frozen=True)
class OnnxConfig:
    """`model` holds the ModelProto without its weights, in base64; `inputs` are its names of noise and class."""

    model: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ("noise",)
    squeezed: bool = True  # its noise is (B, ...) rather than (B, 1, ...)
    class_axes: int = 1  # (B,) or (B, 1)
    output: str = "images"
    range: str = "uint8"

    def __post_init__(self) -> None:
        if self.range not in RANGES or not 1 <= len(self.inputs) <= 2 or self.class_axes not in (1, 2):
            raise ValueError(f"range {self.range!r} with {len(self.inputs)} inputs is no generator's")


class OnnxEdgesError(GenzooError):
    """A model that cannot be brought into the house's opset."""


def between_edges(model: Any, config: OnnxConfig, opset: int) -> Any:
    """Raises OnnxEdgesError."""
    import onnx
    import onnx.compose
    import onnx.inliner

    model = in_opset(onnx.inliner.inline_local_functions(model), opset)
    model = onnx.compose.add_prefix(model, INNER)
    graph = model.graph
    nodes, constants = _before(config)
    after, more = _after(config)
    own = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *own, *after])
    graph.initializer.extend([*constants, *more])
    for tensor in graph.initializer:
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name))
    for inner in graphs_of(graph):
        for node in inner.node:
            node.domain = ""
    return model


def in_opset(model: Any, opset: int) -> Any:
    """The model in another version of the standard operators. Raises OnnxEdgesError."""
    import onnx.version_converter

    (version,) = {entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")}
    if version == opset:
        return model
    try:
        return onnx.version_converter.convert_version(model, opset)
    except Exception as error:  # the converter's errors have no common root
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise OnnxEdgesError(
            f"opset {version} cannot be brought to {opset} ({reason}): export it in {opset}"
        ) from error


def _before(config: OnnxConfig) -> tuple[list[Any], list[Any]]:
    """(B, 1, ...) noise and (B, 1) class_ids as the model takes them."""
    import onnx

    helper = onnx.helper
    axis = helper.make_tensor("edge/axis", onnx.TensorProto.INT64, [1], [1])
    name = f"{INNER}{config.inputs[0]}"
    nodes = [
        helper.make_node(
            "Squeeze" if config.squeezed else "Identity", ["noise", "edge/axis"][: 1 + config.squeezed], [name]
        )
    ]
    if len(config.inputs) == 2:
        squeeze = config.class_axes == 1
        given = ["class_ids", "edge/axis"][: 1 + squeeze]
        nodes.append(helper.make_node("Squeeze" if squeeze else "Identity", given, [f"{INNER}{config.inputs[1]}"]))
    return nodes, [axis]


def _after(config: OnnxConfig) -> tuple[list[Any], list[Any]]:
    """What the model gives -> `images`."""
    import onnx

    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    source = f"{INNER}{config.output}"
    if config.range == "uint8":
        return [helper.make_node("Identity", [source], ["images"])], []
    values = {"two": 2.0, "minus_one": -1.0, "half": 127.5, "low": 0.0, "high": 255.0}
    constants = [helper.make_tensor(f"edge/{name}", float32, [], [value]) for name, value in values.items()]
    nodes = []
    if config.range == "unit":
        nodes += [
            helper.make_node("Mul", [source, "edge/two"], ["edge/doubled"]),
            helper.make_node("Add", ["edge/doubled", "edge/minus_one"], ["edge/pixels"]),
        ]
        source = "edge/pixels"
    nodes += [
        helper.make_node("Mul", [source, "edge/half"], ["edge/scaled"]),
        helper.make_node("Add", ["edge/scaled", "edge/half"], ["edge/shifted"]),
        helper.make_node("Clip", ["edge/shifted", "edge/low", "edge/high"], ["edge/clamped"]),
        helper.make_node("Round", ["edge/clamped"], ["edge/rounded"]),
        helper.make_node("Transpose", ["edge/rounded"], ["edge/last"], perm=[0, 2, 3, 1]),
        helper.make_node("Cast", ["edge/last"], ["images"], to=onnx.TensorProto.UINT8),
    ]
    return nodes, constants
