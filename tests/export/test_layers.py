"""The layers of a graph: their names, what they see, and how much they multiply."""

from __future__ import annotations

import numpy as np
import pytest

from export.layers import Layer, layers
from export.onnx_graph import to_onnx
from export.plan import Calibrated
from export.variant import Precision
from zoo import registry
from zoo.family import Checkpoint


@pytest.fixture(scope="module")
def denoiser(toy_diffusion: Checkpoint) -> Calibrated:
    family, module = registry.family(toy_diffusion.spec.family), registry.load_module(toy_diffusion)
    [graph] = [graph for graph in family.graphs(module, toy_diffusion) if graph.name == "denoiser"]
    rng = np.random.default_rng(0)
    given = {
        "x": rng.normal(size=(3, 2, 4, 4)).astype(np.float32),
        "c_noise": np.linspace(-1.0, 1.0, 3).astype(np.float32),
        "class_ids": np.arange(3),
    }
    return Calibrated(to_onnx(graph), [given], Precision.MIXED)


def test_a_layer_goes_by_its_weight(denoiser: Calibrated) -> None:
    names = [layer.name for layer in denoiser.layers]
    assert len(set(names)) == len(names)
    assert {"denoiser/first", "denoiser/inner", "denoiser/last"} <= set(names)


def test_what_sees_only_the_level_is_told_apart_and_never_chosen(denoiser: Calibrated) -> None:
    of_level = [layer for layer in denoiser.layers if layer.of_level]
    assert [layer.kind for layer in of_level] == ["Gemm"]
    assert not set(of_level) & {*denoiser.int8, *denoiser.low}
    assert "denoiser/first" in [layer.name for layer in denoiser.low]
    assert [layer.name for layer in denoiser.int8] == ["denoiser/inner"]


def test_products_are_those_of_one_image(denoiser: Calibrated) -> None:
    assert denoiser.products["denoiser/first"] == 16 * 8 * 2 * 9
    assert denoiser.products["denoiser/inner"] == 16 * 8 * 8 * 9
    [mix] = [layer for layer in denoiser.layers if layer.kind == "MatMul"]
    assert denoiser.products[mix.name] == 8 * 16 * 16
    up = Layer("g", "g/up", "ConvTranspose", ("x", "w"), "y", False)
    given, made, weight = np.zeros((2, 4, 3, 3)), np.zeros((2, 5, 6, 6)), np.zeros((4, 5, 4, 4))
    assert up.products(given, made, weight, 2) == 4 * 9 * 5 * 16


def test_layers_of_one_weight_have_names_of_their_own(denoiser: Calibrated) -> None:
    proto = denoiser.graph.proto
    twice = type(proto)()
    twice.CopyFrom(proto)
    [inner] = [node for node in twice.node if node.output[0] == denoiser.int8[0].output]
    again = twice.node.add()
    again.CopyFrom(inner)
    again.output[:] = ["again"]
    from dataclasses import replace

    names = [layer.name for layer in layers(replace(denoiser.graph, proto=twice))]
    assert "denoiser/inner@again" in names
    assert len(set(names)) == len(names)
