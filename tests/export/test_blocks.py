"""Attention by blocks of rows gives what attention gives, and no shape of a graph is unknown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from export.blocks import in_blocks, large
from export.onnx_graph import OnnxGraph, save, to_onnx
from export.precision import OPSETS, emulate, lower
from export.runners import OnnxRuntimeRunner
from export.shapes import values
from export.variant import Precision
from export.weights import Weights, write
from zoo.contract.graph import BATCH, Graph, TensorSpec

LATENTS = TensorSpec("x", "float32", (BATCH, 8, "height", "width"))
LARGEST = {BATCH: 5, "height": 16, "width": 8}
BUDGET = 8 << 10  # 8 rows of 2 heads with 128 keys


class Attention(nn.Module):
    """Two heads look at every position of (B, 8, H, W), and are added to it."""

    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.Linear(8, 24)

    def forward(self, x: Tensor, *_: Tensor) -> Tensor:
        heads = self.projection(x.flatten(2).transpose(1, 2)).unflatten(2, (3, 2, 4))  # (B, T, 3, 2, 4)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # (B, 2, T, 4) each
        seen = nn.functional.scaled_dot_product_attention(3.0 * query, key, value)
        return x + seen.transpose(1, 2).flatten(2).transpose(1, 2).reshape(x.shape)


@pytest.fixture(scope="module")
def traced() -> OnnxGraph:
    torch.manual_seed(0)
    return to_onnx(Graph("network", Attention().requires_grad_(False), (LATENTS,), (replace(LATENTS, name="y"),)))


def cut(graph: OnnxGraph, opset: int) -> OnnxGraph:
    (attention,) = large(graph, values(graph, LARGEST, opset), BUDGET)
    assert (attention.heads, attention.rows, attention.block_bytes) == (2, 8, BUDGET)
    return in_blocks(graph, [attention])


def saved(graph: OnnxGraph, folder: Path, opset: int) -> Path:
    folder.mkdir(exist_ok=True)
    placed = write({"network": graph}, Weights({}), folder / "model.safetensors")
    save(placed["network"], folder / "network.onnx", opset)
    return folder / "network.onnx"


def test_every_shape_is_known_at_any_size(traced: OnnxGraph) -> None:
    """The length of attention is a product of two sides."""
    found = values(traced, LARGEST, OPSETS[Precision.FP32])
    assert all(name in found for node in traced.proto.node for name in node.output)
    (softmax,) = [node.output[0] for node in traced.proto.node if node.op_type == "Softmax"]
    assert found[softmax].shape == (5, 2, 128, 128)
    assert found[softmax].bytes == 5 * 2 * 128 * 128 * 4


def test_what_fits_stays_as_it_is(traced: OnnxGraph) -> None:
    assert not large(traced, values(traced, LARGEST, OPSETS[Precision.FP32]), 5 * 2 * 128 * 128 * 4)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16, Precision.BF16])
@pytest.mark.parametrize("sides", [(16, 8), (5, 7), (1, 3)])
def test_blocks_give_what_the_whole_gives(
    traced: OnnxGraph, tmp_path: Path, precision: Precision, sides: tuple[int, int]
) -> None:
    """Also where the last block is not full, and of numbers of 16 bits, as the gate runs them."""
    graph, opset = lower(traced, precision), OPSETS[precision]
    paths = [saved(each, tmp_path / word, opset) for word, each in (("whole", graph), ("cut", cut(graph, opset)))]
    if precision is not Precision.FP32:
        for path in paths:
            onnx.save(emulate(onnx.load(path)), path)
    x = np.random.default_rng(0).standard_normal((3, 8, *sides)).astype(np.float32)
    whole, by_blocks = (OnnxRuntimeRunner(path).run(x=x)["y"] for path in paths)
    assert np.abs(whole - x).max() > 0.1
    tolerance = {Precision.FP32: 1e-6, Precision.FP16: 2e-3, Precision.BF16: 2e-2}[precision]
    np.testing.assert_allclose(by_blocks, whole, rtol=0, atol=tolerance)
