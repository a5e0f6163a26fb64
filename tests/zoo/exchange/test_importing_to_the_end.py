"""Imported generators built for TensorRT-RTX without a GPU, and served by Triton: loops of a graph, clipped steps."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests import pipeline_table
from tests.examples import at_random
from tests.zoo.exchange.test_importing_onnx import home, saved, tensor, value
from zoo import registry
from zoo.contract.request import SampleRequest, Setting
from zoo.exchange.importing import import_from
from zoo.sampling.samplers import WHOLE_STEP

__all__ = ["home"]  # a fixture
NAME = pipeline_table.NAME
needs_rtx = pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed")
TURNS = 3
LOOPS = ("by a count", "by a count and a condition", "by a condition")


def looped(how: str) -> Any:
    """z (B, 16) -> tanh(z W), TURNS times in a Loop whose body takes W from around it -> (B, 3, 8, 8)."""
    inner = [helper.make_node("MatMul", ["h", "W"], ["m"]), helper.make_node("Tanh", ["m"], ["h_next"])]
    last = ("Less", ["turn", "last"]) if how == "by a condition" else ("Identity", ["go_on"])
    inner.append(helper.make_node(*last, ["going"]))
    body = helper.make_graph(
        inner,
        "body",
        [value("turn", TensorProto.INT64), value("go_on", TensorProto.BOOL), value("h", TensorProto.FLOAT, "b", 16)],
        [value("going", TensorProto.BOOL), value("h_next", TensorProto.FLOAT, "b", 16)],
    )
    count = "" if how == "by a condition" else "turns"
    nodes = [
        helper.make_node("Loop", [count, "" if how == "by a count" else "yes", "z"], ["h_last"], body=body),
        helper.make_node("MatMul", ["h_last", "V"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["grid"]),
        helper.make_node("Tanh", ["grid"], ["out"]),
    ]
    numbers = {"turns": TURNS, "last": TURNS - 1, "yes": True, "shape": [-1, 3, 8, 8]}
    weights = [tensor("W", 16, 16), tensor("V", 16, 192)]
    weights += [numpy_helper.from_array(np.array(each), name) for name, each in numbers.items()]
    output = value("out", TensorProto.FLOAT, "b", 3, 8, 8)
    graph = helper.make_graph(nodes, "g", [value("z", TensorProto.FLOAT, "b", 16)], [output], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def taken(source: Path, scratch: Path, last: str, request: SampleRequest) -> None:
    """Import and go through the stages up to `last`: each raises where images are not torch's."""
    import_from(source, name=NAME, licence="mit")
    state = {"scratch": scratch, "checkpoint": registry.checkpoint(NAME), "request": request}
    for stage in pipeline_table.STAGES[1:]:
        stage(state)
        if stage.__name__ == last:
            return


@needs_rtx
@pytest.mark.parametrize("how", LOOPS)
def test_a_loop_of_a_model_s_own_is_exported_and_built(how: str, tmp_path: Path) -> None:
    """Its body takes weights from around it; TensorRT knows no input that is left out."""
    taken(saved(looped(how), tmp_path / "theirs.onnx"), tmp_path, "builds", SampleRequest((1, 2)))


@needs_rtx
@pytest.mark.longer
@pytest.mark.skipif(not at_random, reason="it starts Triton: in `make fuzz`")
@pytest.mark.parametrize("how", LOOPS)
def test_a_loop_of_a_model_s_own_is_served(how: str, tmp_path: Path) -> None:
    taken(saved(looped(how), tmp_path / "theirs.onnx"), tmp_path, "serves", SampleRequest((1, 2)))


@needs_rtx
@pytest.mark.longer
@pytest.mark.skipif(not at_random, reason="it exports for a minute and starts Triton: in `make fuzz`")
def test_a_clipped_pipeline_is_built_and_served(tmp_path: Path) -> None:
    """`ddim_eps`, whose denoiser is told where a step ends."""
    pytest.importorskip("diffusers")
    from tests.zoo.exchange.test_importing import pipeline

    request = SampleRequest((1, 2), setting=Setting(4, WHOLE_STEP))
    taken(pipeline(tmp_path / "pipe"), tmp_path, "serves", request)
