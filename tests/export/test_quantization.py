"""int8 convolutions: which are chosen, that ONNX Runtime and TensorRT take them, and how far they are off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from export.limits import tensor_error
from export.onnx_graph import OnnxGraph, save, to_onnx
from export.plan import Calibrated, PrecisionPlan
from export.quantization import quantize, smooth
from export.runners import OnnxRuntimeRunner
from export.variant import Precision
from export.weights import Weights, write
from zoo.contract.feeds import Tensors
from zoo.contract.graph import BATCH, Graph, TensorSpec

CPU = Path("/proc/cpuinfo")
quantizes = pytest.mark.skipif(
    CPU.is_file() and "avx2" in CPU.read_text() and "vnni" not in CPU.read_text(),
    reason="this processor (AVX2 without VNNI) sums pairs of 8-bit products in 16 bits, which overflow: it stays float",
)


class Network(nn.Module):
    """Four convolutions: the first, one behind an activation, one that reads the residual stream, and the last."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.stream, self.last = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x)
        return self.last(torch.relu(self.stream(h + self.inner(torch.relu(h)))))


@pytest.fixture(scope="module")
def case() -> tuple[OnnxGraph, list[Tensors]]:
    torch.manual_seed(0)
    specs = [TensorSpec(name, "float32", (BATCH, 1, 8, 8)) for name in ("x", "y")]
    graph = to_onnx(Graph("network", Network().requires_grad_(False), (specs[0],), (specs[1],)))
    return graph, [{"x": np.random.default_rng(seed).normal(size=(8, 1, 8, 8)).astype(np.float32)} for seed in (1, 2)]


def run(graph: OnnxGraph, folder: Path, tensors: Tensors) -> np.ndarray:
    folder.mkdir()
    save(write({"network": graph}, Weights({}), folder / "model.safetensors")["network"], folder / "network.onnx")
    return OnnxRuntimeRunner(folder / "network.onnx").run(**tensors)["y"]


@quantizes
def test_only_what_reads_an_activation_is_quantized(case: tuple[OnnxGraph, list[Tensors]]) -> None:
    codes = [name for name, array in quantize(*case).tensors.items() if array.dtype == np.int8 and array.ndim == 4]
    assert codes == ["network/inner.weight/int8.codes"]


@quantizes
def test_the_result_is_near_and_not_the_same(case: tuple[OnnxGraph, list[Tensors]], tmp_path: Path) -> None:
    graph, inputs = case
    error = tensor_error(run(graph, tmp_path / "float", inputs[0]), run(quantize(*case), tmp_path / "int8", inputs[0]))
    assert 1e-5 < error < 0.02


def test_a_sensitive_convolution_stays_float(
    case: tuple[OnnxGraph, list[Tensors]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.quantization.TOLERANCE", 1e-9)
    assert not any(array.dtype == np.int8 for array in quantize(*case).tensors.values())


def test_smoothing_keeps_the_function_and_helps_where_one_channel_is_large(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Network().requires_grad_(False)
    network.first.weight[3] *= 60.0  # one channel of what the inner convolution reads
    network.inner.weight[:, 3] /= 60.0
    specs = [TensorSpec(name, "float32", (BATCH, 1, 8, 8)) for name in ("x", "y")]
    graph = to_onnx(Graph("network", network, (specs[0],), (specs[1],)))
    inputs = [{"x": np.random.default_rng(1).normal(size=(8, 1, 8, 8)).astype(np.float32)}]
    seen = Calibrated(graph, inputs, Precision.INT8)
    inner = next(layer for layer in seen.int8 if layer.name == "network/inner")
    exact = run(graph, tmp_path / "float", inputs[0])
    divided = smooth(graph, {inner.output: seen.factors[inner.output]})
    assert tensor_error(exact, run(divided, tmp_path / "divided", inputs[0])) < 1e-6
    names = frozenset([inner.name])
    plain, even = (
        tensor_error(exact, run(seen.apply(PrecisionPlan(Precision.INT8, names, chosen)), tmp_path / label, inputs[0]))
        for label, chosen in (("plain", frozenset[str]()), ("even", names))
    )
    assert even < 0.5 * plain
