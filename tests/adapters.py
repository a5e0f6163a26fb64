"""Low-rank adapters of tiny pipelines, as the tools that train them name them: random factors for chosen layers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from zoo.exchange.importing.pipelines import adapter_names

ATTENTION = r"attn\d?\.(to_q|to_k|to_v|to_out\.0|add_q_proj|add_k_proj|add_v_proj|to_add_out)$"
TEXT = r"self_attn\.(q_proj|k_proj|v_proj|out_proj)$|mlp\.fc[12]$"
CONVOLUTIONS = r"resnets\.\d\.conv[12]$|conv_shortcut$|proj_in$|proj_out$|samplers\.0\.conv$"
FEED_FORWARD = r"ff(_context)?\.net\.(0\.proj|2)$|proj_mlp$|(?<!norm_out\.)norm1?(_context)?\.linear$"
COMPONENTS = ("unet", "transformer", "text_encoder", "text_encoder_2")
Factors = dict[str, tuple[np.ndarray, np.ndarray]]  # down, up by the layer's path


def factors(pipeline: Any, pattern: str = f"{ATTENTION}|{TEXT}", rank: int = 2, seed: int = 0) -> Factors:
    """For the layers of a pipeline whose paths match: products about as large as the weights."""
    draw, found = np.random.default_rng(seed), {}
    for component in COMPONENTS:
        if (network := getattr(pipeline, component, None)) is None:
            continue
        for path, module in network.named_modules():
            if not re.search(pattern, path) or not hasattr(module, "weight") or module.weight.ndim not in (2, 4):
                continue
            out, *inner = module.weight.shape
            size = float(module.weight.detach().std()) / rank**0.5
            down = draw.normal(size=(rank, *inner)).astype(np.float32)
            up = draw.normal(size=(out, rank, *[1] * (len(inner) - 1))).astype(np.float32)
            found[f"{component}.{path}"] = (down, up * np.float32(size))
    assert found
    return found


def diffusers_names(found: Factors) -> dict[str, np.ndarray]:
    """As diffusers writes it; an encoder of CLIP's blocks are always below `text_model`."""
    return {
        f"{_of_text(layer)}.{part}.weight": array
        for layer, pair in found.items()
        for part, array in zip(("lora_A", "lora_B"), pair, strict=True)
    }


def old_names(found: Factors) -> dict[str, np.ndarray]:
    """As diffusers wrote it before peft: processors of attention."""
    tensors = {}
    for layer, pair in found.items():
        name = re.sub(r"\.(to_[qkv])$", r".processor.\1_lora", _of_text(layer))
        name = re.sub(r"\.to_out\.0$", ".processor.to_out_lora", name)
        name = re.sub(r"self_attn\.([qkv])_proj$", r"self_attn.to_\1_lora", name)
        name = re.sub(r"self_attn\.out_proj$", "self_attn.to_out_lora", name)
        name = re.sub(r"(mlp\.fc[12])$", r"\1.lora_linear_layer", name)
        for part, array in zip(("down", "up"), pair, strict=True):
            tensors[f"{name}.{part}.weight"] = array
    return tensors


def kohya_names(found: Factors, alpha: float | None = None) -> dict[str, np.ndarray]:
    """As kohya's scripts write it, for the network of diffusers."""
    prefixes = {"unet": "lora_unet_", "text_encoder": "lora_te_", "text_encoder_2": "lora_te2_"}
    if any(layer.startswith("text_encoder_2") for layer in found):
        prefixes["text_encoder"] = "lora_te1_"
    return with_underscores(
        {
            prefixes[_of_text(layer).partition(".")[0]] + _of_text(layer).partition(".")[2].replace(".", "_"): pair
            for layer, pair in found.items()
        },
        alpha,
    )


def authors_names(found: Factors, layers: Mapping[str, Any], alpha: float | None = None) -> dict[str, np.ndarray]:
    """The same, for the network that its authors wrote: `layers` are all of the pipeline's."""
    names = {layer: name for name, layer in adapter_names._of_authors(list(layers))}
    whole = {names[layer]: pair for layer, pair in found.items() if layer in names}
    rest = {layer: pair for layer, pair in found.items() if layer not in names}
    return with_underscores(whole, alpha) | (kohya_names(rest, alpha) if rest else {})


def flux_names(found: Factors, alpha: float | None = None) -> dict[str, np.ndarray]:
    """As kohya's scripts write FLUX: what its authors have as one layer has one down, and ups one after another.

    Of the single blocks only the modulation: diffusers reads their first layer at FLUX's own width alone.
    """
    whole: Factors = {}
    for name, parts in adapter_names._of_flux(list(found)):
        if "linear1" not in name and all(part in found for part in parts):
            whole[name] = (found[parts[0]][0], np.concatenate([found[part][1] for part in parts]))
    text = {layer: pair for layer, pair in found.items() if layer.startswith("text_encoder.")}
    names = {name.replace("lora_te_", "lora_te1_"): array for name, array in kohya_names(text, alpha).items()}
    return with_underscores(whole, alpha) | names


def with_underscores(found: Factors, alpha: float | None) -> dict[str, np.ndarray]:
    tensors: dict[str, np.ndarray] = {}
    for name, (down, up) in found.items():
        tensors |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
        tensors |= {f"{name}.alpha": np.array(alpha, np.float32)} if alpha is not None else {}
    return tensors


def _of_text(layer: str) -> str:
    component, _, path = layer.partition(".")
    if component.startswith("text_encoder") and not path.startswith("text_model."):
        return f"{component}.text_model.{path}"
    return layer


def write(path: Path, tensors: Mapping[str, np.ndarray], metadata: dict[str, str] | None = None) -> Path:
    save_file(dict(tensors), path, metadata=metadata)
    return path


def layers_of(pipeline: Any) -> list[str]:
    """The paths of all layers that an adapter may stand beside."""
    return [
        f"{component}.{path}"
        for component in COMPONENTS
        if getattr(pipeline, component, None) is not None
        for path, module in getattr(pipeline, component).named_modules()
        if getattr(getattr(module, "weight", None), "ndim", 0) in (2, 4)
    ]
