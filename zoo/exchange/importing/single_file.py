"""Stable Diffusion in one file, under its authors' names -> the tensors of a pipeline that has the same networks.

Such a file has neither words nor scheduler, so whoever imports it names a checkpoint that has them. Which name is which
diffusers knows: its own conversions are called here, on what was checked, with the configs of that checkpoint, and
nothing is fetched. Layouts: Rombach et al. 2022 (1.x, and 2.x with OpenCLIP's text encoder); Podell et al. 2023 (SDXL).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.exchange.importing import weights
from zoo.exchange.importing.draft import ImportingError
from zoo.exchange.importing.pipelines import components
from zoo.family import Checkpoint

PARTS = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "conditioner.embedders.")
LAYOUTS = ("text", "sized_text")  # of zoo.families.diffusers_pipeline
# Where the text encoders lie, by their folders: under CLIP's own names, or OpenCLIP's.
OF_CLIP = {"text_encoder": ("cond_stage_model.transformer.", "conditioner.embedders.0.transformer.")}
OF_OPEN_CLIP = {
    "text_encoder": ("cond_stage_model.model.", "conditioner.embedders.0.model."),
    "text_encoder_2": ("conditioner.embedders.1.model.",),
}
FILE = "converted.safetensors"


def told(tensors: Mapping[str, Any], known: Checkpoint) -> tuple[str, ...]:
    """What is not as it was in the file; a sentence each."""
    first = f"Stable Diffusion in one file, its names converted by diffusers; sampled and told as {known.name}"
    averaged = any(name.startswith("model_ema.") for name in tensors)
    return (first, "its averaged weights (model_ema) were not used, as diffusers does not") if averaged else (first,)


def is_of(tensors: Mapping[str, Any]) -> bool:
    return any(name.startswith(PARTS) for name in tensors)


def converted(path: Path, known: Checkpoint, expected: weights.Wanted, scratch: Path) -> weights.Tensors:
    """The tensors of a checked file under the names of a checkpoint's networks; what is none of theirs is left out.

    Raises ImportingError where the checkpoint is no pipeline of such a layout, or the file none of its networks.
    """
    from safetensors.torch import load_file, save_file

    if getattr(known.config, "layout", None) not in LAYOUTS:
        raise ImportingError(f"{path} is Stable Diffusion in one file, and {known.name} no pipeline of its kind")
    state = load_file(path)
    try:
        found = {
            f"{part}.{name}": tensor
            for part, config in known.config.components.items()
            for name, tensor in _part(part, config, state).items()
        }
    except (KeyError, IndexError, TypeError, AttributeError, RuntimeError) as error:
        raise ImportingError(f"{path} is no {known.name}: diffusers cannot convert its names ({error})") from error
    parts = {name.partition(".")[0] for name in found}
    if absent := [part for part in known.config.components if part not in parts]:
        raise ImportingError(f"{path} is no {known.name}: it has no {' and no '.join(sorted(absent))}")
    found = {name: tensor.contiguous() for name, tensor in found.items()}
    save_file(found, scratch / FILE)
    return components.fitted(weights.read(scratch / FILE), expected)


def _part(part: str, config: Mapping[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    """A component's tensors, under diffusers' or transformers' names; none where the file has none of it."""
    from diffusers.loaders import single_file_utils as of_diffusers

    found: dict[str, Any] = {}
    if part == "unet":
        found = of_diffusers.convert_ldm_unet_checkpoint(state, config)
    elif part == "vae":
        found = _flat(of_diffusers.convert_ldm_vae_checkpoint(state, config))
    for prefix in OF_CLIP.get(part, ()):
        found |= {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    for prefix in OF_OPEN_CLIP.get(part, ()):
        if any(name.startswith(prefix) for name in state):
            found |= of_diffusers.convert_open_clip_checkpoint(_Encoder(config), state, prefix)
    return {name: tensor for name, tensor in found.items() if not components.NOT_WEIGHTS.search(name)}


def _flat(tensors: dict[str, Any]) -> dict[str, Any]:
    """Attention's products, which the authors wrote as convolutions of one pixel: (K, C, 1, 1) -> (K, C)."""
    return {
        name: tensor.reshape(tensor.shape[:2]) if ".attentions." in name and tensor.ndim > 2 else tensor
        for name, tensor in tensors.items()
    }


class _Encoder:
    """What `convert_open_clip_checkpoint` asks a text encoder for: how wide it is."""

    class Config:
        def __init__(self, config: Mapping[str, Any]) -> None:
            self.hidden_size = int(config["hidden_size"])

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = self.Config(config)
