"""How many images an execution of a bundle holds: what its largest tensors need, in an engine's workspace."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export import capacity, engine_build
from export.bundle import Bundle
from export.engine import EngineError, Target
from export.onnx_graph import OnnxGraph, to_onnx
from export.runners import bundle_generator
from zoo.contract.feeds import Tensors
from zoo.contract.graph import BATCH, MAX_BATCH, Graph, TensorSpec
from zoo.contract.request import SampleRequest
from zoo.contract.spec import Axis
from zoo.family import Checkpoint


class Attention(nn.Module):
    """Every pixel of (B, 2, H, W) looks at every other."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor, *_: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)[:, None] * self.scale  # (B, 1, H W, 2)
        found = nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)
        return found[:, 0].transpose(1, 2).reshape(x.shape)


PIXELS = TensorSpec("x", "float32", (BATCH, 2, "height", "width"))


@pytest.fixture(scope="module")
def network() -> OnnxGraph:
    return to_onnx(Graph("denoiser", Attention(), (PIXELS,), (PIXELS,)))


@pytest.mark.parametrize(("largest", "expected"), [(16, MAX_BATCH), (48, 8), (56, 4), (128, MAX_BATCH), (1024, 16)])
def test_the_largest_size_and_guidance_set_how_many_images_fit(
    largest: int, expected: int, toy_diffusion: Checkpoint, network: OnnxGraph
) -> None:
    """Of 5 terms, two tensors of scores of largest ** 4 floats each, in 2 GiB, or where they are more than 256 MiB,
    blocks of them, whatever the batch."""
    sides = tuple(Axis(name, 4, 4, largest, 4) for name in ("height", "width"))
    spec = replace(toy_diffusion.spec, axes=sides, image_shape=("height", "width", 1))
    found = capacity.fitted(spec, {"denoiser": network})
    assert (found.max_batch, found.workspace_bytes) == (expected, 2 << 30)
    whole = 5 * largest**4 * 4
    assert (found.graphs["denoiser"] is network) == (whole <= 256 << 20)
    if whole <= 256 << 20 and expected < MAX_BATCH:
        assert expected * 2 * whole <= 2 << 30 < 2 * expected * 2 * whole


def test_a_workspace_grows_where_it_holds_no_image(toy_diffusion: Checkpoint, network: OnnxGraph) -> None:
    """Of 5 terms and two channels of 8,192 ** 2 floats 2.5 GiB, a block of scores 0.25 GiB: five times both."""
    sides = tuple(Axis(name, 4, 4, 8192, 4) for name in ("height", "width"))
    spec = replace(toy_diffusion.spec, axes=sides, image_shape=("height", "width", 1))
    found = capacity.fitted(spec, {"denoiser": network})
    assert found.max_batch == 1
    assert found.workspace_bytes == 14 << 30


def test_small_generators_hold_as_many_as_ever(toy_bundles: Mapping[str, Path]) -> None:
    found = [Bundle.open(path) for path in toy_bundles.values()]
    assert {bundle.max_batch for bundle in found} == {MAX_BATCH}
    assert all("workspace_bytes" not in bundle.manifest for bundle in found)


def test_no_execution_of_a_bundle_is_larger(toy_bundles: Mapping[str, Path]) -> None:
    bundle = Bundle.open(toy_bundles["toy-diffusion"])
    small = Bundle(bundle.path, bundle.manifest | {"max_batch": 2})
    request = SampleRequest(tuple(range(5)))
    generator = bundle_generator(small)
    sizes, run = [], generator.runner.run

    class Counted:
        def run(self, **tensors: np.ndarray) -> Tensors:
            sizes.append(len(tensors["table"]))
            return run(**tensors)

    generator.runner = Counted()
    found = generator.with_spec(generator.spec).sample(request)
    assert sizes == [2, 2, 1]
    generator.between(replace(request, seeds=(0, 1)), 3)
    assert max(sizes) == 2
    assert np.array_equal(found, bundle_generator(bundle).sample(request))


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed")
def test_a_request_that_no_workspace_holds_is_told_as_that(toy_bundles: Mapping[str, Path]) -> None:
    bundle = Bundle.open(toy_bundles["toy-diffusion"])
    small = Bundle(bundle.path, bundle.manifest | {"workspace_bytes": 1 << 10})
    with pytest.raises(EngineError, match=r"the largest request \(batch 64, terms 5\) needs more than the engine's"):
        engine_build.build(small, bundle.entry, Target.SM120)
