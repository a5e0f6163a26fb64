"""A network that repeats itself: one Loop with its weights inside, in every precision, and no dead ends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch._higher_order_ops.while_loop import while_loop

from export.limits import tensor_error
from export.onnx_graph import OnnxGraph, save, subgraphs, to_onnx
from export.precision import OPSETS, emulate, lower
from export.quantization import quantize
from export.runners import OnnxRuntimeRunner
from export.variant import Precision
from export.weights import Weights, write
from zoo.contract.graph import BATCH, Graph, TensorSpec

TIMES = 5


class Network(nn.Module):
    """Convolutions before and after a loop that reads a weight of its own, an outer value, and a row for each turn."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.up, self.last = nn.Upsample(scale_factor=2.0, mode="nearest"), nn.Conv2d(8, 1, 3, padding=1)
        self.recurrent = nn.Linear(16, 16)
        self.rows = nn.Parameter(torch.randn(TIMES, 16))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.inner(torch.relu(self.first(x))))
        offset = h.mean(1).flatten(1) + 0.0 * x.flatten(1)

        def turn(index: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            return index + 1, torch.tanh(self.recurrent(state) + offset + self.rows.index_select(0, index))

        carried = (torch.zeros(1, dtype=torch.int64), torch.zeros_like(offset))
        if torch.compiler.is_exporting():
            carried = while_loop(lambda index, state: (index < TIMES).reshape(()), turn, carried)  # type: ignore[no-untyped-call]
        else:
            for _ in range(TIMES):
                carried = turn(*carried)
        return self.last(self.up(h * carried[1].reshape(-1, 1, 4, 4)))


@pytest.fixture(scope="module")
def case() -> tuple[Network, OnnxGraph]:
    torch.manual_seed(0)
    network = Network().eval().requires_grad_(False)
    x, y = TensorSpec("x", "float32", (BATCH, 1, 4, 4)), TensorSpec("y", "float32", (BATCH, 1, 8, 8))
    return network, to_onnx(Graph("network", network, (x,), (y,)))


def run(graph: OnnxGraph, folder: Path, x: np.ndarray, precision: Precision = Precision.FP32) -> np.ndarray:
    path = folder / "network.onnx"
    save(write({"network": graph}, Weights({}), folder / "model.safetensors")["network"], path, OPSETS[precision])
    model = None
    if precision in (Precision.FP16, Precision.BF16):
        model = emulate(onnx.load(path, load_external_data=False)).SerializeToString()
    return OnnxRuntimeRunner(path, threads=1, model=model).run(x=x)["y"]


def test_the_weights_of_a_loop_are_its_body_s(case: tuple[Network, OnnxGraph]) -> None:
    outer, *bodies = subgraphs(case[1].proto)
    (body,) = bodies
    assert [node.op_type for node in outer.node].count("Loop") == 1
    held = {tensor.name for tensor in body.initializer}
    assert {"network/recurrent.weight", "network/rows"} <= held
    assert not held & {tensor.name for tensor in outer.initializer}
    assert set(case[1].tensors) == held | {tensor.name for tensor in outer.initializer}


def test_rewrites_work_around_a_loop_and_leave_nothing_behind(case: tuple[Network, OnnxGraph]) -> None:
    proto = case[1].proto
    kinds = [node.op_type for node in proto.node]
    assert ("Resize" in kinds, kinds.count("DepthToSpace")) == (False, 1)
    used = {name for graph in subgraphs(proto) for node in graph.node for name in node.input}
    assert {tensor.name for graph in subgraphs(proto) for tensor in graph.initializer} <= used


@pytest.mark.parametrize(
    ("precision", "limit"), [(Precision.FP32, 1e-5), (Precision.FP16, 1e-2), (Precision.BF16, 5e-2)]
)
def test_it_computes_the_same(
    case: tuple[Network, OnnxGraph], precision: Precision, limit: float, tmp_path: Path
) -> None:
    network, graph = case
    x = torch.randn(3, 1, 4, 4)
    found = run(lower(graph, precision), tmp_path, x.numpy(), precision)
    error = tensor_error(network(x).numpy(), found)
    assert error < limit
    assert precision is Precision.FP32 or error > 1e-5


def test_int8_convolutions_live_beside_a_loop(case: tuple[Network, OnnxGraph], tmp_path: Path) -> None:
    network, graph = case
    x = torch.randn(8, 1, 4, 4)
    quantized = quantize(graph, [{"x": x.numpy()}])
    assert any(node.op_type == "QuantizeLinear" for node in quantized.proto.node)
    assert 1e-5 < tensor_error(network(x).numpy(), run(quantized, tmp_path, x.numpy())) < 0.05
