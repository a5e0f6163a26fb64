"""What a client sends to a generator's public model -> the feeds of its graph. NumPy only; Triton runs it."""

from __future__ import annotations

import numpy as np

from zoo.generator import Tensors
from zoo.graph import BATCH, TensorSpec
from zoo.request import GeneratorSpec, SampleRequest, feeds
from zoo.samplers import COLUMNS


def inputs(spec: GeneratorSpec) -> tuple[TensorSpec, ...]:
    """One value an image each; all but `seed` may be left out."""
    tensors = [TensorSpec("seed", "uint64", (BATCH, 1))]
    if spec.num_classes:
        tensors.append(TensorSpec("class_id", "int64", (BATCH, 1)))
    if spec.sampling:
        tensors.append(TensorSpec("num_steps", "int32", (BATCH, 1)))
        tensors.append(TensorSpec("guidance_scale", "float32", (BATCH, 1)))
    return tuple(tensors)


def outputs(spec: GeneratorSpec) -> tuple[TensorSpec, ...]:
    return (TensorSpec("image", "uint8", (BATCH, *spec.image_shape)),)


def graph_feeds(spec: GeneratorSpec, tensors: Tensors) -> Tensors:
    """The feeds of one request. Raises RequestError.

    Images with other numbers of steps than their neighbours share the batch by `_padded`.
    """
    columns = {name: tensor.reshape(-1).tolist() for name, tensor in tensors.items()}
    seeds, class_ids = tuple(columns["seed"]), columns.get("class_id")
    steps = columns.get("num_steps", [None] * len(seeds))
    scales = columns.get("guidance_scale", [1.0] * len(seeds))
    if len(set(zip(steps, scales, strict=True))) == 1:
        classes = tuple(class_ids) if class_ids else None
        return feeds(spec, SampleRequest(seeds, classes, steps[0], None, scales[0]))
    rows = [
        feeds(spec, SampleRequest((seed,), (class_ids[row],) if class_ids else None, steps[row], None, scales[row]))
        for row, seed in enumerate(seeds)
    ]
    return {name: _padded(name, [row[name] for row in rows], spec) for name in rows[0]}


def _padded(name: str, parts: list[np.ndarray], spec: GeneratorSpec) -> np.ndarray:
    """One batch of feeds whose second axes differ, by entries without effect, so that no image changes.

    A row that copies x, a draw that no row uses, the null class with the weight 0.
    """
    length = max(part.shape[1] for part in parts)
    batch = np.zeros((len(parts), length, *parts[0].shape[2:]), parts[0].dtype)
    if name == "table":
        batch[..., COLUMNS.index("a")] = 1.0
    elif name == "class_ids":
        batch[:] = spec.num_classes
    for index, part in enumerate(parts):
        batch[index, : part.shape[1]] = part[0]
    return batch
