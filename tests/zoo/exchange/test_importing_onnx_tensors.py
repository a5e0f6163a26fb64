"""What an ONNX generator takes and gives in other ways than ours: classes, numbers, layouts, ranges, opsets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from tests.zoo.exchange.test_importing_onnx import generator, home, saved, tensor, value
from zoo import registry, shelf
from zoo.contract.conditions import class_id
from zoo.contract.feeds import feeds
from zoo.contract.generator import Generator
from zoo.contract.request import SampleRequest
from zoo.exchange.importing import ImportingError, import_from
from zoo.untrusted.onnx import MIN_OPSET

__all__ = ["home"]  # a fixture
SEEDS = tuple(range(6))
PSI = tuple(0.1 * seed for seed in SEEDS)


def styled(
    label: str | None = "int64",
    psi: tuple[Any, ...] | None = None,
    default: float | None = None,
    channels: int = 3,
    last: bool = False,
    gain: float = 1.0,
    opset: int = 17,
    batch: Any = "b",
    activation: str = "Tanh",
) -> Any:
    """z (B, 8), a class of 5, psi -> gain tanh(psi (z + row) W): (B, C, 5, 5), or (B, 5, 5, C) for `last`."""
    size = channels * 25
    weights = [tensor("W", 8, size), tensor("table", 5, 8), helper.make_tensor("gain", TensorProto.FLOAT, [], [gain])]
    inputs, nodes, source = [value("z", TensorProto.FLOAT, batch, 8)], [], "z"
    if label == "one-hot":
        inputs.append(value("c", TensorProto.FLOAT, batch, 5))
        nodes.append(helper.make_node("MatMul", ["c", "table"], ["row"]))
    elif label:
        kind = {"int32": TensorProto.INT32, "int64": TensorProto.INT64}[label]
        inputs.append(value("label", kind, batch))
        nodes.append(helper.make_node("Gather", ["table", "label"], ["row"]))
    if label:
        nodes.append(helper.make_node("Add", [source, "row"], ["zc"]))
        source = "zc"
    if psi is not None:
        inputs.append(value("psi", TensorProto.FLOAT, *psi))
        scale = "psi"
        if psi == ("b",):
            weights.append(helper.make_tensor("column", TensorProto.INT64, [2], [-1, 1]))
            nodes.append(helper.make_node("Reshape", ["psi", "column"], ["psi_column"]))
            scale = "psi_column"
        if default is not None:
            weights.append(helper.make_tensor("psi", TensorProto.FLOAT, list(psi), [default]))
        nodes.append(helper.make_node("Mul", [source, scale], ["zs"]))
        source = "zs"
    shape = [-1, 5, 5, channels] if last else [-1, channels, 5, 5]
    weights.append(helper.make_tensor("shape", TensorProto.INT64, [4], shape))
    nodes += [
        helper.make_node("MatMul", [source, "W"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["grid"]),
        helper.make_node(activation, ["grid"], ["bent"]),
        helper.make_node("Mul", ["bent", "gain"], ["out"]),
    ]
    output = value("out", TensorProto.FLOAT, batch, *shape[1:])
    graph = helper.make_graph(nodes, "g", inputs, [output], weights)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=min(11, max(4, opset - 6))
    )


def images_of(model: Any, checkpoint: Any, request: SampleRequest, scale: float, shift: float) -> np.ndarray:
    """The model by onnx's own reference evaluator, image by image; its floats as grey levels."""
    given, tensors = {each.name: each for each in model.graph.input}, feeds(checkpoint.spec, request)
    evaluator, found = ReferenceEvaluator(model), []
    for row in range(len(request.seeds)):
        feed = {"z": tensors["noise"][row]}
        if "label" in given:
            kind = given["label"].type.tensor_type.elem_type
            feed["label"] = tensors["class_ids"][row].astype(helper.tensor_dtype_to_np_dtype(kind))
        if "c" in given:
            feed["c"] = np.eye(5, dtype=np.float32)[tensors["class_ids"][row]]
        if "psi" in given:
            feed["psi"] = tensors["psi"][row].reshape([1] * len(given["psi"].type.tensor_type.shape.dim))
        found.append(evaluator.run(None, feed)[0])
    out = np.concatenate(found)
    channels_last = checkpoint.spec.image_shape == out.shape[1:]
    levels = np.round(np.clip(out * scale + shift, 0, 255)).astype(np.uint8)
    return levels if channels_last else levels.transpose(0, 2, 3, 1)


CASES: dict[str, Mapping[str, Any]] = {
    "int32 ids": {"label": "int32"},
    "one-hot classes": {"label": "one-hot"},
    "a number an image": {"psi": ("b", 1)},
    "a number an image, flat": {"psi": ("b",), "label": None},
    "a number for all": {"psi": ()},
    "a number for all, an axis": {"psi": (1,), "label": "one-hot"},
    "a number with a default": {"psi": (1,), "default": 0.7},
    "one image at a time": {"batch": 1},
    "grey, NHWC": {"channels": 1, "last": True},
    "colour, NHWC": {"last": True, "label": "int32"},
    "with alpha, NHWC": {"channels": 4, "last": True},
    "with alpha": {"channels": 4},
}


@pytest.mark.parametrize("case", CASES)
def test_a_generator_with_other_edges_is_exported_and_sampled(case: str, tmp_path: Path) -> None:
    from export.exporter import export
    from export.runners import OnnxRuntimeRunner, TorchRunner

    model = styled(**CASES[case])
    imported = import_from(saved(model, tmp_path / "theirs.onnx"))
    checkpoint = registry.checkpoint("theirs")
    assert class_id.count(checkpoint.spec.conditions) == (0 if CASES[case].get("label", 1) is None else 5)
    conditions = {"psi": PSI} if "psi" in CASES[case] else {}
    request = SampleRequest(SEEDS, conditions)
    expected = images_of(model, checkpoint, request, 127.5, 127.5)
    for runner in (TorchRunner(checkpoint), OnnxRuntimeRunner(export(checkpoint))):
        found = Generator(checkpoint.spec, runner).sample(request)
        assert np.abs(found.astype(int) - expected).max() <= 1
    if conditions:
        psi = checkpoint.spec.condition("psi")
        assert psi is not None
        assert psi.default == pytest.approx(CASES[case].get("default") or 1.0)
        assert any("it takes the number psi: from -1 to 1" in note for note in imported.draft.notes)


RANGES: dict[str, tuple[Mapping[str, Any], str, tuple[float, float]]] = {
    "clamped": ({"gain": 1.5}, "-1,1", (127.5, 127.5)),
    "clamped to [0, 1]": ({"gain": 1.2, "activation": "Sigmoid"}, "0,1", (255.0, 0.0)),
    "grey levels": ({"gain": 255.0, "activation": "Sigmoid", "last": True}, "0,255", (1.0, 0.0)),
}


@pytest.mark.parametrize("case", RANGES)
def test_a_range_may_be_said(case: str, tmp_path: Path) -> None:
    from export.exporter import export
    from export.runners import OnnxRuntimeRunner, TorchRunner

    arguments, said, (scale, shift) = RANGES[case]
    model = styled(**arguments)
    path = saved(model, tmp_path / "theirs.onnx")
    with pytest.raises(ImportingError, match=r"say which range they are clamped to, --range -1,1 or 0,1 or 0,255"):
        import_from(path)
    imported = import_from(path, image_range=said)
    assert "as was said, and clamped to it" in imported.draft.notes[-1]
    checkpoint, request = registry.checkpoint("theirs"), SampleRequest(SEEDS)
    expected = images_of(model, checkpoint, request, scale, shift)
    for runner in (TorchRunner(checkpoint), OnnxRuntimeRunner(export(checkpoint))):
        found = Generator(checkpoint.spec, runner).sample(request)
        assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("opset", range(9, 25))
def test_opsets_are_those_that_the_runtime_has(opset: int, tmp_path: Path) -> None:
    """The import runs the model as it came, and in the opset of the house, and compares."""
    assert opset >= MIN_OPSET
    imported = import_from(saved(styled(opset=opset), tmp_path / "theirs.onnx"))
    assert imported.draft.usable
    assert registry.checkpoint("theirs").spec.image_shape == (5, 5, 3)


def faults() -> Iterator[tuple[str, Any, str]]:
    model = styled()
    model.graph.node[-1].op_type = "Add"
    model.graph.node[-1].input[1] = "draw"
    model.graph.node.insert(0, helper.make_node("RandomNormalLike", ["z"], ["draw"]))
    yield "random numbers", model, r"draws random numbers itself \(RandomNormalLike"
    model = styled()
    model.graph.initializer.append(helper.make_tensor("on", TensorProto.BOOL, [], [True]))
    model.graph.node.insert(0, helper.make_node("Dropout", ["z", "", "on"], ["dropped"]))
    yield "dropout that drops", model, r"draws random numbers itself \(Dropout"
    yield "eight colours", styled(channels=8), r"expected 1, 3 or 4 colours"
    yield "eight colours last", styled(channels=8, last=True), r"expected 1, 3 or 4 colours"
    model = styled(opset=23)
    model.graph.initializer.append(helper.make_tensor("scale", TensorProto.FLOAT, [8], [1.0] * 8))
    model.graph.node[1].output[0] = "loud"
    model.graph.node.insert(2, helper.make_node("RMSNormalization", ["loud", "scale"], ["zc"]))
    yield (
        "an operator that cannot be brought to opset 20",
        model,
        r"cannot be exported: opset 23 cannot be brought to 20",
    )


@pytest.mark.parametrize(("model", "message"), [each[1:] for each in faults()], ids=[each[0] for each in faults()])
def test_what_could_not_be_exported_is_refused_at_import(model: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ImportingError, match=message):
        import_from(saved(model, tmp_path / "theirs.onnx"))
    assert shelf.pulled("theirs") is None


def test_dropout_that_drops_nothing_is_taken(tmp_path: Path) -> None:
    model = styled()
    model.graph.initializer.append(helper.make_tensor("off", TensorProto.BOOL, [], [False]))
    model.graph.node[-1].output[0] = "wet"
    model.graph.node.append(helper.make_node("Dropout", ["wet", "", "off"], ["out"]))
    assert import_from(saved(model, tmp_path / "theirs.onnx")).draft.usable


def test_a_range_of_whole_numbers_cannot_be_said(tmp_path: Path) -> None:
    path = saved(generator(last="Cast"), tmp_path / "theirs.onnx")
    with pytest.raises(ImportingError, match="leave --range out"):
        import_from(path, image_range="0,255")
    with pytest.raises(ImportingError, match="no range '0,2'"):
        import_from(path, image_range="0,2")
    assert onnx.defs.onnx_opset_version() >= 24
