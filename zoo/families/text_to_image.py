"""Text to image: flow matching on the latents of a first stage, with a text encoder that it looks at word by word.

Sources: Rombach et al. 2022 (latent diffusion, cross-attention, a text encoder trained with the U-Net); Lipman et al.
2023 (flow matching); Ho & Salimans 2022 (guidance: the empty prompt is the null, and a negative one takes its place).

Shapes: B batch, L tokens, D context width, C image channels, H height, W width; latents are (B, 4, H / 4, W / 4).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from zoo.contract.conditions import Condition, text
from zoo.contract.graph import BATCH, Graph, TensorSpec
from zoo.contract.request import Setting
from zoo.contract.spec import GeneratorSpec, Noise, Sampling
from zoo.datasets import portraits
from zoo.datasets.portrait_styles import WORDS
from zoo.family import Branch, Checkpoint, Family, Recipe, System, denoiser_graph
from zoo.networks.first_stage import Encoder, FirstStage
from zoo.networks.text import TextEncoder, TextUNet
from zoo.networks.unet import UNetConfig

SPECIAL = ("[pad]", "[unk]", "[start]")  # the first tokens; every prompt begins with the last of them
LATENTS = 4
LENGTH = 12  # tokens of a prompt, its start included


def _unet() -> UNetConfig:
    return UNetConfig(image_channels=LATENTS, patch=1, channels=(64, 128), embedding=256, num_classes=0)


@dataclass(frozen=True)
class TextToImageConfig:
    """`words` are all that a prompt may say, `examples` prompts for when nobody gives one.

    `channels` are the first stage's widths at a half and at a quarter of the size.
    """

    words: tuple[str, ...]
    examples: tuple[str, ...] = ()
    length: int = LENGTH
    context: int = 128
    layers: int = 2
    image_channels: int = 3
    channels: tuple[int, int] = (48, 96)
    denoiser: UNetConfig = field(default_factory=_unet)
    rounds: int = 2


class TextToImage(nn.Module):
    def __init__(self, config: TextToImageConfig) -> None:
        super().__init__()
        self.first_stage = FirstStage(config.image_channels, LATENTS, config.channels)
        vocabulary = len(SPECIAL) + len(config.words)
        self.text_encoder = TextEncoder(vocabulary, config.length, config.context, config.layers)
        self.denoiser = TextUNet(config.denoiser, config.context, config.rounds)

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """What is diffused: the normalized means."""
        return self.first_stage.encode(pixels)


def tokenizer(config: TextToImageConfig) -> Any:
    """Words of a closed vocabulary, split at spaces, in lower case; one that is not in it is "[unk]"."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary = {word: index for index, word in enumerate((*SPECIAL, *config.words))}
    found = Tokenizer(models.WordLevel(vocabulary, unk_token="[unk]"))
    found.normalizer = normalizers.Lowercase()
    found.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    start = ("[start]", vocabulary["[start]"])
    found.post_processor = processors.TemplateProcessing(single="[start] $A", special_tokens=[start])
    return found


def prompt(config: TextToImageConfig) -> Condition:
    """The one condition, which the denoiser takes as the text encoder's context and bias."""
    context = TensorSpec("prompt_context", "float32", (config.length, config.context))
    bias = TensorSpec("prompt_bias", "float32", (config.length,))
    return Condition("prompt", "text", text.Options(config.length), guided=True, encoded=(context, bias))


def graphs(module: TextToImage, checkpoint: Checkpoint) -> tuple[Graph, ...]:
    spec = checkpoint.spec
    (condition,) = spec.conditions
    tokens = tuple(each.batched() for each in text.tensors(condition))
    latents = TensorSpec("latents", "float32", (BATCH, *spec.state_shape))
    height, width, channels = spec.image_shape
    shape = (BATCH, channels, height, width)
    return (
        Graph("encode_prompt", module.text_encoder, tokens, tuple(each.batched() for each in condition.encoded)),
        denoiser_graph(module.denoiser, spec),
        Graph("decoder", module.first_stage, (latents,), (TensorSpec("pixels", "float32", shape),)),
        Graph("encode_image", Encoder(module.first_stage), (TensorSpec("image", "float32", shape),), (latents,)),
    )


def assets(checkpoint: Checkpoint) -> dict[str, bytes]:
    """The words that it knows, and prompts for when nobody gives one."""
    config: TextToImageConfig = checkpoint.config
    examples = json.dumps({"prompt": config.examples}, indent=1).encode()
    return {"tokenizer.json": tokenizer(config).to_str(pretty=True).encode(), "examples.json": examples}


T2I = TextToImageConfig(words=WORDS, examples=portraits.examples(24))

CHECKPOINTS = (
    Checkpoint(
        spec=GeneratorSpec(
            "t2i",
            "text_to_image",
            (Noise("noise", (LATENTS, 16, 16)),),
            (64, 64, 3),
            (prompt(T2I),),
            Sampling(
                "velocity",
                "linear",
                ("ddim", "heun", "dpmpp_2m", "ddpm"),
                num_steps=20,
                max_guidance_scale=8.0,
                encodes_images=True,
            ),
        ),
        config=T2I,
        dataset="portraits",
        recipe=Recipe(
            "text_to_image",
            images=192_000,
            batch_size=32,
            learning_rate=1e-3,
            ema_images=10_000,
            seed=31,
            options={
                "first_stage": 0.27,
                "kl": 1e-4,
                "adversarial": 0.05,
                "caption_dropout": 0.1,
                "shortened": 0.3,
                "word_dropout": 0.15,
            },
            minutes=25.0,
        ),
        paper="Rombach et al. 2022, arXiv:2112.10752; Lipman et al. 2023, arXiv:2210.02747",
        description="Text to image: pictures of six designs from captions of 103 words, with a negative prompt.",
        faults=(
            "Colours, shapes, plants and hair are nearly always what the prompt says, small parts are not: mouths, "
            "many eyes, and the surfaces of planets are often another's or smeared.",
            "Rings and moons of planets are specks, and faces of peeps are smudged.",
            "It knows the words of its captions in their order and nothing else.",
        ),
        systems=(
            System(
                "Text-to-image latent diffusion",
                Branch.DIFFUSION,
                "Rombach et al. 2022, arXiv:2112.10752",
                "MS-COCO 256 FID 12.63 in 250 steps, guided",
                setting=Setting(guidance_scale=3.0),
            ),
        ),
    ),
)

FAMILY = Family(build=TextToImage, graphs=graphs, checkpoints=CHECKPOINTS, assets=assets)
