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
from zoo.datasets import design_styles, designs, portraits, scenes
from zoo.family import Branch, Checkpoint, Family, Recipe, System, denoiser_graph
from zoo.networks.first_stage import Encoder, FirstStage
from zoo.networks.text import TextEncoder, TextUNet
from zoo.networks.unet import UNetConfig

SPECIAL = ("[pad]", "[unk]", "[start]")  # the first tokens; every prompt begins with the last of them
LATENTS = 4
LENGTH = 12  # tokens of a prompt, its start included
SIZE, STATE_SIZE = 64, 16  # sides of a picture, and of what is diffused


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
    condition = spec.conditions[0]
    tokens = tuple(each.batched() for each in text.tensors(condition))
    latents = TensorSpec("latents", "float32", (BATCH, *spec.state_shape))
    height, width, channels = spec.image_shape
    shape = (BATCH, channels, height, width)
    found = (
        Graph("encode_prompt", module.text_encoder, tokens, tuple(each.batched() for each in condition.encoded)),
        denoiser_graph(module.denoiser, spec),
        Graph("decoder", module.first_stage, (latents,), (TensorSpec("pixels", "float32", shape),)),
    )
    if not (spec.sampling and spec.sampling.encodes_images):
        return found
    image = TensorSpec("image", "float32", shape)
    return (*found, Graph("encode_image", Encoder(module.first_stage), (image,), (latents,)))


def assets(checkpoint: Checkpoint) -> dict[str, bytes]:
    """The words that it knows, and prompts for when nobody gives one."""
    config: TextToImageConfig = checkpoint.config
    examples = json.dumps({"prompt": config.examples}, indent=1).encode()
    return {"tokenizer.json": tokenizer(config).to_str(pretty=True).encode(), "examples.json": examples}


BASE = TextToImageConfig(
    words=tuple(sorted({*design_styles.WORDS, *scenes.WORDS})),
    examples=tuple(
        designs.whole(portraits.examples(turn + 1, (style,))[turn])
        for turn in range(2)
        for style in design_styles.DESIGNS
    ),
)


def spec(name: str, config: TextToImageConfig) -> GeneratorSpec:
    """Of a generator of 64x64 pictures by a prompt."""
    return GeneratorSpec(
        name,
        "text_to_image",
        (Noise("noise", (LATENTS, STATE_SIZE, STATE_SIZE)),),
        (SIZE, SIZE, 3),
        (prompt(config),),
        Sampling(
            "velocity",
            "linear",
            ("ddim", "heun", "dpmpp_2m", "ddpm"),
            num_steps=20,
            max_guidance_scale=8.0,
            encodes_images=True,
        ),
    )


CHECKPOINTS = (
    Checkpoint(
        spec=spec("t2i-base", BASE),
        config=BASE,
        dataset="designs",
        recipe=Recipe(
            "text_to_image",
            images=640_000,
            batch_size=48,
            learning_rate=1e-3,
            ema_images=10_000,
            seed=42,
            options={"contrastive": 0.1, "caption_dropout": 0.1, "logit_normal": True},
            minutes=75.0,
        ),
        teacher="kl-f4",
        paper="Rombach et al. 2022, arXiv:2112.10752; Lipman et al. 2023, arXiv:2210.02747",
        description=(
            f"Text to image: pictures of twelve designs from captions of {len(design_styles.WORDS)} words in any order "
            "by a text encoder that was trained contrastively first, with a negative prompt: what others are built on."
        ),
        faults=(
            "Of planets the surface, rings and moons, of moods mouth and cheeks are often another's than was asked.",
            "Fine lines and the faces of peeps are soft: the first stage keeps 27 dB.",
            "It knows the words of its captions and nothing else; those of scenes are in its vocabulary for what is "
            "tuned from it, and mean nothing to it.",
        ),
        systems=(
            System(
                "Text-to-image with a contrastive text encoder",
                Branch.DIFFUSION,
                "Rombach et al. 2022, arXiv:2112.10752",
                "MS-COCO 256 FID 12.63 in 250 steps, guided",
                setting=Setting(guidance_scale=3.0),
            ),
            System(
                "Latent diffusion in colour",
                Branch.DIFFUSION,
                "Rombach et al. 2022, arXiv:2112.10752",
                "LAION text to image, 1.45 billion parameters, MS-COCO 256 FID 23.31 in 250 steps without guidance",
            ),
        ),
    ),
)

FAMILY = Family(build=TextToImage, graphs=graphs, checkpoints=CHECKPOINTS, assets=assets)
