"""Imported pipelines: latent diffusion told by text or class, its networks built by diffusers and transformers.

A pipeline of diffusers is code that says how networks are called; a `Layout` here says the same in graphs: which text
encoders an `encode_prompt` joins, what the `denoiser` is told, what a first stage decodes. The weights keep the names
that they have there, below the name of their component.

Sources: Rombach et al. 2022 (latent diffusion); Podell et al. 2023 (SDXL); Luo et al. 2023 (LCM); Peebles & Xie 2023
(DiT); Chen et al. 2023 (PixArt); Esser et al. 2024 (SD3); Black Forest Labs 2024 (FLUX); von Platen et al. 2022.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from zoo.contract.conditions import kind
from zoo.contract.graph import BATCH, Graph, TensorSpec
from zoo.errors import GenzooError
from zoo.family import Checkpoint, Family, denoiser_graph
from zoo.networks.pipelines import denoisers, first_stage, text
from zoo.networks.pipelines.sizes import WORDS_OF_T5, pixels_per_latent

MAX_LAYERS = 256
DIFFUSERS = (
    "AutoencoderKL", "DiTTransformer2DModel", "FluxTransformer2DModel", "PixArtTransformer2DModel",
    "SD3Transformer2DModel", "UNet2DConditionModel", "UNet2DModel", "VQModel",
)  # fmt: skip
TRANSFORMERS = {
    "CLIPTextModel": "CLIPTextConfig",
    "CLIPTextModelWithProjection": "CLIPTextConfig",
    "T5EncoderModel": "T5Config",
}
Parts = Mapping[str, Any]


class MissingLibraryError(GenzooError, ImportError):
    """A library that builds networks of imported pipelines is not installed; the message says how it is."""


@dataclass(frozen=True)
class DiffusersPipelineConfig:
    """`components` are the config.json of each network, by the name of its folder, `_class_name` its class.

    `pads` are the tokens that text encoders see behind a text, one each; with `zeros`, an empty text is zeros. The
    rest is of a consistency model: its least level, its data's deviation, whether its image is clipped.
    """

    layout: str = ""
    components: Mapping[str, Any] = field(default_factory=dict)
    pads: tuple[int, ...] = ()
    zeros: bool = False
    sigma_min: float = 0.002
    sigma_data: float = 0.5
    clips: bool = False

    def __post_init__(self) -> None:
        for name, config in self.components.items():
            for key, value in config.items() if isinstance(config, Mapping) else ():
                if "layers" in key and isinstance(value, int) and value > MAX_LAYERS:
                    raise ValueError(f"{key} of {name} is {value}, at most {MAX_LAYERS} are built")


@dataclass(frozen=True)
class Layout:
    """Which graphs a pipeline is: its text encoders in one, its denoiser, its first stage's folder."""

    text: Callable[[Parts, DiffusersPipelineConfig], nn.Module] | None
    denoiser: Callable[[Parts, DiffusersPipelineConfig], nn.Module]
    first_stage: str | None = "vae"


def _last_layer(parts: Parts, config: DiffusersPipelineConfig) -> nn.Module:
    return text.LastLayer(parts["text_encoder"], config.pads[0])


def _last_but_one(parts: Parts, config: DiffusersPipelineConfig) -> nn.Module:
    encoders = [parts[name] for name in ("text_encoder", "text_encoder_2") if name in parts]
    return text.LastButOne(encoders, config.pads[: len(encoders)], config.zeros)


def _masked(parts: Parts, config: DiffusersPipelineConfig) -> nn.Module:
    return text.Masked(parts["text_encoder"], config.pads[0])


def _pooled_and_words(parts: Parts, config: DiffusersPipelineConfig) -> nn.Module:
    return text.PooledAndWords(parts["text_encoder"], parts["text_encoder_2"], config.pads)


def _joined(parts: Parts, config: DiffusersPipelineConfig) -> nn.Module:
    pictures = _last_but_one(parts, config)
    if "text_encoder_3" in parts:
        return text.Joined(pictures, parts["text_encoder_3"], config.pads[2])
    return text.Alone(pictures, parts["transformer"].config.joint_attention_dim, WORDS_OF_T5)


def _sized(parts: Parts, _: DiffusersPipelineConfig) -> nn.Module:
    return denoisers.SizedTextUNet(parts["unet"], pixels_per_latent(parts["vae"].config))


def _masked_transformer(parts: Parts, _: DiffusersPipelineConfig) -> nn.Module:
    return denoisers.MaskedTextTransformer(parts["transformer"], pixels_per_latent(parts["vae"].config))


def _consistency(parts: Parts, config: DiffusersPipelineConfig) -> nn.Module:
    return denoisers.ConsistencyUNet(parts["unet"], config.sigma_min, config.sigma_data, config.clips)


LAYOUTS: dict[str, Layout] = {
    "text": Layout(_last_layer, lambda parts, _: denoisers.TextUNet(parts["unet"])),
    "sized_text": Layout(_last_but_one, _sized),
    "unconditional": Layout(None, lambda parts, _: denoisers.LatentUNet(parts["unet"]), "vqvae"),
    "consistency": Layout(None, _consistency, None),
    "class": Layout(None, lambda parts, _: denoisers.ClassTransformer(parts["transformer"])),
    "masked_text": Layout(_masked, _masked_transformer),
    "joint_text": Layout(_joined, lambda parts, _: denoisers.JointTransformer(parts["transformer"])),
    "packed_text": Layout(_pooled_and_words, lambda parts, _: denoisers.PackedTransformer(parts["transformer"])),
}


def build(config: DiffusersPipelineConfig) -> nn.ModuleDict:
    """The networks with fresh weights, by the names of their folders. Raises ValueError, MissingLibraryError."""
    if config.layout not in LAYOUTS:
        raise ValueError(f"the layout {config.layout[:40]!r} is none of {', '.join(LAYOUTS)}; a newer genzoo's?")
    return nn.ModuleDict({name: component(each) for name, each in sorted(config.components.items())})


def component(config: Mapping[str, Any]) -> nn.Module:
    """One network, by its class and its config."""
    name = str(config.get("_class_name"))
    arguments = {key: value for key, value in config.items() if not key.startswith("_")}
    if name in DIFFUSERS:
        import diffusers

        found: nn.Module = getattr(diffusers, name)(**arguments)
        return found
    if name not in TRANSFORMERS:
        raise ValueError(f"a {name[:60]} is no network that is built here")
    try:
        import transformers
    except ImportError as error:
        raise MissingLibraryError(f"a {name} is built by transformers: `pip install genzoo[pipelines]`") from error
    encoder: nn.Module = getattr(transformers, name)(getattr(transformers, TRANSFORMERS[name])(**arguments))
    return encoder


def graphs(module: nn.ModuleDict, checkpoint: Checkpoint) -> tuple[Graph, ...]:
    spec, config = checkpoint.spec, checkpoint.config
    layout, parts = LAYOUTS[config.layout], dict(module.items())
    found = []
    if layout.text and (prompt := spec.condition("prompt")):
        tokens = tuple(each.batched() for each in kind(prompt).tensors(prompt))
        told = tuple(each.batched() for each in prompt.encoded)
        found.append(Graph("encode_prompt", layout.text(parts, config), tokens, told))
    found.append(denoiser_graph(layout.denoiser(parts, config), spec))
    if layout.first_stage is None:
        return tuple(found)
    network = parts[layout.first_stage]
    height, width, channels = spec.image_shape
    latents = TensorSpec("latents", "float32", (BATCH, *spec.state_shape))
    shape = (BATCH, channels, height, width)
    found.append(Graph("decoder", first_stage.Decode(network), (latents,), (TensorSpec("pixels", "float32", shape),)))
    if spec.sampling and spec.sampling.encodes_images:
        image = TensorSpec("image", "float32", shape)
        found.append(Graph("encode_image", first_stage.Encode(network), (image,), (latents,)))
    return tuple(found)


FAMILY = Family(build=build, graphs=graphs, checkpoints=(), config=DiffusersPipelineConfig)
