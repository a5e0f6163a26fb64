"""Configurations as text, read back by the real parser of Triton's own message."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig, ModelInstanceGroup
from tritonclient.utils import np_to_triton_dtype

from export.profiles import axes
from serving import interface, model_config
from serving.model_config import Parts
from tests.serving.conftest import ITERATIVE, ONE_SHOT
from zoo.contract.graph import TensorSpec
from zoo.contract.spec import GeneratorSpec


def parsed(text: str) -> Any:
    return text_format.Parse(text, ModelConfig())


@pytest.mark.parametrize(
    ("spec", "inputs"),
    [
        (ONE_SHOT, {"seed": [1], "class_id": [1]}),
        (
            ITERATIVE,
            {
                "seed": [1],
                "class_id": [-1],  # several values of one image are a mixture
                "image": [8, 8, 1],
                "mask_image": [8, 8, 1],
                "mixture": [-1],
                "num_steps": [1],
                "guidance_scale": [1],
                "sampler": [1],
                "guidance_interval": [2],
                "strength": [1],
            },
        ),
    ],
)
def test_the_public_model_declares_what_the_generator_takes(spec: GeneratorSpec, inputs: dict[str, list[int]]) -> None:
    config = parsed(model_config.public_config(spec, Parts("graph")))
    assert {entry.name: list(entry.dims) for entry in config.input} == inputs
    assert [entry.name for entry in config.input] == list(inputs)
    assert [entry.optional for entry in config.input] == [False] + [True] * (len(inputs) - 1)
    assert list(config.output[0].dims) == [8, 8, 1]
    assert config.HasField("dynamic_batching")
    assert GeneratorSpec.from_json(json.loads(config.parameters["spec"].string_value)) == spec
    assert config.parameters["graph"].string_value == "graph"


def test_the_cpu_variant_differs_only_in_the_file_that_it_runs() -> None:
    config = parsed(model_config.public_config(ITERATIVE, Parts("graph")))
    variant = parsed(model_config.public_config(ITERATIVE, Parts("graph"), "graph/1/model.onnx"))
    assert variant.parameters.pop("file").string_value == "graph/1/model.onnx"
    assert variant == config


SIZES = axes(ITERATIVE, 16)


def test_a_graph_runs_on_onnx_runtime_wherever_triton_finds_best() -> None:
    config = parsed(model_config.graph_config("g", ITERATIVE.inputs, ITERATIVE.outputs, SIZES, queue_delay_us=200))
    assert (config.platform, config.default_model_filename) == ("onnxruntime_onnx", "model.onnx")
    assert [group.kind for group in config.instance_group] == [ModelInstanceGroup.KIND_AUTO]
    assert config.dynamic_batching.max_queue_delay_microseconds == 200
    assert (config.max_batch_size, [warmup.batch_size for warmup in config.model_warmup]) == (16, [1, 16])
    assert set(config.model_warmup[0].inputs) == {spec.name for spec in ITERATIVE.inputs}
    dims = {entry.name: list(entry.dims) for entry in config.input}
    assert dims == {
        "noise": [-1, 1, 8, 8],
        "class_ids": [-1],
        "guidance_weights": [-1, -1],
        "table": [-1, 13],
        "known": [-1],
        "mask": [-1],
    }


@pytest.mark.parametrize("dtype", interface.DTYPES)
def test_every_dtype_is_one_that_triton_knows(dtype: str) -> None:
    """By the parser of a configuration, and by the client's own table of what goes over the wire."""
    spec = TensorSpec("x", dtype, ("batch", 2))
    config = parsed(model_config.graph_config("g", (spec,), (spec,), SIZES))
    wire = interface.datatype(np.array(["text"] if dtype == "str" else [0], dtype).dtype)
    assert wire == np_to_triton_dtype(np.dtype(object if dtype == "str" else dtype))
    assert config.input[0].data_type == DataType.Value(f"TYPE_{wire}".replace("BYTES", "STRING"))


def test_a_tensor_that_does_not_begin_with_the_batch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"x has shape \(2, 'batch'\)"):
        model_config.graph_config("g", (TensorSpec("x", "float32", (2, "batch")),), (), SIZES)


def test_text_with_quotes_survives() -> None:
    name = 'a "quoted"\nname \\'
    assert parsed(model_config.pbtxt({"name": name})).name == name
