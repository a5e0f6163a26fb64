"""Pipelines of every class that is imported, tiny and with random weights, written by diffusers itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import tokenizers
import torch
import transformers
from tokenizers import models, pre_tokenizers, processors

from zoo.families.diffusers_pipeline import instruction_of

BEGIN, END, FILL = "<|startoftext|>", "<|endoftext|>", "!"
LENGTH = 77


def letters() -> list[str]:
    """A vocabulary of CLIP's kind without merges: each byte, inside a word and at its end."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return [FILL, *(each for each in alphabet if each != FILL), *(f"{each}</w>" for each in alphabet), BEGIN, END]


def clip_tokenizer(folder: Path, pad: str = END) -> Any:
    """As old repositories have it: a vocabulary and merges."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {word: index for index, word in enumerate(letters())}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH, "pad_token": pad})
    )
    return transformers.CLIPTokenizer.from_pretrained(folder)


def clip(width: int = 16, projection: int | None = None, act: str = "quick_gelu") -> Any:
    words = letters()
    config = transformers.CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        projection_dim=projection or width,
        hidden_act=act,
        bos_token_id=words.index(BEGIN),
        eos_token_id=words.index(END),
        pad_token_id=words.index(END),
    )
    kind = transformers.CLIPTextModelWithProjection if projection else transformers.CLIPTextModel
    return louder(kind(config))


def louder(module: Any) -> Any:
    """With weights that let a word be heard: transformers begins near 0."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, parameter.shape[-1] ** -0.5)
    return module.eval()


def unet(context: int = 16, **changes: Any) -> Any:
    arguments: dict[str, Any] = {
        "sample_size": 16,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "cross_attention_dim": context,
        "attention_head_dim": 2,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    return diffusers.UNet2DConditionModel(**{**arguments, **changes}).eval()


def autoencoder(**changes: Any) -> Any:
    arguments: dict[str, Any] = {
        "block_out_channels": (8, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "latent_channels": 4,
        "norm_num_groups": 4,
        "sample_size": 32,
    }
    return diffusers.AutoencoderKL(**{**arguments, **changes}).eval()


LATENT = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def stable(folder: Path, scheduler: Any = None, **changes: Any) -> Any:
    """As Stable Diffusion 1: its own file says PNDM."""
    torch.manual_seed(0)
    leading = {**LATENT, "steps_offset": 1, "set_alpha_to_one": False}
    parts = {
        "unet": unet(),
        "vae": autoencoder(),
        "text_encoder": clip(),
        "tokenizer": clip_tokenizer(folder / "tokenizer"),
        "scheduler": scheduler or diffusers.PNDMScheduler(skip_prk_steps=True, **leading),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }
    return written(diffusers.StableDiffusionPipeline(**{**parts, **changes}), folder)


def inpainting(folder: Path) -> Any:
    """As Stable Diffusion's own for inpainting: a picture and a mask beside its latents."""
    torch.manual_seed(0)
    return written(
        diffusers.StableDiffusionInpaintPipeline(
            unet=unet(in_channels=9), vae=autoencoder(), text_encoder=clip(),
            tokenizer=clip_tokenizer(folder / "tokenizer"),
            scheduler=diffusers.DDIMScheduler(**LATENT, clip_sample=False, steps_offset=1),
            safety_checker=None, feature_extractor=None, requires_safety_checker=False,
        ),
        folder,
    )  # fmt: skip


def stable_xl(
    folder: Path, scheduler: Any = None, kind: Any = diffusers.StableDiffusionXLPipeline, channels: int = 4
) -> Any:
    torch.manual_seed(0)
    added: dict[str, Any] = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}
    added["projection_class_embeddings_input_dim"] = 6 * 8 + 24
    euler = diffusers.EulerDiscreteScheduler(**LATENT, timestep_spacing="leading", steps_offset=1)
    parts = {
        "unet": unet(context=16 + 24, in_channels=channels, **added),
        "vae": autoencoder(scaling_factor=0.13025),
        "text_encoder": clip(16),
        "text_encoder_2": clip(24, projection=24, act="gelu"),
        "tokenizer": clip_tokenizer(folder / "tokenizer"),
        "tokenizer_2": clip_tokenizer(folder / "tokenizer_2", pad=FILL),
        "scheduler": scheduler or euler,
        "add_watermarker": False,
    }
    return written(kind(**parts), folder)


def inpainting_xl(folder: Path) -> Any:
    return stable_xl(folder, kind=diffusers.StableDiffusionXLInpaintPipeline, channels=9)


def refiner(folder: Path) -> Any:
    """As SDXL's: one text encoder, and told how beautiful an image shall be."""
    torch.manual_seed(0)
    added: dict[str, Any] = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}
    return written(
        diffusers.StableDiffusionXLImg2ImgPipeline(
            unet=unet(context=24, projection_class_embeddings_input_dim=5 * 8 + 24, **added),
            vae=autoencoder(scaling_factor=0.13025),
            text_encoder=None,
            text_encoder_2=clip(24, projection=24, act="gelu"),
            tokenizer=None,
            tokenizer_2=clip_tokenizer(folder / "tokenizer_2", pad=FILL),
            scheduler=diffusers.EulerDiscreteScheduler(**LATENT, timestep_spacing="leading", steps_offset=1),
            requires_aesthetics_score=True,
            force_zeros_for_empty_prompt=False,
            add_watermarker=False,
        ),
        folder,
    )


def stable_xl_turbo(folder: Path) -> Any:
    return stable_xl(folder, diffusers.EulerAncestralDiscreteScheduler(**LATENT, timestep_spacing="trailing"))


def consistency(folder: Path) -> Any:
    torch.manual_seed(0)
    return written(
        diffusers.LatentConsistencyModelPipeline(
            unet=unet(time_cond_proj_dim=12),
            vae=autoencoder(),
            text_encoder=clip(),
            tokenizer=clip_tokenizer(folder / "tokenizer"),
            scheduler=diffusers.LCMScheduler(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        ),
        folder,
    )


def t5_tokenizer(length: int = 512) -> Any:
    """Letters and spaces, as T5 ends a text."""
    words = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), ("▁", -2.0)]
    words += [(letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz,."]
    found = tokenizers.Tokenizer(models.Unigram(words, unk_id=2))
    found.pre_tokenizer = pre_tokenizers.Metaspace()
    found.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=found, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=length
    )


def t5(width: int = 16) -> Any:
    config = transformers.T5Config(
        vocab_size=32, d_model=width, d_kv=8, d_ff=2 * width, num_layers=2, num_heads=2, dropout_rate=0.0
    )
    return louder(transformers.T5EncoderModel(config))


def unconditional(folder: Path) -> Any:
    torch.manual_seed(0)
    network = diffusers.UNet2DModel(
        sample_size=16, in_channels=3, out_channels=3, block_out_channels=(8, 16), layers_per_block=1,
        norm_num_groups=4, attention_head_dim=4, down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    codes = diffusers.VQModel(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=3, norm_num_groups=4, num_vq_embeddings=64,
    )  # fmt: skip
    codes.quantize.embedding.weight.data.normal_()
    scheduler = diffusers.DDIMScheduler(**LATENT, clip_sample=False)
    return written(diffusers.LDMPipeline(vqvae=codes.eval(), unet=network.eval(), scheduler=scheduler), folder)


def consistency_model(folder: Path) -> Any:
    torch.manual_seed(0)
    network = diffusers.UNet2DModel(
        sample_size=16, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, attention_head_dim=4,
        num_class_embeds=10, down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    scheduler = diffusers.CMStochasticIterativeScheduler()
    return written(diffusers.ConsistencyModelPipeline(unet=network.eval(), scheduler=scheduler), folder)


def dit(folder: Path) -> Any:
    torch.manual_seed(0)
    network = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=2, sample_size=16,
        patch_size=2, num_embeds_ada_norm=1000, norm_num_groups=4,
    )  # fmt: skip
    scheduler = diffusers.DDIMScheduler(clip_sample=False)
    return written(diffusers.DiTPipeline(transformer=louder(network), vae=autoencoder(), scheduler=scheduler), folder)


def pixart(folder: Path) -> Any:
    torch.manual_seed(0)
    network = diffusers.PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=2, sample_size=16,
        patch_size=2, cross_attention_dim=16, caption_channels=16, norm_num_groups=4, interpolation_scale=1,
    )  # fmt: skip
    scheduler = diffusers.DPMSolverMultistepScheduler()
    return written(
        diffusers.PixArtAlphaPipeline(
            tokenizer=t5_tokenizer(120), text_encoder=t5(), vae=autoencoder(), transformer=louder(network),
            scheduler=scheduler,
        ),
        folder,
    )  # fmt: skip


def stable_3(folder: Path, third: bool = True) -> Any:
    torch.manual_seed(0)
    network = diffusers.SD3Transformer2DModel(
        sample_size=16, patch_size=2, in_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=48, caption_projection_dim=16, pooled_projection_dim=40, out_channels=4,
        pos_embed_max_size=16,
    )  # fmt: skip
    return written(
        diffusers.StableDiffusion3Pipeline(
            transformer=louder(network),
            vae=autoencoder(shift_factor=0.06, scaling_factor=1.5, use_quant_conv=False, use_post_quant_conv=False),
            text_encoder=clip(16, projection=16),
            text_encoder_2=clip(24, projection=24, act="gelu"),
            text_encoder_3=t5(48) if third else None,
            tokenizer=clip_tokenizer(folder / "tokenizer"),
            tokenizer_2=clip_tokenizer(folder / "tokenizer_2", pad=FILL),
            tokenizer_3=t5_tokenizer(256) if third else None,
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        ),
        folder,
    )


def flux(folder: Path, distilled: bool = True) -> Any:
    torch.manual_seed(0)
    network = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=16, pooled_projection_dim=16, guidance_embeds=distilled, axes_dims_rope=(2, 2, 4),
    )  # fmt: skip
    shift = 3.0 if distilled else 1.0
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=distilled, shift=shift)
    return written(
        diffusers.FluxPipeline(
            transformer=louder(network),
            vae=autoencoder(shift_factor=0.1, scaling_factor=0.4, use_quant_conv=False, use_post_quant_conv=False),
            text_encoder=clip(16),
            text_encoder_2=t5(16),
            tokenizer=clip_tokenizer(folder / "tokenizer"),
            tokenizer_2=t5_tokenizer(64),
            scheduler=scheduler,
        ),
        folder,
    )


def gemma_tokenizer() -> Any:
    """Letters, and words of the instruction, behind a mark of the beginning, as a language model reads a text."""
    words = [("<pad>", 0.0), ("<eos>", 0.0), ("<bos>", 0.0), ("<unk>", -9.0), ("▁", -2.0)]
    words += [(chr(code), -3.0) for code in range(33, 127)] + [("\n", -3.0), ("▁c", -2.5)]
    words += [(f"▁{word}", -4.0) for word in sorted(set(instruction_of("SanaPipeline").split(" "))) if len(word) > 1]
    found = tokenizers.Tokenizer(models.Unigram(words, unk_id=3))
    found.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    found.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=found, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>"
    )


def sana(folder: Path, scheduler: Any = None) -> Any:
    """Linear attention, a first stage of 32 pixels a latent here 2, and a language model that reads the prompt."""
    torch.manual_seed(0)
    config = transformers.Gemma2Config(
        vocab_size=512, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8,
    )  # fmt: skip
    first_stage = diffusers.AutoencoderDC(
        in_channels=3, latent_channels=4, attention_head_dim=4, encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8), encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1),
        encoder_block_types=("ResBlock", "EfficientViTBlock"), decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_qkv_multiscales=((), (5,)), decoder_qkv_multiscales=((), (5,)), scaling_factor=0.41407,
    )  # fmt: skip
    network = diffusers.SanaTransformer2DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=8, num_layers=2,
        num_cross_attention_heads=2, cross_attention_head_dim=8, cross_attention_dim=16, caption_channels=16,
        sample_size=16,
    )  # fmt: skip
    return written(
        diffusers.SanaPipeline(
            transformer=network.eval(),
            vae=first_stage.eval(),
            text_encoder=louder(transformers.Gemma2Model(config)),
            tokenizer=gemma_tokenizer(),
            scheduler=scheduler or diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        ),
        folder,
    )


def written(pipeline: Any, folder: Path) -> Any:
    """The pipeline, in a folder as diffusers writes it."""
    pipeline.set_progress_bar_config(disable=True)
    pipeline.save_pretrained(folder)
    return pipeline


# By the names of the table: the class of diffusers, and what writes one.
KINDS: dict[str, Callable[[Path], Any]] = {
    "Stable Diffusion": stable,
    "SDXL": stable_xl,
    "SDXL Turbo": stable_xl_turbo,
    "SD inpainting": inpainting,
    "SDXL inpainting": inpainting_xl,
    "SDXL refiner": refiner,
    "LCM": consistency,
    "Unconditional LDM": unconditional,
    "Consistency model": consistency_model,
    "DiT": dit,
    "PixArt": pixart,
    "SD3": stable_3,
    "SD3 without T5": lambda folder: stable_3(folder, third=False),
    "FLUX dev": flux,
    "FLUX schnell": lambda folder: flux(folder, distilled=False),
    "Sana": sana,
}
