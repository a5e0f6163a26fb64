"""Generative adversarial networks: noise, and a class if there are any, become an image in one call.

With a style, noise and class modulate every convolution; without one the network is DCGAN's, with batch normalization.

Sources: Goodfellow et al. 2014 (the objective); Radford et al. 2016 (DCGAN); Miyato & Koyama 2018 (projection);
Mescheder et al. 2018 (R1); Karras et al. 2019 (styles).

Shapes: B batch, C channels, H height, W width, L latent width.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.contract.graph import Graph
from zoo.family import Branch, Checkpoint, Family, Recipe, System, class_conditional
from zoo.images import to_images

DATASET = "fashion_mnist"  # of every checkpoint here


@dataclass(frozen=True)
class GANConfig:
    """`channels[i]` is the width at `4 * 2**i` pixels; `discriminator[i]` that at `16 / 2**i`.

    Without classes there is no embedding, whatever its width; `style` 0 stands for batch normalization.
    """

    image_channels: int = 1
    channels: tuple[int, ...] = (160, 96, 48, 24)
    discriminator: tuple[int, ...] = (32, 64, 128)
    latent: int = 128
    embedding: int = 64
    style: int = 128
    num_classes: int = 10
    groups: int = 8


class StyledConv(nn.Module):
    """A convolution, normalized within its own image, then scaled and shifted by the style."""

    def __init__(self, conv: nn.Module, width: int, config: GANConfig) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.GroupNorm(config.groups, width, affine=False)
        self.style = nn.Linear(config.style, 2 * width)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:  # (B, C, H, W), (B, style)
        scale, shift = self.style(style)[:, :, None, None].chunk(2, dim=1)
        return F.leaky_relu(self.norm(self.conv(x)) * (1.0 + scale) + shift, 0.2)


class GANGenerator(nn.Module):
    """`forward(noise, class_ids)`: (B, 1, L), (B, 1) int64 -> uint8 NHWC [0, 255]; without classes `forward(noise)`."""

    def __init__(self, config: GANConfig) -> None:
        super().__init__()
        self.width = config.channels[0]
        latent = config.latent + (config.embedding if config.num_classes else 0)
        if config.num_classes:
            self.class_embedding = nn.Embedding(config.num_classes, config.embedding)
        self.mapping = nn.Linear(latent, config.style) if config.style else None
        self.expand = nn.Linear(latent, 16 * self.width)
        layers: list[nn.Module] = []
        for width_in, width in pairwise(config.channels):
            doubled = nn.ConvTranspose2d(width_in, width, 4, stride=2, padding=1)  # DCGAN's, a quarter of the work
            layers.append(StyledConv(doubled, width, config) if config.style else _batch_conv(doubled, width))
        self.layers = nn.ModuleList(layers)
        self.to_pixels = nn.Conv2d(config.channels[-1], config.image_channels, 3, padding=1)

    def pixels(self, latents: Tensor, class_ids: Tensor | None = None) -> Tensor:
        """(B, L), (B,) -> (B, C, H, W) in [-1, 1]."""
        z = latents if class_ids is None else torch.cat([latents, self.class_embedding(class_ids)], dim=1)
        style = (F.leaky_relu(self.mapping(z), 0.2),) if self.mapping else ()
        h = F.leaky_relu(self.expand(z).reshape(-1, self.width, 4, 4), 0.2)
        for layer in self.layers:
            h = layer(h, *style)
        return cast(Tensor, self.to_pixels(h).float().tanh())

    def forward(self, noise: Tensor, class_ids: Tensor | None = None) -> Tensor:
        return cast(Tensor, to_images(self.pixels(noise[:, 0], None if class_ids is None else class_ids[:, 0])))


def _batch_conv(conv: nn.Module, width: int) -> nn.Module:
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.LeakyReLU(0.2))


def graphs(module: GANGenerator, checkpoint: Checkpoint) -> tuple[Graph, ...]:
    return (Graph("generator", module, checkpoint.spec.inputs, checkpoint.spec.outputs),)


CHECKPOINTS = (
    Checkpoint(
        spec=class_conditional("gan", "gan", (128,), (32, 32, 1), 10),
        dataset=DATASET,
        config=GANConfig(),
        recipe=Recipe(
            "adversarial",
            images=240_000,
            batch_size=64,
            learning_rate=5e-4,
            ema_images=10_000,
            seed=12,
            options={"r1": 1.0, "r1_interval": 16},
            minutes=20.0,
        ),
        paper="Miyato & Koyama 2018, arXiv:1802.05637",
        description=(
            "A conditional GAN of 2018: a generator whose class and noise modulate every convolution (styles, Karras "
            "et al. 2019), a projection discriminator, and R1 (Mescheder et al. 2018, arXiv:1801.04406). Nothing of "
            "the first conditional GAN is left but the idea."
        ),
        faults=("Some shirts, bags and sandals are torn or speckled.",),
        systems=(
            System(
                "Projection GAN with R1",
                Branch.GANS,
                "Miyato & Koyama 2018, arXiv:1802.05637",
                "ImageNet 128 intra-FID 92.4",
            ),
        ),
    ),
    Checkpoint(
        spec=class_conditional("gan-u", "gan", (64,), (32, 32, 1), 0),
        dataset=DATASET,
        config=GANConfig(channels=(96, 64, 48, 24), latent=64, style=0, num_classes=0),
        recipe=Recipe(
            "relativistic",
            images=80_000,
            batch_size=64,
            learning_rate=5e-4,
            ema_images=10_000,
            seed=14,
            options={"penalty": [1.0, 0.3], "penalized": 8},
            minutes=8.0,
        ),
        paper="Radford et al. 2016, arXiv:1511.06434",
        description=(
            "An unconditional GAN: DCGAN's generator under the objective of R3GAN (Huang et al. 2025, "
            "arXiv:2501.05441), in pairs and with penalties on the gradient at real and at generated images."
        ),
        systems=(
            System(
                "DCGAN under R3GAN's objective",
                Branch.GANS,
                "Radford et al. 2016, arXiv:1511.06434",
                "CIFAR-10 accuracy 82.8 % by its discriminator's features, under the objective of 2014",
            ),
        ),
        faults=(
            "Many sandals, bags and dark clothes are smudged or torn, and some images are no piece of clothing.",
            "A faint weave, of the strided convolutions, lies over many clothes.",
        ),
    ),
    Checkpoint(
        spec=class_conditional("r3gan", "gan", (128,), (32, 32, 1), 10),
        dataset=DATASET,
        config=GANConfig(),
        recipe=Recipe(
            "relativistic",
            images=240_000,
            batch_size=64,
            learning_rate=5e-4,
            ema_images=10_000,
            seed=50,
            options={"penalty": [1.0, 0.3], "penalized": 8},
            minutes=12.0,
        ),
        paper="Huang et al. 2025, arXiv:2501.05441",
        description=(
            "The objective of R3GAN on the networks of `gan`: a relativistic loss, and penalties on the gradient at "
            "real and at generated images. Its plain network, without normalization or styles, is not here: this small "
            "and trained this briefly, it collapsed."
        ),
        faults=("Some sandals, bags and printed clothes are torn or speckled, a few of them beyond knowing.",),
        systems=(
            System(
                "R3GAN's objective",
                Branch.GANS,
                "Huang et al. 2025, arXiv:2501.05441",
                "CIFAR-10 FID 1.96, with classes, with its own network",
            ),
        ),
    ),
    Checkpoint(
        spec=class_conditional("drift", "gan", (128,), (32, 32, 1), 10),
        dataset=DATASET,
        config=GANConfig(),
        recipe=Recipe(
            "drifting",
            images=400_000,
            batch_size=256,
            learning_rate=2e-3,
            ema_images=20_000,
            seed=44,
            options={"features": "maps", "temperatures": [0.02, 0.05, 0.2], "classes": 4},
            minutes=11.0,
        ),
        teacher="dae",
        paper="Deng et al. 2026, arXiv:2602.04770",
        description=(
            "A drifting model: the generator of `gan`, whose pictures follow a drift towards real ones and away from "
            "each other, by a kernel of the features of `dae`. No discriminator."
        ),
        faults=(
            "A regular weave lies over most clothes: the features that it follows hardly see it.",
            "Some bags, sandals and dresses are only a pattern within the right outline.",
        ),
        systems=(
            System(
                "Drifting model",
                Branch.FEW_STEPS,
                "Deng et al. 2026, arXiv:2602.04770",
                "ImageNet 256 FID 1.54 in 1",
            ),
        ),
    ),
)

FAMILY = Family(build=GANGenerator, graphs=graphs, checkpoints=CHECKPOINTS)
