"""Two small real generators as bundles, and one real server for the whole session."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from safetensors.numpy import save_file

from export.bundle import Bundle
from serving import model_repository
from serving.server import TritonServer
from zoo import files
from zoo.contract.graph import TensorSpec
from zoo.contract.layout import BUNDLE_FORMAT, BUNDLE_MANIFEST, VERDICT, WEIGHTS
from zoo.contract.spec import GeneratorSpec, Sampling
from zoo.family import class_conditional

SIDE = 8
ONE_SHOT = class_conditional("toy-gan", "toy", (1, SIDE, SIDE), (SIDE, SIDE, 1), num_classes=10)
ITERATIVE = class_conditional(
    "toy-ddpm", "toy", (1, SIDE, SIDE), (SIDE, SIDE, 1), 10, Sampling(num_steps=4, max_guidance_scale=8.0)
)


def _graph(spec: GeneratorSpec) -> onnx.ModelProto:
    """images = 16 sum(noise) + scale * (classes weighted by guidance) + 2 sum(|table|), as pixels.

    Columns that rows have which change nothing do not count.
    """
    columns = spec.sampling.columns if spec.sampling else ()
    nodes = [
        helper.make_node("ReduceSum", ["noise", "axis1"], ["summed"], keepdims=0),  # (B, 1, H, W)
        helper.make_node("Mul", ["summed", "gain"], ["x"]),
        helper.make_node("Cast", ["class_ids"], ["classes"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["classes", "of_a_row" if spec.sampling else "one"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "axis1"], ["class"], keepdims=1),
        helper.make_node("Mul", ["class", "scale"], ["offset"]),
    ]
    if spec.sampling:
        nodes.insert(0, helper.make_node("ReduceMax", ["guidance_weights", "axis1"], ["of_a_row"], keepdims=0))
        nodes += [
            helper.make_node("Mul", ["table", "effect"], ["effects"]),
            helper.make_node("Abs", ["effects"], ["absolute"]),
            helper.make_node("ReduceSum", ["absolute", "axes12"], ["rows"], keepdims=0),
            helper.make_node("Reshape", ["rows", "column"], ["rows1"]),
            helper.make_node("Add", ["offset", "rows1"], ["shift"]),
        ]
    nodes += [
        helper.make_node("Reshape", ["shift" if spec.sampling else "offset", "image"], ["shift4"]),
        helper.make_node("Add", ["x", "shift4"], ["moved"]),
        helper.make_node("Clip", ["moved", "zero", "white"], ["pixels"]),
        helper.make_node("Transpose", ["pixels"], ["nhwc"], perm=[0, 2, 3, 1]),
        helper.make_node("Cast", ["nhwc"], ["images"], to=TensorProto.UINT8),
    ]
    constants = {
        "axis1": np.array([1]),
        "axes12": np.array([1, 2]),
        "effect": np.array([2.0 * (name not in ("a", "c_noise")) for name in columns], np.float32),
        "column": np.array([-1, 1]),
        "image": np.array([-1, 1, 1, 1]),
        "gain": np.float32(16),
        "one": np.float32(1),
        "zero": np.float32(0),
        "white": np.float32(255),
    }
    used = {name for node in nodes for name in node.input}
    initializers = [onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items() if k in used]
    graph = helper.make_graph(
        nodes, "toy", [_value(s) for s in spec.inputs], [_value(s) for s in spec.outputs], [*initializers, _external()]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _value(spec: TensorSpec) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(spec.name, helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype)), spec.shape)


def _external() -> onnx.TensorProto:
    """`scale`, which lies in the safetensors file: its data begin where the header ends."""
    tensor = TensorProto(name="scale", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", WEIGHTS), ("offset", "@"), ("length", "4")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def make_bundle(folder: Path, spec: GeneratorSpec, *, admitted: bool | None = True, scale: float = 4.0) -> Bundle:
    """A bundle as export writes it; `admitted` None leaves the gate's verdict out."""
    folder.mkdir(parents=True)
    save_file({"scale": np.array([scale], np.float32)}, folder / WEIGHTS)
    header = int.from_bytes((folder / WEIGHTS).read_bytes()[:8], "little")
    model = _graph(spec)
    model.graph.initializer[-1].external_data[1].value = str(8 + header)
    entry = "sampler" if spec.sampling else "generator"
    (folder / f"{entry}.onnx").write_bytes(model.SerializeToString())
    tensors = {
        side: [{"name": s.name, "dtype": s.dtype, "shape": s.shape} for s in getattr(spec, side)]
        for side in ("inputs", "outputs")
    }
    file = {"file": f"{entry}.onnx", "sha256": files.sha256(folder / f"{entry}.onnx")}
    manifest = {
        "format": BUNDLE_FORMAT,
        "spec": spec.to_json(),
        "entry": entry,
        "checkpoint": {"name": spec.name, "sha256": hashlib.sha256(spec.name.encode()).hexdigest()},
        "graphs": {entry: file | tensors},
        "weights": {"file": WEIGHTS, "sha256": files.sha256(folder / WEIGHTS)},
    }
    (folder / BUNDLE_MANIFEST).write_text(json.dumps(manifest))
    if admitted is not None:
        message = f"{spec.name} fp32 was " + ("admitted" if admitted else "refused: generator is wrong")
        verdict = {"admitted": admitted, "message": message, "bundle": files.sha256(folder / BUNDLE_MANIFEST)}
        (folder / VERDICT).write_text(json.dumps(verdict))
    return Bundle.open(folder)


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    folder = tmp_path_factory.mktemp("bundles")
    return {spec.name: make_bundle(folder / spec.name, spec) for spec in (ONE_SHOT, ITERATIVE)}


@pytest.fixture(scope="session")
def server(bundles: dict[str, Bundle], tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    folder = tmp_path_factory.mktemp("server")
    repository = model_repository.write(bundles.values(), folder / "models")
    with TritonServer(repository, folder / "tritonserver.log", canary_seconds=0.5) as running:
        yield running
