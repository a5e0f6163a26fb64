"""ONNX models from outside: what is crafted is refused by name, a one-shot generator goes through the whole house."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests.examples import examples
from zoo import registry, shelf
from zoo.contract.conditions import class_id
from zoo.contract.generator import Generator
from zoo.contract.request import SampleRequest
from zoo.errors import GenzooError
from zoo.exchange.importing import ImportingError, import_from, onnx_model
from zoo.files import HOME_VARIABLE
from zoo.untrusted import UntrustedError, wire_format
from zoo.untrusted.onnx import check_onnx

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    return tmp_path / "home"


def tensor(name: str, *shape: int) -> TensorProto:
    return numpy_helper.from_array(RNG.standard_normal(shape).astype(np.float32), name)


def value(name: str, kind: int, *shape: Any) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def generator(last: str = "Tanh", opset: int = 13, classes: bool = True, functions: bool = False) -> Any:
    """(B, 8) noise, (B,) class -> (B, 3, 8, 8) pixels, or uint8 NHWC images for `last` = Cast."""
    weights = [tensor("layer.weight", 8, 192), tensor("layer.bias", 192), tensor("table", 5, 8)]
    weights.append(helper.make_tensor("shape", TensorProto.INT64, [4], [-1, 3, 8, 8]))
    nodes, source = [], "z"
    if classes:
        nodes += [
            helper.make_node("Gather", ["table", "label"], ["row"]),
            helper.make_node("Add", ["z", "row"], ["zc"]),
        ]
        source = "zc"
    nodes.append(helper.make_node("Gemm", [source, "layer.weight", "layer.bias"], ["flat"]))
    nodes.append(helper.make_node("Reshape", ["flat", "shape"], ["grid"]))
    output = value("out", TensorProto.FLOAT, "b", 3, 8, 8)
    if last == "Cast":
        weights += [helper.make_tensor("gain", TensorProto.FLOAT, [], [40.0])]
        nodes += [
            helper.make_node("Mul", ["grid", "gain"], ["scaled"]),
            helper.make_node("Abs", ["scaled"], ["positive"]),
            helper.make_node("Transpose", ["positive"], ["last"], perm=[0, 2, 3, 1]),
            helper.make_node("Cast", ["last"], ["out"], to=TensorProto.UINT8),
        ]
        output = value("out", TensorProto.UINT8, "b", 8, 8, 3)
    elif functions:
        nodes.append(helper.make_node("Squash", ["grid"], ["out"], domain="own"))
    else:
        nodes.append(helper.make_node(last, ["grid"], ["out"]))
    inputs = [value("z", TensorProto.FLOAT, "b", 8)]
    inputs += [value("label", TensorProto.INT64, "b")] if classes else []
    graph = helper.make_graph(nodes, "g", inputs, [output], weights)
    imports = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=9)
    if functions:
        body = [helper.make_node("Tanh", ["x"], ["y"])]
        model.functions.append(helper.make_function("own", "Squash", ["x"], ["y"], body, imports))
        model.opset_import.append(helper.make_opsetid("own", 1))
    return model


def saved(model: Any, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


KINDS: dict[str, dict[str, Any]] = {
    "tanh": {},
    "sigmoid": {"last": "Sigmoid", "classes": False},
    "uint8": {"last": "Cast"},
    "function": {"functions": True, "opset": 17},
    "opset 21": {"opset": 21},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_generator_is_exported_gated_and_sampled(kind: str, tmp_path: Path) -> None:
    from export.exporter import export
    from export.gate import gate
    from export.runners import OnnxRuntimeRunner, TorchRunner

    model = generator(**KINDS[kind])
    import_from(saved(model, tmp_path / "theirs.onnx"), licence="mit")
    checkpoint = registry.checkpoint("theirs")
    assert checkpoint.spec.image_shape == (8, 8, 3)
    assert class_id.count(checkpoint.spec.conditions) == (0 if kind == "sigmoid" else 5)
    bundle = export(checkpoint)
    assert gate(bundle).admitted
    request = SampleRequest(tuple(range(6)))
    found = [
        Generator(checkpoint.spec, runner).sample(request)
        for runner in (TorchRunner(checkpoint), OnnxRuntimeRunner(bundle))
    ]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], _directly(model, checkpoint))


def _directly(model: Any, checkpoint: Any) -> np.ndarray:
    """The model by onnx's own reference evaluator, its floats as whole grey levels."""
    from onnx.reference import ReferenceEvaluator

    from zoo.contract.feeds import feeds

    tensors = feeds(checkpoint.spec, SampleRequest(tuple(range(6))))
    given = {"z": tensors["noise"][:, 0]}
    if "class_ids" in tensors:
        given["label"] = tensors["class_ids"][:, 0]
    (out,) = ReferenceEvaluator(model).run(None, given)
    if out.dtype == np.uint8:
        return np.asarray(out)
    symmetric = out if out.min() < 0 else out * 2.0 - 1.0
    return np.asarray(np.round(np.clip(symmetric * 127.5 + 127.5, 0, 255)).transpose(0, 2, 3, 1), np.uint8)


def test_weights_outside_the_model_are_taken_with_it(tmp_path: Path) -> None:
    path = tmp_path / "theirs.onnx"
    (tmp_path / "weights").mkdir()
    onnx.save(generator(), path, save_as_external_data=True, location="weights/data.bin", size_threshold=0)
    import_from(path)
    import_from(saved(generator(), tmp_path / "inside.onnx"))
    assert registry.checkpoint("theirs").spec.latent_shape == (8,)
    assert shelf.config("theirs")["parameters"] == shelf.config("inside")["parameters"]


UNFIT: dict[str, Callable[[Any], Any]] = {
    "a fixed batch": lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 2),
    "two noises": lambda m: m.graph.input.append(value("more", TensorProto.FLOAT, "b", 8)),
    "text": lambda m: setattr(m.graph.input[1].type.tensor_type, "elem_type", TensorProto.STRING),
    "three axes out": lambda m: m.graph.output[0].type.tensor_type.shape.dim.pop(),
    "a table without rows": lambda m: m.graph.initializer[2].CopyFrom(numpy_helper.from_array(np.float32(1), "table")),
    "beyond its range": lambda m: setattr(m.graph.node[-1], "op_type", "Identity"),
}


@pytest.mark.parametrize("fault", UNFIT)
def test_what_is_no_one_shot_generator_is_refused(fault: str, tmp_path: Path) -> None:
    model = generator()
    UNFIT[fault](model)
    with pytest.raises((ImportingError, UntrustedError)):
        import_from(saved(model, tmp_path / "theirs.onnx"))
    assert shelf.pulled("theirs") is None


def outside(location: str, offset: Any = 0, length: Any = 16, dims: tuple[int, ...] = (4,), **more: str) -> Any:
    """A model with one tensor outside."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, text in {"location": location, "offset": offset, "length": length, **more}.items():
        if text is not None:
            weight.external_data.add(key=key, value=str(text))
    node = helper.make_node("Add", ["x", "w"], ["y"])
    edges = [value("x", TensorProto.FLOAT, 4)], [value("y", TensorProto.FLOAT, 4)]
    graph = helper.make_graph([node], "g", *edges, [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder: w.bin is sound, everything else is a trap."""
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(bytes(64))
    for name in ("w.bin", "sub/w.bin", "twice.bin"):
        (folder / name).write_bytes(bytes(16))
    (folder / "link.bin").symlink_to("w.bin")
    (folder / "away.bin").symlink_to(tmp_path / "secret")
    (folder / "linked").symlink_to("sub")
    os.link(folder / "twice.bin", folder / "hard.bin")
    os.mkfifo(folder / "pipe.bin")
    return folder


def test_sound_external_data_is_read(folder: Path) -> None:
    for location in ("w.bin", "sub/w.bin"):
        check_onnx(saved(outside(location), folder / "m.onnx"))


ATTACKS: dict[str, tuple[Any, str]] = {
    "absolute": (outside("/etc/passwd"), "absolute"),
    "above": (outside("../secret"), "leaves"),
    "above, later": (outside("sub/../../secret"), "leaves"),
    "backslash": (outside("..\\secret"), "character"),
    "drive": (outside("C:secret"), "absolute"),
    "empty": (outside(""), "plain"),
    "nothing": (outside(None), "plain"),  # type: ignore[arg-type]
    "dot": (outside("./w.bin"), "plain"),
    "a zero byte": (outside("w.bin\0"), "character"),
    "a link": (outside("link.bin"), "link"),
    "a link to elsewhere": (outside("away.bin"), "link"),
    "a folder that is a link": (outside("linked/w.bin"), "link"),
    "a hard link": (outside("hard.bin"), "hard link"),
    "a pipe": (outside("pipe.bin"), "plain file"),
    "a folder": (outside("sub"), "plain file"),
    "not there": (outside("no.bin"), "not there"),
    "the model itself": (outside("m.onnx"), "own file"),
    "too long": (outside("w.bin", 0, 32, (8,)), "truncated"),
    "beyond the end": (outside("w.bin", 8), "truncated"),
    "far beyond": (outside("w.bin", 2**62), "offset"),
    "negative": (outside("w.bin", -1), "offset"),
    "no number": (outside("w.bin", "0x0"), "offset"),
    "a number of other digits": (outside("w.bin", "\u0661"), "offset"),
    "another length": (outside("w.bin", 0, 12), "needs 16"),
    "negative shape": (outside("w.bin", dims=(-4,)), "shape"),
    "a product that wraps": (outside("w.bin", 0, None, (2**32, 2**32, 4)), "overflows"),
    "a key of its own": (outside("w.bin", basepath="/"), "unknown"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_external_data_is_confined(attack: str, folder: Path) -> None:
    model, message = ATTACKS[attack]
    with pytest.raises(UntrustedError, match=message):
        check_onnx(saved(model, folder / "m.onnx"))


def hidden(where: str) -> Any:
    """A model whose tensor outside hides in an attribute, a graph within, a sparse tensor or a function."""
    evil = outside("../secret").graph.initializer[0]
    model = outside("w.bin")
    del model.graph.initializer[:]
    model.graph.initializer.append(tensor("w", 4))
    constant = helper.make_node("Constant", [], ["c"], value=evil)
    inner = helper.make_graph([], "inner", [], [value("w2", TensorProto.FLOAT, 4)], [evil])
    if where == "attribute":
        model.graph.node.insert(0, constant)
    elif where == "graph":
        condition = helper.make_node("If", ["b"], ["c"], then_branch=inner, else_branch=inner)
        model.graph.node.insert(0, condition)
    elif where == "sparse":
        sparse = model.graph.sparse_initializer.add()
        sparse.values.CopyFrom(evil)
    elif where == "function":
        body = [constant, helper.make_node("Identity", ["c"], ["y"])]
        model.functions.append(helper.make_function("own", "F", [], ["y"], body, [helper.make_opsetid("", 20)]))
    else:
        body = [helper.make_node("If", ["b"], ["y"], then_branch=inner, else_branch=inner)]
        model.functions.append(helper.make_function("own", "F", ["b"], ["y"], body, [helper.make_opsetid("", 20)]))
    return model


@pytest.mark.parametrize("where", ["attribute", "graph", "sparse", "function", "graph of a function"])
def test_external_data_is_found_wherever_it_hides(where: str, folder: Path) -> None:
    with pytest.raises(UntrustedError, match="leaves its folder"):
        check_onnx(saved(hidden(where), folder / "m.onnx"))


def test_other_domains_are_refused_by_name(tmp_path: Path) -> None:
    model = generator()
    model.graph.node[-1].domain = "com.evil"
    with pytest.raises(UntrustedError, match=r"com\.evil\.Tanh"):
        check_onnx(saved(model, tmp_path / "m.onnx"))


@pytest.mark.parametrize(("opset", "message"), [(6, "opset 6"), (99, "opset 99")])
def test_opsets_are_bounded(opset: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(UntrustedError, match=message):
        check_onnx(saved(generator(opset=opset), tmp_path / "m.onnx"))


def laughs(depth: int, calls: int, cycle: bool = False) -> Any:
    """Functions that call the next one several times: `calls ** depth` nodes from a few lines."""
    model = generator()
    imports = [helper.make_opsetid("", 13), helper.make_opsetid("own", 1)]
    for level in range(depth):
        following = "Tanh" if level == depth - 1 else f"F{level + 1}"
        if cycle and level == depth - 1:
            following = "F0"
        domain = "" if following == "Tanh" else "own"
        names = [f"v{i}" for i in range(calls)]
        body = [
            helper.make_node(following, [before], [after], domain=domain)
            for before, after in zip(["x", *names], [*names[:-1], "y"], strict=False)
        ]
        model.functions.append(helper.make_function("own", f"F{level}", ["x"], ["y"], body, imports))
    model.graph.node[-1].domain, model.graph.node[-1].op_type = "own", "F0"
    model.opset_import.append(helper.make_opsetid("own", 1))
    return model


def test_functions_that_grow_without_bound_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UntrustedError, match="nodes once"):
        check_onnx(saved(laughs(30, 10), tmp_path / "m.onnx"))
    with pytest.raises(UntrustedError, match="contains itself"):
        check_onnx(saved(laughs(3, 1, cycle=True), tmp_path / "m.onnx"))
    check_onnx(saved(laughs(3, 2), tmp_path / "m.onnx"))


def test_the_cost_of_a_model_is_bounded_before_it_is_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x42\x00" * (wire_format.MAX_FIELDS + 1))  # empty opset_imports, two bytes each
    with pytest.raises(UntrustedError, match="fields"):
        check_onnx(path)
    nested = b""
    for _ in range(wire_format.MAX_DEPTH):  # graph in attribute in node in graph ...
        for key in (b"\x32", b"\x2a", b"\x0a"):
            nested = key + _varint(len(nested)) + nested
    path.write_bytes(b"\x3a" + _varint(len(nested)) + nested)
    with pytest.raises(UntrustedError, match="deeper"):
        check_onnx(path)
    monkeypatch.setattr(wire_format, "MAX_PACKED_BYTES", 10)
    with pytest.raises(UntrustedError, match="packed"):
        check_onnx(saved(generator(), path))


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def test_a_loop_without_an_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_model, "LIMIT_S", 0.5)
    model = generator()
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["x"], ["y"])],
        "body",
        [value("i", TensorProto.INT64), value("go", TensorProto.BOOL), value("x", TensorProto.FLOAT, None, 3, 8, 8)],
        [value("on", TensorProto.BOOL), value("y", TensorProto.FLOAT, None, 3, 8, 8)],
    )
    model.graph.initializer.append(helper.make_tensor("true", TensorProto.BOOL, [], [True]))
    model.graph.node[-1].input[0] = "looped"
    loop = helper.make_node("Loop", ["", "true", "grid"], ["looped"], body=body)
    model.graph.node.insert(len(model.graph.node) - 1, loop)
    began = time.monotonic()
    with pytest.raises(ImportingError, match=r"had not ended after 0\.5 s: it has a Loop that does not end"):
        import_from(saved(model, tmp_path / "theirs.onnx"))
    assert time.monotonic() - began < 20
    assert shelf.pulled("theirs") is None


@pytest.mark.parametrize("where", ["input", "output", "value_info", "function"])
def test_an_element_type_that_onnx_does_not_know_is_refused(where: str, tmp_path: Path) -> None:
    """A random search found the input of type 29."""
    known = TensorProto.DataType.values()
    for kind in (*range(256), -1, 256, 2**31 - 1):
        model = generator(functions=True, opset=17)
        if where == "function":
            inner = helper.make_graph([], "inner", [], [value("w", TensorProto.FLOAT, 4)])
            model.functions[0].node.append(helper.make_node("If", ["b"], ["c"], then_branch=inner, else_branch=inner))
            said = model.functions[0].node[-1].attribute[0].g.output[0]
        else:
            model.graph.value_info.append(value("flat", TensorProto.FLOAT, "b", 192))
            said = getattr(model.graph, where)[0]
        if kind % 2:
            said.type.tensor_type.elem_type = kind
        else:
            said.type.sequence_type.elem_type.tensor_type.elem_type = kind
        path = saved(model, tmp_path / "m.onnx")
        if kind not in known:
            with pytest.raises(UntrustedError, match=rf"elements of type {kind}, known are UNDEFINED, FLOAT, "):
                import_from(path)


WHOLE = generator().SerializeToString()


@settings(max_examples=examples(300))
@given(st.data())
def test_any_mutation_is_refused_or_sound(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = bytearray(WHOLE)
    small = [at for at in range(len(content)) if at < 64 or at > len(content) - 400]  # weights fill the rest
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.sampled_from(small))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from([len(content), len(content), 10, len(content) // 2, len(content) - 1]))
    path = tmp_path_factory.getbasetemp() / "mutated.onnx"
    path.write_bytes(bytes(content[:cut]))
    try:
        check_onnx(path)
    except UntrustedError:
        return
    try:
        import_from(path, name="mutated")
    except GenzooError:
        return
    assert registry.checkpoint("mutated").spec.image_shape
