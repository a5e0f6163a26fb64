"""A generator's ONNX model -> the same between the house's edges: noise and conditions in, uint8 NHWC images out.

The arithmetic of the conversion is that of `zoo.images.to_images`, which every exported graph ends with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from zoo.errors import GenzooError
from zoo.untrusted.onnx import graphs_of

# What a model's images are: whole numbers in [0, 255], or floats in [-1, 1], [0, 1] or [0, 255].
RANGES = ("uint8", "symmetric", "unit", "bytes")
LAYOUTS = ("nchw", "nhwc")
EVER = 2**31 - 2  # turns of a loop; at more TensorRT counts none, and a body that asks for the count has no number
INNER = "model/"  # before every name of the model itself


@dataclass(frozen=True)
class Scalar:
    """A number that the model takes beside noise and class: the condition's name, the model's input and its axes."""

    name: str
    input: str
    axes: int  # 0: one number; 1: (B,); 2: (B, 1)


@dataclass(frozen=True)
class OnnxConfig:
    """`model` holds the ModelProto without its weights, in base64; `inputs` are its names of noise and class."""

    model: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ("noise",)
    squeezed: bool = True  # its noise is (B, ...) rather than (B, 1, ...)
    class_axes: int = 1  # (B,) or (B, 1)
    output: str = "images"
    range: str = "uint8"
    layout: str | None = None  # of LAYOUTS; None: whole numbers are NHWC, floats NCHW
    classes: str = "int64"  # what a class is to the model: int64, int32, or one_hot, float32 (B, count)
    class_count: int = 0  # of one_hot
    scalars: tuple[Scalar, ...] = ()
    alone: bool = False  # the model takes one image at a time

    def __post_init__(self) -> None:
        if self.range not in RANGES or not 1 <= len(self.inputs) <= 2 or self.class_axes not in (1, 2):
            raise ValueError(f"range {self.range!r} with {len(self.inputs)} inputs is no generator's")
        if self.layout not in (None, *LAYOUTS) or self.classes not in ("int64", "int32", "one_hot"):
            raise ValueError(f"images as {self.layout} and classes as {self.classes} are no generator's")

    @property
    def channels_last(self) -> bool:
        return self.layout == "nhwc" or (self.layout is None and self.range == "uint8")


class OnnxEdgesError(GenzooError):
    """A model that cannot be brought into the house's opset."""


def between_edges(model: Any, config: OnnxConfig, opset: int) -> Any:
    """Raises OnnxEdgesError."""
    import onnx
    import onnx.inliner

    model = in_opset(onnx.inliner.inline_local_functions(model), opset)
    graph, edges = model.graph, _Edges()
    _prefix(graph)
    for inner in list(graphs_of(graph)):
        edges.complete(inner.node)
    own = list(graph.node)
    del graph.node[:]
    edges.before(config)
    edges.nodes += own
    edges.after(config)
    last = edges.one_by_one(config) if config.alone else "edge/last"
    edges.node("Cast", [last], "images", to=onnx.TensorProto.UINT8)
    graph.node.extend(edges.nodes)
    graph.initializer.extend(edges.constants.values())
    for tensor in graph.initializer:
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name))
    for inner in graphs_of(graph):
        for node in inner.node:
            node.domain = ""
    return model


def _prefix(graph: Any) -> None:
    """Put INNER before every name, in the bodies of loops too: whatever a body takes from around it keeps its name.

    onnx's own `add_prefix` leaves the weights out that a body takes from around it.
    """
    for inner in graphs_of(graph):
        for node in inner.node:
            node.name = node.name and INNER + node.name
            node.input[:] = [name and INNER + name for name in node.input]
            node.output[:] = [name and INNER + name for name in node.output]
        sparse = [each for entry in inner.sparse_initializer for each in (entry.values, entry.indices)]
        for entry in (*inner.input, *inner.output, *inner.value_info, *inner.initializer, *sparse):
            entry.name = entry.name and INNER + entry.name


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


class _Edges:
    """Nodes around a model, and their constants."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        import onnx

        self.nodes.append(onnx.helper.make_node(kind, inputs, [output], **attributes))
        return output

    def number(self, name: str, value: float) -> str:
        import onnx

        self.constants[name] = onnx.helper.make_tensor(f"edge/{name}", onnx.TensorProto.FLOAT, [], [value])
        return f"edge/{name}"

    def whole(self, name: str, *values: int) -> str:
        """A constant of whole numbers, (len(values),)."""
        import onnx

        self.constants[name] = onnx.helper.make_tensor(f"edge/{name}", onnx.TensorProto.INT64, [len(values)], values)
        return f"edge/{name}"

    def true(self) -> str:
        import onnx

        self.constants["true"] = onnx.helper.make_tensor("edge/true", onnx.TensorProto.BOOL, [], [True])
        return "edge/true"

    def complete(self, nodes: Iterable[Any]) -> None:
        """Give a Loop without a condition or a count one that ends nothing: TensorRT knows no input left out."""
        import onnx

        for node in nodes:
            if node.op_type == "Loop" and not node.input[1]:
                node.input[1] = self.true()
            if node.op_type == "Loop" and not node.input[0]:
                self.constants["ever"] = onnx.helper.make_tensor("edge/ever", onnx.TensorProto.INT64, [], [EVER])
                node.input[0] = "edge/ever"

    def before(self, config: OnnxConfig) -> None:
        """(B, 1, ...) noise, (B, 1) class_ids and (B, 1) numbers as the model takes them."""
        given = _given(config)
        self.squeezed(given["noise"], f"{INNER}{config.inputs[0]}", config.squeezed)
        if len(config.inputs) == 2:
            self.of_class(given["class_ids"], f"{INNER}{config.inputs[1]}", config)
        for scalar in config.scalars:
            self.of_scalar(given[scalar.name], f"{INNER}{scalar.input}", scalar.axes)

    def squeezed(self, source: str, target: str, squeeze: bool) -> None:
        """The same without its second axis, of size 1."""
        self.node("Squeeze" if squeeze else "Identity", [source, *([self.whole("axis", 1)] if squeeze else [])], target)

    def of_scalar(self, source: str, target: str, axes: int) -> None:
        """(B, 1) as (B, 1), (B,), or of one image ()."""
        if axes == 0:
            self.node("Squeeze", [source, self.whole("both", 0, 1)], target)
        else:
            self.squeezed(source, target, axes == 1)

    def of_class(self, source: str, target: str, config: OnnxConfig) -> None:
        import onnx

        if config.classes == "one_hot":
            flat = self.node("Squeeze", [source, self.whole("axis", 1)], "edge/class")
            self.constants["values"] = onnx.helper.make_tensor("edge/values", onnx.TensorProto.FLOAT, [2], [0.0, 1.0])
            self.node("OneHot", [flat, self.whole("count", config.class_count), "edge/values"], target)
        elif config.classes == "int32":
            self.node("Cast", [source], "edge/class", to=onnx.TensorProto.INT32)
            self.squeezed("edge/class", target, config.class_axes == 1)
        else:
            self.squeezed(source, target, config.class_axes == 1)

    def after(self, config: OnnxConfig) -> None:
        """What the model gives -> `edge/last`, whole numbers in [0, 255], NHWC."""
        source = f"{INNER}{config.output}"
        if config.range != "uint8":
            if config.range == "unit":  # as `to_images` has it, which knows [-1, 1]
                doubled = self.node("Mul", [source, self.number("two", 2.0)], "edge/doubled")
                source = self.node("Add", [doubled, self.number("minus_one", -1.0)], "edge/pixels")
            if config.range != "bytes":
                scaled = self.node("Mul", [source, self.number("half", 127.5)], "edge/scaled")
                source = self.node("Add", [scaled, "edge/half"], "edge/shifted")
            low, high = self.number("low", 0.0), self.number("high", 255.0)
            source = self.node("Round", [self.node("Clip", [source, low, high], "edge/clamped")], "edge/rounded")
        if config.channels_last:
            self.node("Identity", [source], "edge/last")
        else:
            self.node("Transpose", [source], "edge/last", perm=[0, 2, 3, 1])

    def one_by_one(self, config: OnnxConfig) -> str:
        """All nodes so far, which take one image, in a loop over the batch: what holds all images."""
        import onnx

        helper, types = onnx.helper, onnx.TensorProto
        first = [
            helper.make_node("Reshape", ["edge/index", self.whole("one", 1)], ["edge/at"]),
            *(helper.make_node("Gather", [name, "edge/at"], [inner], axis=0) for name, inner in _given(config).items()),
        ]
        last = [
            helper.make_node("Squeeze", ["edge/last", self.whole("zero", 0)], ["edge/image"]),
            helper.make_node("Identity", ["edge/go_on"], ["edge/going"]),
        ]
        kind = types.UINT8 if config.range == "uint8" else types.FLOAT
        body = helper.make_graph(
            [*first, *self.nodes, *last],
            "image",
            [
                helper.make_tensor_value_info("edge/index", types.INT64, []),
                helper.make_tensor_value_info("edge/go_on", types.BOOL, []),
            ],
            [
                helper.make_tensor_value_info("edge/going", types.BOOL, []),
                helper.make_tensor_value_info("edge/image", kind, [None, None, None]),
            ],
        )
        self.nodes = []
        self.node("Shape", ["noise"], "edge/batch", start=0, end=1)
        return self.node("Loop", ["edge/batch", self.true()], "edge/all", body=body)


def _given(config: OnnxConfig) -> dict[str, str]:
    """The house's inputs, by what they are called where the model takes them: one image of each, where it takes one."""
    names = ["noise", *(["class_ids"] if len(config.inputs) == 2 else []), *(scalar.name for scalar in config.scalars)]
    return {name: f"edge/one/{name}" if config.alone else name for name in names}
