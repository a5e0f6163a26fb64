"""Specs -> `config.pbtxt`, as text and without Triton.

A generator is a public model (Python backend) named like it, which turns seeds into feeds, and one model for each graph
of its entry, named `<generator>_<graph>`, which a runtime's own backend runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from zoo.graph import BATCH, TensorSpec
from zoo.request import GeneratorSpec

MAX_BATCH_SIZE = 64
DTYPES = {
    "bool": "TYPE_BOOL",
    "uint8": "TYPE_UINT8",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "uint64": "TYPE_UINT64",
    "float16": "TYPE_FP16",
    "float32": "TYPE_FP32",
}
PLATFORMS = {"model.onnx": "onnxruntime_onnx", "model.plan": "tensorrt_plan"}  # the file decides the backend


class Word(str):
    """A protobuf enum value or other bare word: written without quotes."""


def public_inputs(spec: GeneratorSpec) -> tuple[TensorSpec, ...]:
    """What a client sends for each image; all but `seed` may be left out."""
    inputs = [TensorSpec("seed", "uint64", (BATCH, 1))]
    if spec.num_classes:
        inputs.append(TensorSpec("class_id", "int64", (BATCH, 1)))
    if spec.sampling:
        inputs.append(TensorSpec("num_steps", "int32", (BATCH, 1)))
        inputs.append(TensorSpec("guidance_scale", "float32", (BATCH, 1)))
    return tuple(inputs)


def public_outputs(spec: GeneratorSpec) -> tuple[TensorSpec, ...]:
    return (TensorSpec("image", "uint8", (BATCH, *spec.image_shape)),)


def public_config(
    spec: GeneratorSpec, graphs: Mapping[str, Sequence[str]], max_batch_size: int = MAX_BATCH_SIZE
) -> str:
    """The model that clients call: `zoo.generator.Generator` before the models in `graphs` (name -> its outputs)."""
    optional = [tensor.name for tensor in public_inputs(spec)[1:]]
    return pbtxt(
        {
            "name": spec.name,
            "backend": "python",
            **_tensors(public_inputs(spec), public_outputs(spec), max_batch_size, optional),
            "instance_group": [{"kind": Word("KIND_CPU"), "count": 1}],
            "parameters": [
                {"key": "spec", "value": {"string_value": json.dumps(spec.to_json())}},
                {"key": "graphs", "value": {"string_value": json.dumps(graphs)}},
            ],
        }
    )


def graph_config(
    name: str,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    file: str = "model.onnx",
    max_batch_size: int = MAX_BATCH_SIZE,
    queue_delay_us: int = 0,
) -> str:
    """The model of one exported graph, warmed up with one image and with a full batch.

    `queue_delay_us` is how long Triton may hold a request back to fill a batch: on a CPU pure loss at low load.
    """
    return pbtxt(
        {
            "name": name,
            "platform": PLATFORMS[file],
            "default_model_filename": file,
            **_tensors(inputs, outputs, max_batch_size, queue_delay_us=queue_delay_us),
            "instance_group": [{"kind": Word("KIND_AUTO"), "count": 1}],
            "model_warmup": [_warmup(inputs, batch) for batch in sorted({1, max_batch_size})],
        }
    )


def _tensors(
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    max_batch_size: int,
    optional: Iterable[str] = (),
    queue_delay_us: int = 0,
) -> dict[str, Any]:
    """Triton's declaration leaves the batch axis out: `max_batch_size` stands for it."""
    return {
        "max_batch_size": max_batch_size,
        "input": [_tensor(spec) | ({"optional": True} if spec.name in set(optional) else {}) for spec in inputs],
        "output": [_tensor(spec) for spec in outputs],
        "dynamic_batching": {"max_queue_delay_microseconds": queue_delay_us},
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    if spec.shape[0] != BATCH:
        raise ValueError(f"{spec.name} has shape {spec.shape}: Triton batches over the first axis, {BATCH!r}")
    dims = [-1 if isinstance(axis, str) else axis for axis in spec.shape[1:]]
    return {"name": spec.name, "data_type": Word(DTYPES[spec.dtype]), "dims": dims}


def _warmup(inputs: Sequence[TensorSpec], batch: int) -> dict[str, Any]:
    """Zeros of the least size: every kernel is chosen and every buffer allocated before the first request."""
    entries = []
    for spec in inputs:
        dims = [1 if isinstance(axis, str) else axis for axis in spec.shape[1:]]
        value = {"data_type": Word(DTYPES[spec.dtype]), "dims": dims, "zero_data": True}
        entries.append({"key": spec.name, "value": value})
    return {"name": f"batch_{batch}", "batch_size": batch, "inputs": entries}


def pbtxt(message: Mapping[str, Any], indent: str = "") -> str:
    """Protobuf's text format of nested mappings; a list repeats its field."""
    lines = []
    for key, value in message.items():
        for item in value if isinstance(value, list) and key != "dims" else [value]:
            if isinstance(item, Mapping):
                lines.append(f"{indent}{key} {{\n{pbtxt(item, indent + '  ')}{indent}}}\n")
            else:
                lines.append(f"{indent}{key}: {_scalar(item)}\n")
    return "".join(lines)


def _scalar(value: Any) -> str:
    if isinstance(value, Word):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[ " + ", ".join(_scalar(item) for item in value) + " ]"
    return json.dumps(value)  # a number, or a string: JSON's escapes are protobuf's too
