"""What a safetensors file holds that is no generator of this zoo, by the names of its tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable

CONVERT = (
    "convert it with diffusers (from_single_file of its pipeline, then save_pretrained with safe_serialization=True) "
    "and import the folder"
)
KNOWN = (
    "it has neither words nor scheduler: name a checkpoint that has the same networks with --as, one that was imported "
    f"from a folder of diffusers, or {CONVERT}"
)
WHOLE_FOLDER = "import the folder that it is from, with its config.json and the scheduler"
# A pattern that a name of the layout has, and what such a file is; the first that fits.
LAYOUTS = (
    (
        r"lora_(A|B|up|down)\b|\.lora\.(up|down)\.|_lora\.(up|down)\.|lora_unet_|lora_te\d?_|\.hada_w1|\.lokr_w1",
        "is a LoRA, which changes the weights of another network and makes no images by itself: this version uses none",
    ),
    (r"^conditioner\.embedders\.", f"is a single-file checkpoint in the layout of SDXL: {KNOWN}"),
    (r"^model\.diffusion_model\.joint_blocks\.", f"is a single-file checkpoint in the layout of SD 3: {CONVERT}"),
    (
        r"^(model\.diffusion_model|cond_stage_model|first_stage_model)\.",
        f"is a single-file checkpoint in the layout of Stable Diffusion 1.x and 2.x: {KNOWN}",
    ),
    (r"^double_blocks\.\d+\.img_attn\.", f"is a transformer in the layout of FLUX, without the rest: {CONVERT}"),
    (r"^joint_blocks\.\d+\.", f"is a transformer in the layout of SD 3, without the rest: {CONVERT}"),
    (r"^down_blocks\.\d+\..*\.attn2\.", f"holds a U-Net of diffusers that is asked by text, alone: {WHOLE_FOLDER}"),
    (r"^(down_blocks\.\d+\.|time_embedding\.linear_1\.)", f"holds a U-Net of diffusers alone: {WHOLE_FOLDER}"),
    (r"^(input_blocks|output_blocks)\.\d+\.", f"holds a U-Net in the layout of its authors alone: {CONVERT}"),
    (r"^(encoder|decoder)\.(down|up)_blocks\.", f"holds an autoencoder of diffusers alone: {WHOLE_FOLDER}"),
    (r"^text_model\.", f"holds a text encoder alone: {WHOLE_FOLDER}"),
)


def told(names: Iterable[str]) -> str | None:
    """What a file with these tensors is, as a clause, and what to do with it; None for what is not known."""
    names = list(names)
    return next((what for pattern, what in LAYOUTS if any(re.search(pattern, name) for name in names)), None)
