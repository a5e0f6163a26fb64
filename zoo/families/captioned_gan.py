"""Text to image by a GAN: a caption and noise become a picture in one call.

The text encoder is a small one of the generator's own and was trained with it. Its mean, beside the noise, is mapped to
a style that tells every convolution what to paint.

Sources: Reed et al. 2016, arXiv:1605.05396 (GAN-CLS); Kang et al. 2023, arXiv:2303.05511 (GigaGAN).

Shapes: B batch, C channels, H height, W width, T tokens, L latent width, D context width, S style width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from zoo.contract.conditions import Condition, text
from zoo.contract.graph import Graph
from zoo.contract.spec import GeneratorSpec, Noise
from zoo.datasets import portraits
from zoo.datasets.critters import CRITTER, WORDS
from zoo.families import text_to_image
from zoo.families.text_to_image import SPECIAL
from zoo.family import Branch, Checkpoint, Family, Recipe, System
from zoo.images import to_images
from zoo.networks.styled import Enlarger, Mapping, Said, Synthesis
from zoo.networks.text import TextEncoder, mean_of

CALM = 0.3  # the speed at which a mapping learns
LENGTH = 10  # tokens of a prompt, its start included
EXAMPLES = tuple(each.caption for each in portraits.examples(24, (CRITTER,)))


@dataclass(frozen=True)
class CaptionedGANConfig:
    """`channels[i]` is the width at `4 * 2**i` pixels; `words` are all that a prompt may say."""

    words: tuple[str, ...] = WORDS
    examples: tuple[str, ...] = EXAMPLES
    channels: tuple[int, ...] = (80, 80, 64, 40, 20)
    discriminator: tuple[int, ...] = (24, 48, 96, 128)
    length: int = LENGTH
    context: int = 64
    layers: int = 1
    latent: int = 32
    style: int = 80
    mapping: int = 2
    image_channels: int = 3
    levels: int = 1  # the sizes, the largest, at which a discriminator sees what is made
    kernels: tuple[int, ...] = ()  # of the bank at each size; none: one kernel everywhere, and no look at words
    enlarger: tuple[int, ...] = ()  # its widths at the size that it is given and at twice that; none: no enlarger

    def text_encoder(self) -> TextEncoder:
        return TextEncoder(len(SPECIAL) + len(self.words), self.length, self.context, self.layers)


class CaptionedGAN(nn.Module):
    """`forward(noise, tokens, mask)`: (B, 1, L), (B, T) int64, (B, T) -> uint8 NHWC [0, 255]."""

    def __init__(self, config: CaptionedGANConfig) -> None:
        super().__init__()
        self.text_encoder = config.text_encoder()
        self.mapping = Mapping(config.latent + config.context, config.style, config.mapping, CALM)
        looks = config.context if config.kernels else 0
        self.synthesis = Synthesis(
            config.image_channels, config.channels, config.style, kernels=config.kernels, context=looks
        )
        self.enlarger: Enlarger | None = None
        if config.enlarger:
            seen, small = config.enlarger
            self.enlarger = Enlarger(config.image_channels, (seen, small), config.style, config.kernels[0])

    def told(self, latents: Tensor, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Said]:
        """(B, L), (B, T), (B, T) -> a style (B, S), and the words by themselves."""
        said = self.text_encoder(tokens, mask)
        return self.mapping(torch.cat([latents, mean_of(*said).to(latents.dtype)], dim=1)), said

    def scales(self, style: Tensor, said: Said) -> list[Tensor]:
        """The picture at each size near [-1, 1], the smallest first, (B, C, H, W)."""
        layers = len(self.synthesis.layers)
        found = self.synthesis.scales(style[:, None].expand(-1, layers, -1), [None] * layers, said)
        if self.enlarger is not None:
            found = [*found, self.enlarger(found[-1], style)]
        return [each.float() for each in found]

    def pixels(self, latents: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """(B, L), (B, T), (B, T) -> (B, C, H, W) near [-1, 1]."""
        return self.scales(*self.told(latents, tokens, mask))[-1]

    def forward(self, noise: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        return cast(Tensor, to_images(self.pixels(noise[:, 0], tokens, mask)))


def graphs(module: CaptionedGAN, checkpoint: Checkpoint) -> tuple[Graph, ...]:
    return (Graph("generator", module, checkpoint.spec.inputs, checkpoint.spec.outputs),)


def spec(name: str, config: CaptionedGANConfig) -> GeneratorSpec:
    side = 4 << (len(config.channels) - 1 + bool(config.enlarger))
    return GeneratorSpec(
        name,
        "captioned_gan",
        (Noise("noise", (config.latent,)),),
        (side, side, config.image_channels),
        (Condition("prompt", "text", text.Options(config.length)),),
    )


GANCLS = CaptionedGANConfig()
GIGAGAN = CaptionedGANConfig(channels=(64, 64, 64, 40), levels=2, kernels=(2, 2, 2), enlarger=(24, 16))

CHECKPOINTS = (
    Checkpoint(
        spec=spec("gan-cls", GANCLS),
        config=GANCLS,
        dataset="critters",
        recipe=Recipe(
            "matching",
            images=16_000,
            batch_size=8,
            learning_rate=1e-2,
            ema_images=2_500,
            seed=12,
            options={"discriminator_rate": 5e-4, "text_rate": 1e-3, "r1": 1.0, "r1_interval": 16, "distance": 3.0},
            minutes=12.0,
        ),
        paper="Reed et al. 2016, arXiv:1605.05396",
        description=(
            f"GAN-CLS: critters from captions of {len(WORDS)} words, against a discriminator that is "
            "also shown real pictures with wrong captions. Its networks are more modern than its name, the "
            "text encoder is trained with the generator, and a distance to the caption's picture is added."
        ),
        faults=(
            "What is on a head is torn or missing, and mouths are hardly ever those that were asked for.",
            "Bodies are mottled and most are domes, white ones lilac.",
            "Another seed changes hardly anything: the distance teaches the generator to ignore its noise.",
        ),
        systems=(System("GAN-CLS", Branch.GANS, "Reed et al. 2016, arXiv:1605.05396"),),
    ),
    Checkpoint(
        spec=spec("gigagan", GIGAGAN),
        config=GIGAGAN,
        dataset="critters",
        recipe=Recipe(
            "matching",
            images=10_000,
            batch_size=8,
            learning_rate=1e-2,
            ema_images=2_500,
            seed=13,
            options={"discriminator_rate": 5e-4, "text_rate": 1e-3, "r1": 1.0, "r1_interval": 16, "distance": 3.0},
            minutes=12.0,
        ),
        paper="Kang et al. 2023, arXiv:2303.05511",
        description=(
            "A small GigaGAN: a caption chooses among kernels, features of 16x16 look at its words, a picture of 32x32 "
            "is judged beside the whole, and an enlarger doubles it. It is trained as `gan-cls` is, with its distance "
            "to the caption's picture; the enlarger shares the caption's style and is no network of its own."
        ),
        faults=(
            "What is on a head is torn: horns, ears and crowns are a smear with dark edges.",
            "Eyes and mouths are nearly the same whatever was asked for: a wink and a crooked smile.",
        ),
        systems=(System("GigaGAN", Branch.GANS, "Kang et al. 2023, arXiv:2303.05511", "COCO 256 zero-shot FID 9.09"),),
    ),
)

FAMILY = Family(build=CaptionedGAN, graphs=graphs, checkpoints=CHECKPOINTS, assets=text_to_image.assets)
