"""Stable Diffusion pipelines of diffusers in one file, under their authors' names: the way back of an import.

Names as in CompVis's latent-diffusion (`ldm`) and Stability's generative-models, written from their modules.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

RESNET = (
    ("norm1", "in_layers.0"), ("conv1", "in_layers.2"), ("norm2", "out_layers.0"), ("conv2", "out_layers.3"),
    ("time_emb_proj", "emb_layers.1"), ("conv_shortcut", "skip_connection"),
)  # fmt: skip
EDGES = (
    ("time_embedding.linear_1", "time_embed.0"), ("time_embedding.linear_2", "time_embed.2"),
    ("add_embedding.linear_1", "label_emb.0.0"), ("add_embedding.linear_2", "label_emb.0.2"),
    ("conv_in", "input_blocks.0.0"), ("conv_norm_out", "out.0"), ("conv_out", "out.2"),
    ("mid_block.resnets.0", "middle_block.0"), ("mid_block.attentions.0", "middle_block.1"),
    ("mid_block.resnets.1", "middle_block.2"),
)  # fmt: skip


def unet(network: Any) -> dict[str, torch.Tensor]:
    """A UNet2DConditionModel's, without a prefix."""
    layers, state = network.config.layers_per_block + 1, network.state_dict()

    def block(found: re.Match[str]) -> str:
        side, index, what, place = found[1], int(found[2]), found[3], int(found[4])
        if side == "down":
            at = layers * index + place + 1
            return f"input_blocks.{layers * (index + 1)}.0.op" if what == "downsamplers" else _at("input", at, what)
        if what != "upsamplers":
            return _at("output", layers * index + place, what)
        attends = any(name.startswith(f"up_blocks.{index}.attentions") for name in state)
        return f"output_blocks.{layers * index + layers - 1}.{2 if attends else 1}.conv"

    def name(key: str) -> str:
        for theirs, ours in EDGES:
            key = re.sub(rf"^{re.escape(theirs)}\b", ours, key)
        key = re.sub(r"^(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)(\.conv(?=\.))?", block, key) if "samplers" in key else key
        key = re.sub(r"^(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)", block, key)
        if re.match(r"(input|output)_blocks\.\d+\.0\.|middle_block\.[02]\.", key):
            for theirs, ours in RESNET:
                key = re.sub(rf"\.{theirs}\.", f".{ours}.", key)
        return key

    return {name(key): tensor for key, tensor in state.items()}


def _at(side: str, index: int, what: str) -> str:
    return f"{side}_blocks.{index}.{1 if what == 'attentions' else 0}"


def vae(network: Any) -> dict[str, torch.Tensor]:
    """An AutoencoderKL's, without a prefix; its attention's products are convolutions of one pixel."""
    levels = len(network.config.block_out_channels)
    found = {}
    for key, tensor in network.state_dict().items():
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda each: f"mid.block_{int(each[1]) + 1}", key)
        name = re.sub(r"encoder\.down_blocks\.(\d)", r"encoder.down.\1", name)
        name = re.sub(r"decoder\.up_blocks\.(\d)", lambda each: f"decoder.up.{levels - 1 - int(each[1])}", name)
        name = name.replace(".resnets.", ".block.").replace("conv_shortcut", "nin_shortcut")
        name = name.replace("downsamplers.0", "downsample").replace("upsamplers.0", "upsample")
        name = name.replace("conv_norm_out", "norm_out").replace("mid_block.attentions.0", "mid.attn_1")
        if ".attn_1." in name:
            name = name.replace("group_norm", "norm").replace("to_out.0", "proj_out")
            name = re.sub(r"to_([qkv])\.", r"\1.", name)
            tensor = tensor[:, :, None, None] if tensor.ndim == 2 else tensor
        found[name] = tensor
    return found


def clip(network: Any) -> dict[str, torch.Tensor]:
    """A CLIPTextModel's, as transformers named it before 5."""
    return {f"text_model.{key.removeprefix('text_model.')}": tensor for key, tensor in network.state_dict().items()}


def open_clip(network: Any) -> dict[str, torch.Tensor]:
    """A text encoder's as OpenCLIP has it: its three projections are one, its last is on the other side."""
    state = {key.removeprefix("text_model."): tensor for key, tensor in network.state_dict().items()}
    found = {
        "positional_embedding": state["embeddings.position_embedding.weight"],
        "token_embedding.weight": state["embeddings.token_embedding.weight"],
        "logit_scale": torch.tensor(4.6),
    }
    for kind in ("weight", "bias"):
        found[f"ln_final.{kind}"] = state[f"final_layer_norm.{kind}"]
        for layer in range(network.config.num_hidden_layers):
            ours, theirs = f"transformer.resblocks.{layer}", f"encoder.layers.{layer}"
            parts = [state[f"{theirs}.self_attn.{each}_proj.{kind}"] for each in "qkv"]
            found[f"{ours}.attn.in_proj_{kind}"] = torch.cat(parts)
            for one, other in (
                ("attn.out_proj", "self_attn.out_proj"), ("ln_1", "layer_norm1"), ("ln_2", "layer_norm2"),
                ("mlp.c_fc", "mlp.fc1"), ("mlp.c_proj", "mlp.fc2"),
            ):  # fmt: skip
                found[f"{ours}.{one}.{kind}"] = state[f"{theirs}.{other}.{kind}"]
    if "text_projection.weight" in state:
        found["text_projection"] = state["text_projection.weight"].T
    return found


def written(
    pipeline: Any, path: Path, *, second: bool = False, parts: tuple[str, ...] = ("unet", "vae", "text")
) -> Path:
    """A pipeline's networks in one file; `second`: as of Stable Diffusion 2, whose text encoder is OpenCLIP's."""
    found: dict[str, torch.Tensor] = {"alphas_cumprod": torch.linspace(0.99, 0.01, 1000)}
    whole = {"model.diffusion_model.": unet(pipeline.unet)} if "unet" in parts else {}
    whole |= {"first_stage_model.": vae(pipeline.vae)} if "vae" in parts else {}
    if "text" in parts and hasattr(pipeline, "text_encoder_2"):
        whole["conditioner.embedders.0.transformer."] = clip(pipeline.text_encoder)
        whole["conditioner.embedders.1.model."] = open_clip(pipeline.text_encoder_2)
    elif "text" in parts and second:
        whole["cond_stage_model.model."] = open_clip(pipeline.text_encoder)
    elif "text" in parts:
        whole["cond_stage_model.transformer."] = clip(pipeline.text_encoder)
        found["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(77)[None]
    for prefix, tensors in whole.items():
        found |= {f"{prefix}{key}": tensor.contiguous() for key, tensor in tensors.items()}
    save_file(found, path)
    return path
