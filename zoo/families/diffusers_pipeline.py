"""Imported pipelines: latent diffusion told by text or class, its networks built by diffusers and transformers.

A pipeline of diffusers is code that says how networks are called; a `Layout` here says the same in graphs: which text
encoders an `encode_prompt` joins, what the `denoiser` is told, what a first stage decodes. The weights keep the names
that they have there, below the name of their component.

Sources: Rombach et al. 2022 (latent diffusion); Podell et al. 2023 (SDXL); Luo et al. 2023 (LCM); Peebles & Xie 2023
(DiT); Chen et al. 2023 (PixArt); Esser et al. 2024 (SD3); Black Forest Labs 2024 (FLUX); Xie et al. 2024 (Sana); von
Platen et al. 2022.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from torch import nn

from zoo.contract.conditions import Condition, kind
from zoo.contract.graph import BATCH, Graph, TensorSpec
from zoo.contract.spec import GeneratorSpec
from zoo.errors import GenzooError
from zoo.family import Checkpoint, Family, denoiser_graph
from zoo.networks import low_rank
from zoo.networks.pipelines import denoisers, first_stage, linear_attention, text
from zoo.networks.pipelines.sizes import INSTRUCTED_WORDS, WORDS_OF_T5, pixels_per_latent

MAX_LAYERS = 256
DIFFUSERS = (
    "AutoencoderDC", "AutoencoderKL", "DiTTransformer2DModel", "FluxTransformer2DModel", "PixArtTransformer2DModel",
    "SanaTransformer2DModel", "SD3Transformer2DModel", "UNet2DConditionModel", "UNet2DModel", "VQModel",
)  # fmt: skip
TRANSFORMERS = {
    "CLIPTextModel": "CLIPTextConfig",
    "CLIPTextModelWithProjection": "CLIPTextConfig",
    "Gemma2Model": "Gemma2Config",
    "T5EncoderModel": "T5Config",
}
Parts = Mapping[str, Any]


class MissingLibraryError(GenzooError, ImportError):
    """A library that builds networks of imported pipelines is not installed; the message says how it is."""


@dataclass(frozen=True)
class DiffusersPipelineConfig:
    """`components` are the config.json of each network, by the name of its folder, `_class_name` its class.

    `pads` are the tokens that text encoders see behind a text, one each; with `zeros`, an empty text is zeros.
    `adapters` are the ranks of low-rank adapters that are told a scale, by the layers' paths, by the adapters' names.
    The rest is of a consistency model: its least level, its data's deviation, whether its image is clipped.
    """

    layout: str = ""
    components: Mapping[str, Any] = field(default_factory=dict)
    pads: tuple[int, ...] = ()
    zeros: bool = False
    sigma_min: float = 0.002
    sigma_data: float = 0.5
    clips: bool = False
    adapters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, config in self.components.items():
            for key, value in config.items() if isinstance(config, Mapping) else ():
                if "layers" in key and isinstance(value, int) and value > MAX_LAYERS:
                    raise ValueError(f"{key} of {name} is {value}, at most {MAX_LAYERS} are built")
        if wrong := [name for name, ranks in self.adapters.items() if not isinstance(ranks, Mapping)]:
            raise ValueError(f"the adapter {wrong[0][:40]} is no object of ranks by the layers' paths")


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


def _instructed(parts: Parts, config: DiffusersPipelineConfig) -> nn.Module:
    return text.Instructed(parts["text_encoder"], config.pads[0], INSTRUCTED_WORDS)


def _pooled_and_words(parts: Parts, config: DiffusersPipelineConfig) -> nn.Module:
    return text.PooledAndWords(parts["text_encoder"], parts["text_encoder_2"], config.pads)


def _joined(parts: Parts, config: DiffusersPipelineConfig) -> nn.Module:
    pictures = _last_but_one(parts, config)
    if "text_encoder_3" in parts:
        return text.Joined(pictures, parts["text_encoder_3"], config.pads[2])
    return text.Alone(pictures, parts["transformer"].config.joint_attention_dim, WORDS_OF_T5)


def _sized(parts: Parts, _: DiffusersPipelineConfig) -> nn.Module:
    return denoisers.SizedTextUNet(parts["unet"], pixels_per_latent(parts["vae"].config))


def _scored(parts: Parts, _: DiffusersPipelineConfig) -> nn.Module:
    return denoisers.ScoredTextUNet(parts["unet"], pixels_per_latent(parts["vae"].config))


def _masked_transformer(parts: Parts, _: DiffusersPipelineConfig) -> nn.Module:
    return denoisers.MaskedTextTransformer(parts["transformer"], pixels_per_latent(parts["vae"].config))


def _consistency(parts: Parts, config: DiffusersPipelineConfig) -> nn.Module:
    return denoisers.ConsistencyUNet(parts["unet"], config.sigma_min, config.sigma_data, config.clips)


LAYOUTS: dict[str, Layout] = {
    "text": Layout(_last_layer, lambda parts, _: denoisers.TextUNet(parts["unet"])),
    "sized_text": Layout(_last_but_one, _sized),
    "scored_text": Layout(_last_but_one, _scored),
    "unconditional": Layout(None, lambda parts, _: denoisers.LatentUNet(parts["unet"]), "vqvae"),
    "consistency": Layout(None, _consistency, None),
    "class": Layout(None, lambda parts, _: denoisers.ClassTransformer(parts["transformer"])),
    "masked_text": Layout(_masked, _masked_transformer),
    "instructed_text": Layout(_instructed, lambda parts, _: denoisers.LinearTransformer(parts["transformer"])),
    "joint_text": Layout(_joined, lambda parts, _: denoisers.JointTransformer(parts["transformer"])),
    "packed_text": Layout(_pooled_and_words, lambda parts, _: denoisers.PackedTransformer(parts["transformer"])),
}


def build(config: DiffusersPipelineConfig) -> nn.ModuleDict:
    """The networks with fresh weights, by the names of their folders, and adapters beside their layers.

    Raises ValueError, MissingLibraryError.
    """
    if config.layout not in LAYOUTS:
        raise ValueError(f"the layout {config.layout[:40]!r} is none of {', '.join(LAYOUTS)}; a newer genzoo's?")
    found = nn.ModuleDict({name: component(each) for name, each in sorted(config.components.items())})
    for name, ranks in config.adapters.items():
        low_rank.attach(found, name, ranks)
    return found


def component(config: Mapping[str, Any]) -> nn.Module:
    """One network, by its class and its config."""
    name = str(config.get("_class_name"))
    arguments = {key: value for key, value in config.items() if not key.startswith("_")}
    if name in DIFFUSERS:
        import diffusers

        return linear_attention.exported(getattr(diffusers, name)(**arguments))
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
    layout, parts = LAYOUTS[config.layout], cast(Parts, dict(module.items()))
    found = []
    if layout.text and (prompt := spec.condition("prompt")):
        text_graph = _encoder(spec, prompt, layout.text(parts, config))
        found.append(low_rank.adapted(text_graph, tuple(config.adapters)))
    denoiser = layout.denoiser(parts, config)
    if spec.repaints and (picture := spec.condition("image")):
        found.append(_encoder(spec, picture, first_stage.EncodeKept(parts["vae"])))
        denoiser = denoisers.Repainting(denoiser, pixels_per_latent(parts["vae"].config))
    found.append(low_rank.adapted(denoiser_graph(denoiser, spec), tuple(config.adapters)))
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


def instruction_of(pipeline: str) -> str:
    """What a class of diffusers puts before a prompt where nobody says otherwise: none of a pipeline's files has it."""
    import diffusers

    taken = inspect.signature(getattr(diffusers, pipeline).__call__).parameters["complex_human_instruction"]
    return "\n".join(taken.default)


def _encoder(spec: GeneratorSpec, condition: Condition, module: nn.Module) -> Graph:
    """The graph that a condition goes through first, its own tensors before those of the conditions beside it."""
    beside = [each for each in spec.conditions if each.name in condition.beside]
    given = tuple(tensor.batched() for each in (condition, *beside) for tensor in kind(each).tensors(each))
    return Graph(str(condition.encoder), module, given, tuple(each.batched() for each in condition.encoded))


FAMILY = Family(build=build, graphs=graphs, checkpoints=(), config=DiffusersPipelineConfig)
