"""Each rewrite of a traced graph fires where it should and changes no number beyond rounding."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from export.onnx_graph import OnnxGraph, save, to_onnx
from export.runners import OnnxRuntimeRunner
from export.weights import Weights, write
from zoo.contract.graph import BATCH, Graph, TensorSpec


class Network(nn.Module):
    """Normalization without and with scale and shift, an enlargement before a convolution, a squeeze of nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.GroupNorm(2, 4, affine=False)
        self.affine = nn.GroupNorm(2, 4)
        self.up = nn.Upsample(scale_factor=2.0, mode="nearest")
        self.conv = nn.Conv2d(4, 3, 3, padding=1)
        nn.init.normal_(self.affine.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.up(self.affine(self.plain(x.squeeze(1))))) + 1.0


@pytest.fixture(scope="module")
def exported() -> tuple[Network, OnnxGraph]:
    torch.manual_seed(0)
    network = Network().eval().requires_grad_(False)
    x, y = TensorSpec("x", "float32", (BATCH, 4, 5, 6)), TensorSpec("y", "float32", (BATCH, 3, 10, 12))
    return network, to_onnx(Graph("network", network, (x,), (y,)))


def test_no_shape_is_computed_and_nothing_is_multiplied_by_one(exported: tuple[Network, OnnxGraph]) -> None:
    kinds = Counter(node.op_type for node in exported[1].proto.node)
    assert kinds["Shape"] == 0
    assert kinds["Mul"] == 1, "the scale of ones is gone, the trained one is there"
    assert kinds["Add"] == 1, "both shifts of zeros are gone, the sum with 1 is there"
    shapes = [
        exported[1].tensors[node.input[1]].tolist() for node in exported[1].proto.node if node.op_type == "Reshape"
    ]
    assert all(shape[0] == 0 for shape in shapes), "the batch is the operand's own"


def test_an_enlarged_convolution_becomes_four_small_ones(exported: tuple[Network, OnnxGraph]) -> None:
    kinds = Counter(node.op_type for node in exported[1].proto.node)
    assert (kinds["Resize"], kinds["Conv"], kinds["DepthToSpace"]) == (0, 4, 1)
    kernels = [t for t in exported[1].proto.initializer if tuple(t.dims) == (3, 4, 2, 2)]
    assert len(kernels) == 4


def test_the_numbers_are_the_same(exported: tuple[Network, OnnxGraph], tmp_path: Path) -> None:
    network, graph = exported
    placed = write({"network": graph}, Weights({}), tmp_path / "model.safetensors")
    save(placed["network"], tmp_path / "network.onnx")
    onnx.checker.check_model(str(tmp_path / "network.onnx"))
    x = torch.randn(3, 4, 5, 6)
    found = OnnxRuntimeRunner(tmp_path / "network.onnx").run(x=x.numpy())["y"]
    np.testing.assert_allclose(found, network(x).numpy(), rtol=1e-5, atol=1e-5)


def test_large_weights_are_not_copied_while_a_graph_is_rewritten() -> None:
    """Nor are they in it: a model of more than 2 GiB could not be."""
    network = nn.Linear(300, 300).requires_grad_(False)
    x, y = TensorSpec("x", "float32", (BATCH, 300)), TensorSpec("y", "float32", (BATCH, 300))
    graph = to_onnx(Graph("network", network, (x,), (y,)))
    (found,) = [tensor for tensor in graph.tensors.values() if tensor.size == 300 * 300]
    assert np.shares_memory(found, network.weight.numpy())
    assert graph.proto.ByteSize() < found.nbytes


class Twice(Network):
    """The same convolution again of a half of what it made."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        once = self.conv(self.up(x))
        return once + self.conv(self.up(torch.cat([once, once[:, :1]], dim=1)[:, :, ::2, ::2]))


def test_a_network_that_is_called_twice_has_its_kernels_once(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Twice().eval().requires_grad_(False)
    x, y = TensorSpec("x", "float32", (BATCH, 4, 6, 6)), TensorSpec("y", "float32", (BATCH, 3, 12, 12))
    graph = to_onnx(Graph("network", network, (x,), (y,)))
    assert [node.op_type for node in graph.proto.node].count("DepthToSpace") == 2
    placed = write({"network": graph}, Weights({}), tmp_path / "model.safetensors")
    save(placed["network"], tmp_path / "network.onnx")
    onnx.checker.check_model(str(tmp_path / "network.onnx"))
    given = torch.randn(2, 4, 6, 6)
    found = OnnxRuntimeRunner(tmp_path / "network.onnx").run(x=given.numpy())["y"]
    np.testing.assert_allclose(found, network(given).numpy(), rtol=1e-5, atol=1e-5)
