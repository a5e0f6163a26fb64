"""Low-rank adapters fused into the weights of a pipeline as it is imported: W + scale * alpha / rank * up down.

Hu et al. 2021 (LoRA). Files of diffusers and peft name a weight by its path, those of kohya's scripts by the same path
with underscores. Every tensor of a file is used, or the file is refused: half an adapter is none. What it is fused into
is written anew, so that the pipeline's own files stay as they are, and an import without it gives them back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.exchange.importing import weights
from zoo.exchange.importing.draft import ImportingError
from zoo.untrusted import plain_file

# The last words of a tensor's name -> its part of the product.
PARTS = {
    ".lora_A.weight": "down", ".lora_B.weight": "up",
    ".lora.down.weight": "down", ".lora.up.weight": "up",
    ".lora_linear_layer.down.weight": "down", ".lora_linear_layer.up.weight": "up",
    ".lora_down.weight": "down", ".lora_up.weight": "up",
    "_lora.down.weight": "down", "_lora.up.weight": "up",
    ".alpha": "alpha",
}  # fmt: skip
KOHYA = {
    "unet": ("lora_unet_",),
    "transformer": ("lora_transformer_", "lora_unet_"),
    "text_encoder": ("lora_te_", "lora_te1_"),
    "text_encoder_2": ("lora_te2_",),
    "text_encoder_3": ("lora_te3_",),
}
PEFT = "base_model.model."  # before the path of a network that was trained alone
DENOISERS = ("unet", "transformer")
MAX_RANK = 1024
NUMBERS = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "BF16": "<u2"}


@dataclass(frozen=True)
class Adapter:
    """A file, and how strongly it is fused."""

    path: Path
    scale: float = 1.0


def asked(text: str) -> Adapter:
    """An adapter as a person names it: PATH, or PATH:SCALE. Raises ImportingError."""
    path, _, scale = text.rpartition(":")
    if not path:
        return Adapter(Path(text))
    try:
        found = float(scale)
    except ValueError:
        return Adapter(Path(text))
    if not -100.0 <= found <= 100.0:
        raise ImportingError(f"the scale of {path} is {found:g}, expected a number from -100 to 100")
    return Adapter(Path(path), found)


def fused(tensors: weights.Tensors, adapters: tuple[Adapter, ...], scratch: Path) -> tuple[weights.Tensors, list[str]]:
    """The tensors of a pipeline with adapters in them, and a note of each. Raises ImportingError, UntrustedError."""
    from safetensors.numpy import save_file

    changed: dict[str, np.ndarray] = {}
    notes = []
    for adapter in adapters:
        parts = _parts(weights.read(adapter.path), tensors, adapter.path)
        for name, part in parts.items():
            base = changed[name] if name in changed else _values(tensors[name])
            changed[name] = base + _product(part, base.shape, adapter, name)
        notes.append(f"{adapter.path.name} is fused at {adapter.scale:g} into {len(parts)} weights")
    if not changed:
        return tensors, notes
    path = scratch / "adapted.safetensors"
    save_file({name: np.ascontiguousarray(each.astype(np.float32)) for name, each in changed.items()}, path)
    return {**tensors, **weights.read(path)}, notes


def _parts(found: weights.Tensors, tensors: weights.Tensors, path: Path) -> dict[str, dict[str, weights.Stored]]:
    """The parts of each weight's product, by the weight's name in the pipeline."""
    places = dict(_places(tensors))
    parts: dict[str, dict[str, weights.Stored]] = {}
    unknown = []
    for name, stored in found.items():
        ending = next((each for each in PARTS if name.endswith(each)), None)
        weight = places.get(_module(name.removesuffix(ending))) if ending else None
        if ending is None or weight is None:
            unknown.append(name)
        else:
            parts.setdefault(weight, {})[PARTS[ending]] = stored
    if unknown or not parts:
        seen = unknown[0] if unknown else "no tensor"
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise ImportingError(
            f"{path} has {seen[:120]}{more}, which is no low-rank part of a weight of this pipeline: LoRA as diffusers,"
            " peft and kohya's scripts name it is fused"
        )
    for weight, part in parts.items():
        if not {"down", "up"} <= set(part):
            raise ImportingError(f"{path} has {' and '.join(part)} alone of {weight}, expected down and up")
    return parts


def _module(name: str) -> str:
    """A module's path as adapters name it -> as the pipeline does."""
    name = re.sub(r"\.processor\.(to_[qkv])(_lora)?$", r".\1", name)
    return re.sub(r"\.processor\.to_out(_lora)?$", ".to_out.0", name)


def _places(tensors: weights.Tensors) -> Iterator[tuple[str, str]]:
    """Every name under which an adapter may speak of a weight, and the weight's own."""
    for weight, stored in tensors.items():
        if not weight.endswith(".weight") or len(stored.shape) not in (2, 4):
            continue
        module = weight.removesuffix(".weight")
        component, _, inner = module.partition(".")
        yield module, weight
        if component in DENOISERS:
            yield PEFT + inner, weight
            yield inner, weight
        for prefix in KOHYA.get(component, ()):
            yield prefix + inner.replace(".", "_"), weight


def _product(part: Mapping[str, weights.Stored], shape: tuple[int, ...], adapter: Adapter, name: str) -> Any:
    """What is added to a weight, float64 of its shape."""
    down, up = (_values(part[key]) for key in ("down", "up"))
    rank = down.shape[0]
    fits = down.ndim == up.ndim == len(shape) and up.shape[:2] == (shape[0], rank) and down.shape[1:] == shape[1:]
    if not fits or not 1 <= rank <= MAX_RANK or up.size != shape[0] * rank:
        raise ImportingError(
            f"{adapter.path} has {list(up.shape)} and {list(down.shape)} for {name}, which is {list(shape)}: it is of "
            "another network"
        )
    alpha = float(_values(part["alpha"]).reshape(-1)[0]) if "alpha" in part else float(rank)
    return adapter.scale * alpha / rank * (up.reshape(shape[0], rank) @ down.reshape(rank, -1)).reshape(shape)


def _values(stored: weights.Stored) -> np.ndarray:
    """The numbers of a tensor, float64."""
    if (kind := NUMBERS.get(stored.info.dtype)) is None:
        raise ImportingError(f"{stored.path} has a tensor of {stored.info.dtype}, expected one of {', '.join(NUMBERS)}")
    with plain_file(stored.path) as (stream, _):
        stream.seek(stored.info.start)
        found = np.frombuffer(stream.read(stored.info.bytes), kind)
    if stored.info.dtype == "BF16":
        found = (found.astype("<u4") << 16).view("<f4")
    return found.reshape(stored.shape).astype(np.float64)
