"""What tools call the weights that a low-rank adapter is of -> their names in a pipeline.

diffusers and peft name a layer by its path, kohya's scripts by the path with underscores, in the network that they
train: that of diffusers, or the one that its authors wrote. There the blocks of a U-Net are counted through (Rombach et
al. 2022), and one layer of FLUX is what diffusers has as several, whose rows lie one after another.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from itertools import count, takewhile

KOHYA = {
    "unet": ("lora_unet_",),
    "transformer": ("lora_transformer_", "lora_unet_"),
    "text_encoder": ("lora_te_", "lora_te1_"),
    "text_encoder_2": ("lora_te2_",),
    "text_encoder_3": ("lora_te3_",),
}
PEFT = "base_model.model."  # before the path of a network that was trained alone
DENOISERS = ("unet", "transformer")
BLOCKS_OF_TEXT = "text_model."  # older versions of transformers have it before every encoder of CLIP, newer before some
RESNET = {
    "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}  # fmt: skip
OUTSIDE = {
    "conv_in": "input_blocks.0.0", "conv_out": "out.2", "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2", "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}  # fmt: skip
DOUBLE = {
    "img_attn_qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "img_attn_proj": ("attn.to_out.0",),
    "img_mlp_0": ("ff.net.0.proj",),
    "img_mlp_2": ("ff.net.2",),
    "img_mod_lin": ("norm1.linear",),
    "txt_attn_qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "txt_attn_proj": ("attn.to_add_out",),
    "txt_mlp_0": ("ff_context.net.0.proj",),
    "txt_mlp_2": ("ff_context.net.2",),
    "txt_mod_lin": ("norm1_context.linear",),
}
SINGLE = {
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "linear2": ("proj_out",),
    "modulation_lin": ("norm.linear",),
}
AROUND = {
    "img_in": "x_embedder", "txt_in": "context_embedder", "final_layer_linear": "proj_out",
    "time_in_in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in_out_layer": "time_text_embed.timestep_embedder.linear_2",
    "vector_in_in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in_out_layer": "time_text_embed.text_embedder.linear_2",
    "guidance_in_in_layer": "time_text_embed.guidance_embedder.linear_1",
    "guidance_in_out_layer": "time_text_embed.guidance_embedder.linear_2",
}  # fmt: skip


def spoken(layers: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Every name under which a file may speak of a pipeline's layers, and those layers, in the order of their rows."""
    found: dict[str, tuple[str, ...]] = {}
    for layer in layers:
        component, _, path = layer.partition(".")
        for name in _names(component, path):
            found.setdefault(name, (layer,))
    for name, parts in _of_flux(layers):
        if all(part in layers for part in parts):
            found.setdefault(name, parts)
    return found | {name: (layer,) for name, layer in _of_authors(layers) if layer in layers}


def heard(name: str) -> str:
    """A layer's path without what older versions of diffusers put into it."""
    name = re.sub(r"\.processor\.(to_[qkv])$", r".\1", name)
    name = re.sub(r"\.processor\.to_out$", ".to_out.0", name)
    name = re.sub(r"\.self_attn\.to_([qkv])$", r".self_attn.\1_proj", name)
    return re.sub(r"\.self_attn\.to_out$", ".self_attn.out_proj", name)


def _names(component: str, path: str) -> Iterator[str]:
    paths = [path]
    if component.startswith("text_encoder"):
        paths.append(path.removeprefix(BLOCKS_OF_TEXT) if path.startswith(BLOCKS_OF_TEXT) else BLOCKS_OF_TEXT + path)
    for each in paths:
        yield f"{component}.{each}"
        for prefix in KOHYA.get(component, ()):
            yield prefix + each.replace(".", "_")
    if component in DENOISERS:
        yield PEFT + path
        yield path


def _of_flux(layers: Collection[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    if not _there(layers, "transformer.single_transformer_blocks."):
        return
    for ours, theirs, table in (
        ("transformer_blocks", "double", DOUBLE),
        ("single_transformer_blocks", "single", SINGLE),
    ):
        for index in _counted(layers, f"transformer.{ours}"):
            for name, parts in table.items():
                found = tuple(f"transformer.{ours}.{index}.{part}" for part in parts)
                yield f"lora_unet_{theirs}_blocks_{index}_{name}", found
    for name, part in AROUND.items():
        yield f"lora_unet_{name}", (f"transformer.{part}",)


def _of_authors(layers: Collection[str]) -> Iterator[tuple[str, str]]:
    """The names of a U-Net's layers as its authors count its blocks, with underscores."""
    blocks = {**dict(_blocks(layers)), **OUTSIDE}
    for layer in layers:
        component, _, path = layer.partition(".")
        block = next((each for each in blocks if path == each or path.startswith(f"{each}.")), None)
        if component == "unet" and block:
            rest = path.removeprefix(block).removeprefix(".")
            inner = RESNET.get(rest, rest) if ".resnets." in path else rest
            yield f"lora_unet_{blocks[block]}.{inner}".rstrip(".").replace(".", "_"), layer


def _blocks(layers: Collection[str]) -> Iterator[tuple[str, str]]:
    """Each block of a U-Net: as diffusers calls it, as its authors do."""
    at = 1
    for level in _counted(layers, "unet.down_blocks"):
        down = f"down_blocks.{level}"
        for index in _counted(layers, f"unet.{down}.resnets"):
            yield f"{down}.resnets.{index}", f"input_blocks.{at}.0"
            yield f"{down}.attentions.{index}", f"input_blocks.{at}.1"
            at += 1
        yield f"{down}.downsamplers.0.conv", f"input_blocks.{at}.0.op"
        at += 1
    for at, inner in enumerate(("resnets.0", "attentions.0", "resnets.1")):
        yield f"mid_block.{inner}", f"middle_block.{at}"
    at = 0
    for level in _counted(layers, "unet.up_blocks"):
        up = f"up_blocks.{level}"
        for index in _counted(layers, f"unet.{up}.resnets"):
            yield f"{up}.resnets.{index}", f"output_blocks.{at}.0"
            yield f"{up}.attentions.{index}", f"output_blocks.{at}.1"
            at += 1
        place = 2 if _there(layers, f"unet.{up}.attentions.") else 1
        yield f"{up}.upsamplers.0.conv", f"output_blocks.{at - 1}.{place}.conv"


def _counted(layers: Collection[str], before: str) -> Iterable[int]:
    return takewhile(lambda index: _there(layers, f"{before}.{index}."), count())


def _there(layers: Collection[str], before: str) -> bool:
    return any(each.startswith(before) for each in layers)
