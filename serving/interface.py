"""What a generator's public model takes and gives; NumPy only, because Triton's models import it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zoo.contract.generator import Tensors
from zoo.contract.graph import BATCH, TensorSpec
from zoo.contract.request import GeneratorSpec, RequestError, SampleRequest, Setting

# NumPy's names of types -> Triton's; a configuration writes TYPE_ before them, and TYPE_STRING for text.
DTYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "int32": "INT32",
    "int64": "INT64",
    "uint64": "UINT64",
    "float16": "FP16",
    "float32": "FP32",
    "str": "BYTES",
}


def datatype(dtype: np.dtype) -> str:
    """Triton's name of a tensor's type. Raises KeyError for a type that no model here takes."""
    return DTYPES["str" if dtype.kind == "U" else dtype.name]


def inputs(spec: GeneratorSpec) -> tuple[TensorSpec, ...]:
    """One value an image each; all but `seed` may be left out."""
    tensors = [TensorSpec("seed", "uint64", (BATCH, 1))]
    if spec.num_classes:
        tensors.append(TensorSpec("class_id", "int64", (BATCH, 1)))
    if spec.sampling:
        tensors.append(TensorSpec("num_steps", "int32", (BATCH, 1)))
        tensors.append(TensorSpec("guidance_scale", "float32", (BATCH, 1)))
        tensors.append(TensorSpec("sampler", "str", (BATCH, 1)))
    return tuple(tensors)


def outputs(spec: GeneratorSpec) -> tuple[TensorSpec, ...]:
    return (TensorSpec("image", "uint8", (BATCH, *spec.image_shape)),)


def tensors(request: SampleRequest) -> Tensors:
    """A request as the public model's inputs, (B,) each; what the request leaves to the generator is left out."""
    batch, setting = len(request.seeds), request.setting
    found = {"seed": np.array(request.seeds, np.uint64)}
    if request.class_ids is not None:
        found["class_id"] = np.array(request.class_ids, np.int64)
    if setting.num_steps is not None:
        found["num_steps"] = np.full(batch, setting.num_steps, np.int32)
    if setting.guidance_scale != 1.0:
        found["guidance_scale"] = np.full(batch, setting.guidance_scale, np.float32)
    if setting.sampler is not None:
        found["sampler"] = np.full(batch, setting.sampler)
    return found


def merged(spec: GeneratorSpec, parts: Sequence[Tensors]) -> Tensors:
    """One batch of several requests' inputs, (B,) each: where they name other inputs, defaults fill the gaps."""
    if any("seed" not in part for part in parts):  # Triton lets it pass where other inputs are optional
        raise RequestError(f"{spec.name} was sent no seed: it needs one, UINT64 [1], for each image")
    if len(parts) == 1:
        return parts[0]
    if any(part.keys() != parts[0].keys() for part in parts):
        parts = [_defaults(spec, part["seed"]) | part for part in parts]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _defaults(spec: GeneratorSpec, seed: np.ndarray) -> Tensors:
    full = {"seed": seed}
    if (classes := spec.classes_in_turn(seed)) is not None:
        full["class_id"] = classes
    if spec.sampling:
        full["num_steps"] = np.full(len(seed), spec.sampling.num_steps, np.int32)
        full["guidance_scale"] = np.ones(len(seed), np.float32)
        full["sampler"] = np.full(len(seed), spec.sampling.samplers[0], object)
    return full


def canary(spec: GeneratorSpec, batch: int = 1) -> Tensors:
    """The cheapest images there are: one step, or the fewest that the generator was trained for."""
    steps = min(spec.sampling.steps, default=1) if spec.sampling else None
    return tensors(SampleRequest((0,) * batch, setting=Setting(steps)))
