"""Specs -> `config.pbtxt`, as text and without Triton.

A generator is a public model named like it (Python backend), which turns seeds into noise, conditions and the sampler's
table, and `<generator>_<graph>`, the exported graph on its runtime's own backend. Triton batches both dynamically.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from serving import interface
from zoo.contract.graph import BATCH, TensorSpec
from zoo.contract.request import GeneratorSpec

MAX_BATCH_SIZE = 64
PLATFORMS = {"model.onnx": "onnxruntime_onnx", "model.plan": "tensorrt_plan"}  # the file decides the backend


class Word(str):
    """A protobuf enum value: written without quotes."""


def public_config(spec: GeneratorSpec, graph: str, file: str | None = None) -> str:
    """The model that clients call. With `file`, ONNX Runtime inside it takes the place of the model `graph`."""
    parameters = {"spec": json.dumps(spec.to_json()), "graph": graph} | ({"file": file} if file else {})
    taken = interface.inputs(spec)
    return pbtxt(
        {
            "name": spec.name,
            "backend": "python",
            **_tensors(taken, interface.outputs(spec), [tensor.name for tensor in taken[1:]]),
            "dynamic_batching": {"max_queue_delay_microseconds": 0},
            "instance_group": [{"kind": Word("KIND_CPU"), "count": 1}],
            "parameters": [{"key": key, "value": {"string_value": value}} for key, value in parameters.items()],
        }
    )


def graph_config(
    name: str,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    file: str = "model.onnx",
    queue_delay_us: int = 0,
) -> str:
    """The model of an exported graph, warmed up with one image and with a full batch.

    `queue_delay_us` is how long Triton may hold a request back to fill a batch: on a CPU pure loss at low load.
    """
    return pbtxt(
        {
            "name": name,
            "platform": PLATFORMS[file],
            "default_model_filename": file,
            **_tensors(inputs, outputs),
            "dynamic_batching": {"max_queue_delay_microseconds": queue_delay_us},
            "instance_group": [{"kind": Word("KIND_AUTO"), "count": 1}],
            "model_warmup": [_warmup(inputs, batch) for batch in (1, MAX_BATCH_SIZE)],
        }
    )


def _tensors(
    inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], optional: Collection[str] = ()
) -> dict[str, Any]:
    """Triton's declaration leaves the batch axis out: `max_batch_size` stands for it."""
    return {
        "max_batch_size": MAX_BATCH_SIZE,
        "input": [_tensor(spec) | ({"optional": True} if spec.name in optional else {}) for spec in inputs],
        "output": [_tensor(spec) for spec in outputs],
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    if spec.shape[0] != BATCH:
        raise ValueError(f"{spec.name} has shape {spec.shape}: Triton batches over the first axis, {BATCH!r}")
    dims = [-1 if isinstance(axis, str) else axis for axis in spec.shape[1:]]
    return {"name": spec.name, "data_type": _data_type(spec), "dims": dims}


def _data_type(spec: TensorSpec) -> Word:
    name = interface.DTYPES[spec.dtype]
    return Word("TYPE_STRING" if name == "BYTES" else f"TYPE_{name}")


def _warmup(inputs: Sequence[TensorSpec], batch: int) -> dict[str, Any]:
    """Zeros of the least size: kernels are chosen and buffers allocated before the first request."""
    entries = []
    for spec in inputs:
        dims = [1 if isinstance(axis, str) else axis for axis in spec.shape[1:]]
        value = {"data_type": _data_type(spec), "dims": dims, "zero_data": True}
        entries.append({"key": spec.name, "value": value})
    return {"name": f"batch_{batch}", "batch_size": batch, "inputs": entries}


def pbtxt(message: Mapping[str, Any], indent: str = "") -> str:
    """Protobuf's text format of nested mappings; a list of mappings repeats its field."""
    lines = []
    for key, value in message.items():
        for item in value if isinstance(value, list) and key != "dims" else [value]:
            if isinstance(item, Mapping):
                lines.append(f"{indent}{key} {{\n{pbtxt(item, indent + '  ')}{indent}}}\n")
            else:
                lines.append(f"{indent}{key}: {item if isinstance(item, Word) else json.dumps(item)}\n")
    return "".join(lines)  # JSON's numbers, booleans, strings and lists of numbers are protobuf's too
