"""Sound bundles are admitted; each kind of damage is refused with the component that it hit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file, save_file

from export.bundle import Bundle
from export.drift import drift
from export.exporter import export
from export.gate import GateError, gate, require
from export.onnx_graph import subgraphs
from export.runners import TorchRunner
from export.variant import LoopKind, Precision, Variant
from zoo import files
from zoo.family import Checkpoint


@pytest.mark.parametrize("name", ["toy-linear", "toy-diffusion", "toy-student"])
def test_a_sound_bundle_is_admitted(toy_bundles: Mapping[str, Path], name: str) -> None:
    bundle = Bundle.open(toy_bundles[name])
    verdict = gate(bundle)
    assert verdict.admitted, verdict.message
    assert bundle.admitted
    assert all(request["lsb"] <= 1 for request in verdict.numbers["requests"])
    assert require(bundle) is bundle


@pytest.mark.parametrize(
    "variant",
    [
        Variant(LoopKind.UNROLLED, steps=2),
        Variant(LoopKind.HOST),
        *(Variant(precision=p) for p in (Precision.FP16, Precision.BF16)),
    ],
)
def test_every_variant_is_admitted(toy_diffusion: Checkpoint, variant: Variant) -> None:
    verdict = gate(export(toy_diffusion, variant))
    assert verdict.admitted, verdict.message


def test_int8_is_admitted_within_its_limits(toy_student: Checkpoint) -> None:
    bundle = export(toy_student, Variant(precision=Precision.INT8))
    assert "onnxruntime" in bundle.manifest["versions"], "it decides which layers int8 suits"
    verdict = gate(bundle)
    assert verdict.admitted, verdict.message
    assert 35.0 <= verdict.numbers["requests"][0]["psnr_db"] < 100.0, "it cannot be the same to the bit"


def test_a_checkpoint_of_nan_is_refused_in_words(
    toy_bundles: Mapping[str, Path], toy_one_shot: Checkpoint, tmp_path: Path
) -> None:
    """The uint8 images of NaN are black; where they are made of floats, torch says so."""
    shutil.copytree(toy_bundles["toy-linear"], tmp_path / "bundle")
    reference = TorchRunner(toy_one_shot)
    for parameter in reference.module.parameters():
        parameter.data.fill_(float("nan"))
    verdict = gate(Bundle.open(tmp_path / "bundle"), reference)
    assert not verdict.admitted
    assert "was refused: the checkpoint's own pixels are NaN or infinite" in verdict.message


Damage = Callable[[onnx.GraphProto], None]


def damaged(source: Path, folder: Path, graphs: tuple[str, ...], damage: Damage) -> Bundle:
    """A copy whose graphs were altered and whose manifest agrees with them."""
    shutil.copytree(source, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in graphs:
        path = folder / f"{name}.onnx"
        model = onnx.load(path, load_external_data=False)
        for graph in subgraphs(model.graph):
            damage(graph)
        path.write_bytes(model.SerializeToString())
        manifest["graphs"][name]["sha256"] = files.sha256(path)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return Bundle.open(folder)


def drop_bias(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        if node.op_type == "Conv" and len(node.input) == 3:
            del node.input[2]


def shuffle_channel(graph: onnx.GraphProto) -> None:
    """Read the first convolution's weights one output channel further on."""
    for tensor in graph.initializer:
        if tensor.name.endswith("first.weight"):
            for entry in tensor.external_data:
                if entry.key == "offset":
                    entry.value = str(int(entry.value) + 4 * int(np.prod(tensor.dims[1:])))


def swap_columns(graph: onnx.GraphProto) -> None:
    """Use the noise's coefficient for the estimate: the schedule's constants are wrong."""
    for node in graph.node:
        if node.op_type == "Split" and len(node.output) == 13:
            node.output[5], node.output[8] = node.output[8], node.output[5]


def alter_pixels(graph: onnx.GraphProto) -> None:
    for tensor in graph.initializer:
        if tensor.name == "decoder/half":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.float32(120.0), tensor.name))


def wrong_draw(graph: onnx.GraphProto) -> None:
    """Draw the row's own noise instead of the following one's; only the loop around the steps is wrong."""
    for tensor in graph.initializer:
        if tensor.name == "sampler/next":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.int64(0), tensor.name))


@pytest.mark.parametrize(
    ("files", "damage", "component"),
    [
        (("denoiser", "step", "sampler"), drop_bias, "denoiser is wrong at row 0"),
        (("denoiser", "step", "sampler"), shuffle_channel, "denoiser is wrong at row 0"),
        (("step", "sampler"), swap_columns, "step is wrong at row 0"),
        (("decoder", "sampler"), alter_pixels, "decoder is wrong"),
        (("sampler",), wrong_draw, "sampler is wrong.*sampled by ddpm"),
    ],
)
def test_damage_is_refused_with_the_component_that_it_hit(
    toy_bundles: Mapping[str, Path], tmp_path: Path, files: tuple[str, ...], damage: Damage, component: str
) -> None:
    bundle = damaged(toy_bundles["toy-diffusion"], tmp_path / "damaged", files, damage)
    with pytest.raises(GateError, match=f"toy-diffusion fp32 was refused: {component}"):
        require(bundle)
    assert not bundle.admitted


def test_a_dropped_bias_of_a_one_shot_generator(toy_bundles: Mapping[str, Path], tmp_path: Path) -> None:
    bundle = damaged(toy_bundles["toy-linear"], tmp_path / "damaged", ("generator",), drop_bias)
    assert "refused: generator is wrong" in gate(bundle).message


def test_an_overflow_of_float16_is_refused(toy_diffusion: Checkpoint, tmp_path: Path) -> None:
    """Weights beyond 65504 are infinite in float16, harmless in float32."""
    source = export(toy_diffusion, Variant(precision=Precision.FP16)).path
    shutil.copytree(source, tmp_path / "overflow")
    weights = load_file(tmp_path / "overflow/model.safetensors")
    name = next(key for key in weights if "first.weight" in key)
    with np.errstate(over="ignore"):
        weights[name] = weights[name] * np.float16(1e5)
    save_file(weights, tmp_path / "overflow/model.safetensors", metadata={"format": "pt"})
    manifest = json.loads((tmp_path / "overflow/manifest.json").read_text())
    manifest["weights"]["sha256"] = files.sha256(tmp_path / "overflow/model.safetensors")
    (tmp_path / "overflow/manifest.json").write_text(json.dumps(manifest))
    message = gate(Bundle.open(tmp_path / "overflow")).message
    assert "refused: denoiser is wrong at row 0" in message
    assert "of F is not finite" in message


def test_drift_is_a_window_with_two_sides() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(40, 200, (64, 8, 8, 1)).astype(np.uint8)
    assert drift(images, images).within(1e-9)
    brighter, darker = images + 3, images - 3
    assert drift(images, brighter.astype(np.uint8)).low > 0.01
    assert drift(images, darker.astype(np.uint8)).high < -0.01
    flatter = (120 + (images.astype(float) - 120) * 0.9).astype(np.uint8)
    assert not drift(images, flatter).within(0.05)
