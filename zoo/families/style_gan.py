"""StyleGAN: noise is mapped to a style, and the style tells every convolution what to paint, in one call.

A truncation, psi, draws styles towards their mean: what is rare is given up for what is sure. It is a condition, so one
batch may mix any. Each layer has a plane of noise besides, for what no style should have to say.

Sources: Karras et al. 2019, arXiv:1812.04948; Karras et al. 2020, arXiv:1912.04958 (the network without artifacts).

Shapes: B batch, C channels, H height, W width, L latent width, S style width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from zoo.contract.conditions import Condition, scalar
from zoo.contract.graph import Graph
from zoo.contract.spec import GeneratorSpec, Noise
from zoo.family import Branch, Checkpoint, Family, Recipe, System
from zoo.images import to_images
from zoo.networks.styled import Mapping, Synthesis

PSI = "psi"
SMALLEST = 4
CALM = 0.1  # the speed at which the mapping learns


@dataclass(frozen=True)
class StyleGANConfig:
    """`channels[i]` is the width at `4 * 2**i` pixels, `mapping` the layers from noise to style."""

    channels: tuple[int, ...] = (96, 96, 64, 40, 20)
    discriminator: tuple[int, ...] = (24, 48, 96, 128)
    latent: int = 64
    style: int = 96
    mapping: int = 3
    image_channels: int = 3


class StyleGAN(nn.Module):
    """`forward(noise, *grains, psi)`: (B, 1, L), a (B, 1, layers, side, side) for each size, (B, 1) -> uint8 NHWC."""

    centre: Tensor

    def __init__(self, config: StyleGANConfig) -> None:
        super().__init__()
        self.mapping = Mapping(config.latent, config.style, config.mapping, CALM)
        self.synthesis = Synthesis(config.image_channels, config.channels, config.style)
        self.register_buffer("centre", torch.zeros(config.style))  # the mean style

    def styles(self, latents: Tensor, psi: Tensor) -> Tensor:
        """(B, L), (B, 1) in [0, 1] -> (B, layers, S), a style for all layers."""
        style = self.mapping(latents)
        truncated: Tensor = self.centre + psi * (style - self.centre)
        return truncated[:, None].expand(-1, len(self.synthesis.layers), -1)

    def forward(self, *given: Tensor) -> Tensor:
        noise, *grains, psi = given
        planes = [grain[:, 0, place, None] for grain in grains for place in range(grain.shape[2])]
        return cast(Tensor, to_images(self.synthesis(self.styles(noise[:, 0], psi), planes).float()))


def grains(channels: Sequence[int]) -> tuple[Noise, ...]:
    """The planes of noise, of one size each: one for the first layer and two for those of any other size."""
    sides = [SMALLEST << depth for depth in range(len(channels))]
    return tuple(
        Noise(f"grain_{side}", (1 + (side > SMALLEST), side, side), 1 + turn) for turn, side in enumerate(sides)
    )


def graphs(module: StyleGAN, checkpoint: Checkpoint) -> tuple[Graph, ...]:
    return (Graph("generator", module, checkpoint.spec.inputs, checkpoint.spec.outputs),)


def spec(name: str, config: StyleGANConfig) -> GeneratorSpec:
    side = SMALLEST << (len(config.channels) - 1)
    return GeneratorSpec(
        name,
        "style_gan",
        (Noise("noise", (config.latent,)), *grains(config.channels)),
        (side, side, config.image_channels),
        (Condition(PSI, "scalar", scalar.Options(0.0, 1.0), default=1.0),),
    )


STYLEGAN = StyleGANConfig()

CHECKPOINTS = (
    Checkpoint(
        spec=spec("stylegan", STYLEGAN),
        config=STYLEGAN,
        dataset="critters",
        recipe=Recipe(
            "styles",
            images=9_000,
            batch_size=8,
            learning_rate=1e-2,
            ema_images=2_500,
            seed=4,
            options={
                "discriminator_rate": 5e-4,
                "encoder_rate": 1e-3,
                "r1": 1.0,
                "r1_interval": 16,
                "mixed": 0.5,
                "distance": 3.0,
                "divergence": 0.02,
            },
            minutes=12.0,
        ),
        paper="Karras et al. 2019, arXiv:1812.04948; Karras et al. 2020, arXiv:1912.04958",
        description=(
            "StyleGAN: critters from a mapped style that tells every layer what to paint, with a truncation. Its "
            "network is that of the second version, with modulated convolutions and skips. An encoder stood beside it "
            "in training, as its losses alone collapsed to one picture in a run this short."
        ),
        faults=(
            "Nearly all are domes with one face, an eye winking over a crooked smile; what is on a head is a smear.",
            "Grounds are clouded by other colours, and edges have bright and dark fringes.",
        ),
        systems=(System("StyleGAN", Branch.GANS, "Karras et al. 2019, arXiv:1812.04948", "FFHQ 1024 FID 4.40"),),
    ),
)

FAMILY = Family(build=StyleGAN, graphs=graphs, checkpoints=CHECKPOINTS)
