"""Specs -> `config.pbtxt`, as text and without Triton.

A generator is a public model named like it (Python backend), which turns seeds into noise, conditions and the sampler's
table, and `<generator>_<graph>`, the exported graph on its runtime's own backend. Triton batches both dynamically.

An engine is loaded by what its library asks for: TensorRT's by the backend of that name, which does not load those of
TensorRT-RTX, and these by a Python backend of ours (serving/backends/tensorrt_rtx).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from export.engine import Library
from export.profiles import Axes
from serving import interface
from zoo.contract.graph import BATCH, MAX_BATCH, TensorSpec, concrete
from zoo.contract.spec import GeneratorSpec


class Word(str):
    """A protobuf enum value: written without quotes."""


@dataclass(frozen=True)
class Placement:
    """On which GPUs Triton puts a graph, by their numbers (none: all that it sees), and how many times on each."""

    gpus: tuple[int, ...] = ()
    instances: int = 1

    @property
    def group(self) -> dict[str, Any]:
        return {"kind": Word("KIND_GPU"), "count": self.instances, "gpus": list(self.gpus)}


@dataclass(frozen=True)
class Plans:
    """The plans of one graph, all by one library: the file for a compute capability, like "8.9", and for any other."""

    library: Library
    files: Mapping[str, str]
    other: str | None = None
    facts: Mapping[str, str] | None = None  # about each, for people and for our own backend
    profiles: int = 1  # of each plan, by which Triton chooses among buckets

    @property
    def fields(self) -> dict[str, Any]:
        backend = {Library.FULL: {"platform": "tensorrt_plan"}, Library.RTX: {"backend": "tensorrt_rtx"}}[self.library]
        return {
            **backend,
            **({"default_model_filename": self.other} if self.other else {}),
            "cc_model_filenames": [{"key": key, "value": file} for key, file in self.files.items()],
            "parameters": _parameters(self.facts or {}),
        }

    @property
    def chosen(self) -> dict[str, Any]:
        """What an instance group says: without it TensorRT's backend takes the first profile alone, ours takes all."""
        several = self.library is Library.FULL and self.profiles > 1
        return {"profile": [str(index) for index in range(self.profiles)]} if several else {}


# Of a public model, the requests that wait: one too many is refused, and one that waits beyond the `timeout` that it
# said. Triton heeds none that is longer than the queue's own.
QUEUE = {
    "priority_levels": 2,  # 1 goes before 2, which is what a request has that says nothing
    "default_priority_level": 2,
    "default_queue_policy": {
        "timeout_action": Word("REJECT"),
        "default_timeout_microseconds": 120_000_000,
        "allow_timeout_override": True,
        "max_queue_size": 256,
    },
}
ON_ONNX = {"platform": "onnxruntime_onnx", "default_model_filename": interface.ONNX_FILE}
ANYWHERE = {"kind": Word("KIND_AUTO"), "count": 1}


@dataclass(frozen=True)
class Parts:
    """The models that a public one calls: the entry, and by graph the encoders with the names of what they give."""

    entry: str
    encoders: Mapping[str, tuple[str, Sequence[str]]] = field(default_factory=dict)
    by_rows: bool = False  # whether the entry's folder also has its `step` and `decoder`
    rows: int = 0  # of the table of an unrolled entry
    first_columns: int = 0  # of the table of an entry of the first format
    assets: bool = False  # whether the checkpoint's small files lie beside its code
    checkpoint: str = ""  # the digest of its weights

    @property
    def parameters(self) -> dict[str, str]:
        found = {"graph": self.entry} | ({"encoders": json.dumps(self.encoders)} if self.encoders else {})
        numbers = {"rows": self.rows, "first_columns": self.first_columns}
        found |= {name: str(number) for name, number in numbers.items() if number}
        found |= {"assets": "1"} if self.assets else {}
        return found | ({"checkpoint": self.checkpoint} if self.checkpoint else {})


def public_config(
    spec: GeneratorSpec,
    parts: Parts,
    file: str | None = None,
    max_batch: int = MAX_BATCH,
    tuned: Mapping[str, Any] | None = None,
) -> str:
    """The model that clients call. With `file`, ONNX Runtime inside it takes the place of the models of `parts`.

    `tuned` are executors, by tier and batch size, that do so instead; requests that ask for no tier are of the first.
    """
    parameters = {"spec": json.dumps(spec.to_json()), **parts.parameters} | ({"file": file} if file else {})
    parameters |= {"by_rows": "1"} if file and parts.by_rows else {}
    parameters |= {"tuned": json.dumps(tuned)} if tuned else {}
    taken = interface.inputs(spec)
    return pbtxt(
        {
            "name": spec.name,
            "backend": "python",
            **_tensors(taken, interface.outputs(spec), max_batch, [tensor.name for tensor in taken[1:]]),
            "dynamic_batching": {"max_queue_delay_microseconds": 0, **QUEUE},
            "instance_group": [{"kind": Word("KIND_CPU"), "count": 1}],
            "parameters": _parameters(parameters),
        }
    )


def graph_config(
    name: str,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    axes: Axes,
    *,
    plans: Plans | None = None,
    placement: Placement | None = None,
    queue_delay_us: int = 0,
) -> str:
    """The model of an exported graph, of the sizes in `axes`, warmed up with one image and with a full batch.

    It runs on `plans`, else on ONNX Runtime; where `placement` says, else where Triton finds best. `queue_delay_us` is
    how long Triton may hold a request back to fill a batch: on a CPU pure loss at low load.
    """
    largest = axes[BATCH].maximum
    return pbtxt(
        {
            "name": name,
            **(plans.fields if plans else ON_ONNX),
            **_tensors(inputs, outputs, largest),
            "dynamic_batching": {"max_queue_delay_microseconds": queue_delay_us},
            "instance_group": [(placement.group if placement else ANYWHERE) | (plans.chosen if plans else {})],
            "model_warmup": [_warmup(inputs, axes, batch) for batch in dict.fromkeys((1, largest))],
        }
    )


def _tensors(
    inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], max_batch: int, optional: Collection[str] = ()
) -> dict[str, Any]:
    """Triton's declaration leaves the batch axis out: `max_batch_size` stands for it."""
    return {
        "max_batch_size": max_batch,
        "input": [_tensor(spec) | (_optional(spec) if spec.name in optional else {}) for spec in inputs],
        "output": [_tensor(spec) for spec in outputs],
    }


def _optional(spec: TensorSpec) -> dict[str, Any]:
    """May be left out; requests that differ in a free axis are one batch all the same, for our own code joins them."""
    free = any(isinstance(axis, str) for axis in spec.shape[1:])
    return {"optional": True} | ({"allow_ragged_batch": True} if free else {})


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    if spec.shape[0] != BATCH:
        raise ValueError(f"{spec.name} has shape {spec.shape}: Triton batches over the first axis, {BATCH!r}")
    dims = [-1 if isinstance(axis, str) else axis for axis in spec.shape[1:]]
    return {"name": spec.name, "data_type": _data_type(spec), "dims": dims}


def _data_type(spec: TensorSpec) -> Word:
    name = interface.DTYPES[spec.dtype]
    return Word("TYPE_STRING" if name == "BYTES" else f"TYPE_{name}")


def _parameters(values: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"key": key, "value": {"string_value": value}} for key, value in values.items()]


def _warmup(inputs: Sequence[TensorSpec], axes: Axes, batch: int) -> dict[str, Any]:
    """Zeros of the least size: kernels are chosen and buffers allocated before the first request."""
    entries = []
    for spec in inputs:
        dims = list(concrete(spec.shape[1:], {axis: sizes.minimum for axis, sizes in axes.items()}))
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
