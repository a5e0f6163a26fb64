"""The composed graphs against the reference walk in torch, and against each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from export import compose
from export.bundle import Bundle
from export.exporter import export
from export.limits import image_error
from export.onnx_graph import OnnxGraph, subgraphs, to_onnx
from export.runners import OnnxRuntimeRunner, TorchRunner, bundle_runner, of_row
from export.variant import LoopKind, Variant
from zoo.contract import names
from zoo.contract.feeds import Tensors, feeds
from zoo.contract.request import SampleRequest, Setting
from zoo.contract.spec import GeneratorSpec
from zoo.family import Checkpoint

SAMPLERS = ("ddim", "ddpm", "heun", "dpmpp_2m", "consistency")


@pytest.fixture(scope="module")
def loop(toy_bundles: Mapping[str, Path]) -> OnnxRuntimeRunner:
    return OnnxRuntimeRunner(Bundle.open(toy_bundles["toy-diffusion"]))


@pytest.fixture(scope="module")
def reference(toy_diffusion: Checkpoint) -> TorchRunner:
    return TorchRunner(toy_diffusion)


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_loop_is_the_walk(
    toy_diffusion: Checkpoint, loop: OnnxRuntimeRunner, reference: TorchRunner, sampler: str, guidance_scale: float
) -> None:
    request = SampleRequest((1, 2, 3), {"class_id": (2, 0, 1)}, Setting(5, sampler, guidance_scale))
    tensors = feeds(toy_diffusion.spec, request)
    error = image_error(reference.run(**tensors)["images"], loop.run(**tensors)["images"])
    assert error.lsb <= 1
    assert error.differing < 0.01


@pytest.mark.parametrize("loop_kind", LoopKind)
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_a_network_of_whole_steps_sees_where_each_ends(
    toy_steps: Checkpoint, loop_kind: LoopKind, guidance_scale: float
) -> None:
    request = SampleRequest((1, 2, 3), {"class_id": (2, 0, 1)}, Setting(3, guidance_scale=guidance_scale))
    tensors = feeds(toy_steps.spec, request)
    runner = bundle_runner(export(toy_steps, Variant(loop_kind)))
    expected = TorchRunner(toy_steps).run(**tensors)["images"]
    assert image_error(expected, runner.run(**tensors)["images"]).lsb <= 1
    assert toy_steps.spec.sampling is not None
    tensors["table"][:, :, toy_steps.spec.sampling.columns.index("c_next")] = 0.5
    assert image_error(expected, runner.run(**tensors)["images"]).lsb > 1


def test_no_condition_has_the_name_of_something_in_a_composed_graph(
    toy_diffusion: Checkpoint, toy_steps: Checkpoint
) -> None:
    """`names.LOOP` is what composed graphs have that is not a condition's own; a name in capitals is no condition's."""
    found = set()
    for checkpoint in (toy_diffusion, toy_steps):
        assert checkpoint.spec.sampling is not None
        edited = replace(checkpoint.spec.sampling, encodes_images=True)  # it begins with images
        spec = replace(checkpoint.spec, sampling=edited)
        step = compose.step(spec, to_onnx(TorchRunner(checkpoint).graphs["denoiser"]))
        own = set(names.of_a_loop(tensor.name for tensor in spec.network_inputs))
        for graph in (step, *_loops(spec, step, compose.decoder(spec, None))):
            for part in subgraphs(graph.proto):
                every = [value.name for value in (*part.input, *part.output, *part.initializer)]
                every += [name for node in part.node for name in node.output]
                found |= {name.removeprefix(f"{graph.proto.name}/") for name in every} - own
    found = {name for name in found if names.NAME.fullmatch(name)}
    assert not {name for name in found if not names.is_taken(name, names.LOOP)}
    assert names.LOOP - found == {"state_rest"}, "that one is where a size is chosen"


def _loops(spec: GeneratorSpec, step: OnnxGraph, decoder: OnnxGraph) -> tuple[OnnxGraph, OnnxGraph]:
    return compose.sampler(spec, step, decoder), compose.unrolled(spec, step, decoder, 2)


def mixed(checkpoint: Checkpoint) -> tuple[Tensors, list[Tensors]]:
    """One batch whose images use three tables of five rows, and each image alone."""
    names = ("ddim", "ddpm", "dpmpp_2m")
    requests = [SampleRequest((seed,), setting=Setting(5, name)) for seed, name in zip((7, 8, 9), names, strict=True)]
    alone = [feeds(checkpoint.spec, request) for request in requests]
    draws = max(tensors["noise"].shape[1] for tensors in alone)
    for tensors in alone:
        missing = draws - tensors["noise"].shape[1]
        tensors["noise"] = np.pad(tensors["noise"], ((0, 0), (0, missing), (0, 0), (0, 0), (0, 0)))
    return {name: np.concatenate([tensors[name] for tensors in alone]) for name in alone[0]}, alone


def test_every_image_of_a_batch_may_have_a_table_of_its_own(
    toy_diffusion: Checkpoint, loop: OnnxRuntimeRunner, reference: TorchRunner
) -> None:
    batch, alone = mixed(toy_diffusion)
    for runner in (loop, reference):
        together = runner.run(**batch)["images"]
        apart = np.concatenate([runner.run(**tensors)["images"] for tensors in alone])
        assert image_error(together, apart).lsb <= 1
    assert not np.array_equal(together[0], together[2])


def test_unrolled_and_host_loops_equal_the_onnx_loop(toy_diffusion: Checkpoint, loop: OnnxRuntimeRunner) -> None:
    tensors = feeds(toy_diffusion.spec, SampleRequest((4, 5), setting=Setting(3, "ddpm", 2.0)))
    expected = loop.run(**tensors)["images"]
    for variant in (Variant(LoopKind.UNROLLED, steps=3), Variant(LoopKind.HOST)):
        found = bundle_runner(export(toy_diffusion, variant)).run(**tensors)["images"]
        np.testing.assert_array_equal(found, expected)


def test_the_host_loop_can_hold_images_at_different_rows(toy_diffusion: Checkpoint, loop: OnnxRuntimeRunner) -> None:
    """What continuous batching does: a second image joins one row later, and both come out as if alone."""
    bundle = export(toy_diffusion, Variant(LoopKind.HOST))
    step = OnnxRuntimeRunner(bundle.graph_path("step"))
    decoder = OnnxRuntimeRunner(bundle.graph_path("decoder"))
    first, second = (feeds(toy_diffusion.spec, SampleRequest((seed,), setting=Setting(2))) for seed in (20, 21))

    def run(states: list[Tensors], rows: list[int]) -> list[Tensors]:
        images = [first, second][-len(states) :] if len(states) == 1 and rows == [1] else [first, second][: len(states)]
        conditions = ("class_ids", "guidance_weights")
        batch = of_row({name: np.concatenate([image[name] for image in images]) for name in conditions}, 0)
        batch["row"] = np.concatenate([image["table"][:, row] for image, row in zip(images, rows, strict=True)])
        batch["noise"] = np.concatenate([image["noise"][:, 0] for image in images])
        batch |= {name: np.concatenate([state[name] for state in states]) for name in ("x", "previous", "saved")}
        after = step.run(**batch)
        names = {"x": "x_next", "previous": "denoised", "saved": "saved_next"}
        return [{key: after[name][i : i + 1] for key, name in names.items()} for i in range(len(states))]

    def start(image: Tensors) -> Tensors:
        zeros = np.zeros_like(image["noise"][:, 0])
        return {"x": image["noise"][:, 0], "previous": zeros, "saved": zeros}

    (one,) = run([start(first)], [0])
    one, two = run([one, start(second)], [1, 0])
    (two,) = run([two], [1])
    for image, state in ((first, one), (second, two)):
        found = decoder.run(x=state["x"])["images"]
        assert image_error(loop.run(**image)["images"], found).lsb <= 1


def test_a_seed_is_an_image_at_any_batch_size(toy_diffusion: Checkpoint, loop: OnnxRuntimeRunner) -> None:
    seeds = tuple(range(40, 53))
    together = loop.run(**feeds(toy_diffusion.spec, SampleRequest(seeds)))["images"]
    for row, seed in enumerate(seeds):
        alone = loop.run(**feeds(toy_diffusion.spec, SampleRequest((seed,))))["images"]
        np.testing.assert_array_equal(alone[0], together[row])


def test_all_graphs_share_one_copy_of_the_weights(toy_bundles: Mapping[str, Path], toy_diffusion: Checkpoint) -> None:
    from zoo.shelf import load_tensors

    folder = toy_bundles["toy-diffusion"]
    stored = load_tensors("toy-diffusion")
    weights = sum(tensor.nbytes for tensor in stored.values())
    assert (folder / "model.safetensors").stat().st_size < weights + 4096
    loop = onnx.load(folder / "sampler.onnx", load_external_data=False)
    (node,) = (node for node in loop.graph.node if node.op_type == "Loop")
    body = next(attribute.g for attribute in node.attribute if attribute.name == "body")
    inside = {tensor.name: tensor for tensor in body.initializer}
    assert any(name.endswith("first.weight") for name in inside), "weights outside the body cannot be packed"
    assert {entry.value for t in inside.values() for entry in t.external_data if entry.key == "location"} == {
        "model.safetensors"
    }


def test_a_transposed_weight_is_found_in_the_file(tmp_path: Path) -> None:
    from export.onnx_graph import OnnxGraph, save
    from export.weights import Weights, write
    from zoo.contract.graph import TensorSpec

    text = '<ir_version: 10, opset_import: ["": 20]> g (float[batch,40] x) => (float[batch,30] y) { y = MatMul (x, w) }'
    proto = onnx.parser.parse_model(text).graph
    proto.initializer.add(name="w", data_type=onnx.TensorProto.FLOAT, dims=[40, 30])
    stored = np.arange(1200, dtype=np.float32).reshape(30, 40)
    graph = OnnxGraph(
        proto,
        {"w": stored.T},
        (TensorSpec("x", "float32", ("batch", 40)),),
        (TensorSpec("y", "float32", ("batch", 30)),),
    )
    placed = write({"g": graph}, Weights({"linear.weight": stored}), tmp_path / "model.safetensors")
    save(placed["g"], tmp_path / "g.onnx")
    x = np.ones((2, 40), np.float32)
    np.testing.assert_allclose(OnnxRuntimeRunner(tmp_path / "g.onnx").run(x=x)["y"], x @ stored.T, rtol=1e-6)
    assert (tmp_path / "model.safetensors").stat().st_size < stored.nbytes + 200


def test_exports_are_deterministic(toy_student: Checkpoint) -> None:
    import shutil

    first = export(toy_student)
    digests = (first.manifest["graphs"], first.manifest["weights"])
    shutil.rmtree(first.path)
    second = export(toy_student)
    assert (second.manifest["graphs"], second.manifest["weights"]) == digests


def test_a_sampler_has_exactly_the_inputs_and_outputs_of_its_spec(toy_bundles: Mapping[str, Path]) -> None:
    for folder in toy_bundles.values():
        bundle = Bundle.open(folder)
        assert bundle.inputs(bundle.entry) == bundle.spec.inputs
        assert bundle.outputs(bundle.entry) == bundle.spec.outputs
