"""A first stage by itself: the variational autoencoder in whose latents a whole house of generators works.

Rombach et al. 2022, section 3.1 (KL, f = 4, with an adversarial loss). What is built on it names it as its teacher and
carries a copy. As a generator it decodes its prior, which knows the statistics of latents and not their places.

Shapes: B batch, L latent channels, H height, W width; latents are (B, L, H / 4, W / 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from zoo.contract.graph import Graph
from zoo.contract.spec import GeneratorSpec, Noise
from zoo.family import Branch, Checkpoint, Family, Recipe, System
from zoo.images import to_images
from zoo.networks.first_stage import FirstStage

LATENTS = 4


@dataclass(frozen=True)
class FirstStageConfig:
    """`channels` are the widths at a half and at a quarter of the size."""

    image_channels: int = 3
    latent_channels: int = LATENTS
    channels: tuple[int, int] = (48, 96)


class FirstStageGenerator(nn.Module):
    """`forward(noise)`: (B, 1, L, H / 4, W / 4) -> uint8 NHWC [0, 255]."""

    def __init__(self, config: FirstStageConfig) -> None:
        super().__init__()
        self.first_stage = FirstStage(config.image_channels, config.latent_channels, config.channels)

    def reconstruct(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) in [-1, 1] -> the same, as far as the latents hold it."""
        return cast(Tensor, self.first_stage(self.first_stage.encode(pixels)).clamp(-1.0, 1.0))

    def forward(self, noise: Tensor) -> Tensor:
        return cast(Tensor, to_images(self.first_stage(noise[:, 0])))


def graphs(module: FirstStageGenerator, checkpoint: Checkpoint) -> tuple[Graph, ...]:
    return (Graph("generator", module, checkpoint.spec.inputs, checkpoint.spec.outputs),)


CHECKPOINTS = (
    Checkpoint(
        spec=GeneratorSpec("kl-f4", "first_stage", (Noise("noise", (LATENTS, 16, 16)),), (64, 64, 3), ()),
        config=FirstStageConfig(),
        dataset="illustrations",
        recipe=Recipe(
            "first_stage",
            images=80_000,
            batch_size=32,
            learning_rate=1e-3,
            ema_images=10_000,
            seed=41,
            options={"kl": 1e-4, "adversarial": 0.05, "adversarial_from": 0.5},
            minutes=10.0,
        ),
        paper="Rombach et al. 2022, arXiv:2112.10752",
        description="The first stage of the generators of drawings: 64x64x3 to 16x16x4 and back.",
        faults=(
            "It is a first stage: what it makes of its prior are patterns in the colours of its pictures.",
            "Three eyes side by side run into one bar, and faces of figures in scenes are lost; faces that fill the "
            "picture, hair and outlines come through.",
        ),
        systems=(
            System(
                "VAE with an adversarial loss",
                Branch.AUTOENCODERS,
                "Rombach et al. 2022, arXiv:2112.10752",
                "OpenImages, reconstruction at f = 4: 27.5 dB",
            ),
        ),
    ),
)

FAMILY = Family(build=FirstStageGenerator, graphs=graphs, checkpoints=CHECKPOINTS)
