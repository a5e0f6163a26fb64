"""A vector-quantized autoencoder with an autoregressive prior: pictures as maps of codes, drawn one after the other.

Sources: van den Oord et al. 2017 (VQ-VAE); van den Oord et al. 2016a, 2016b (PixelCNN, gated and conditional).

The generator is one execution: noise -> Gumbel noise -> a loop over the positions of the map -> the decoder. A draw is
discrete, so where the two best codes of a position come closer than two runtimes' roundings, they may part company;
the study `codes` counts how often.

Shapes: B batch, C channels, H height, W width, D width of a code's vector, K codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.contract.graph import Graph
from zoo.family import Branch, Checkpoint, Family, Recipe, System, class_conditional
from zoo.images import to_images
from zoo.networks.causal import PixelCNN
from zoo.networks.convolutional import doublings, halvings

DATASET = "fashion_mnist"  # of every checkpoint here


@dataclass(frozen=True)
class VQVAEConfig:
    """`channels[i]` is the width at `size / 2**(i + 1)`; codes lie at the last of these sizes."""

    image_channels: int = 1
    size: int = 32
    channels: tuple[int, ...] = (48, 96)
    codes: int = 128
    code_width: int = 16
    prior_width: int = 96
    prior_blocks: int = 6
    prior_reach: int = 3  # of the prior's first layer
    num_classes: int = 10

    @property
    def side(self) -> int:
        return self.size >> len(self.channels)


class Quantizer(nn.Module):
    """`forward(codes)`: (B, H, W) int64 -> their vectors, (B, D, H, W)."""

    codebook: Tensor

    def __init__(self, codes: int, width: int) -> None:
        super().__init__()
        self.register_buffer("codebook", torch.randn(codes, width))

    def nearest(self, vectors: Tensor) -> Tensor:
        """(..., D) -> the codes of least distance, (...) int64."""
        distances = self.codebook.square().sum(1) - 2.0 * vectors @ self.codebook.T
        return distances.argmin(-1)

    def forward(self, codes: Tensor) -> Tensor:
        return F.embedding(codes, self.codebook).permute(0, 3, 1, 2)


class VQVAE(nn.Module):
    """`forward(noise, class_ids)`: (B, 1, H W, 2 K), (B, 1) int64 -> uint8 NHWC [0, 255]."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.side, self.codes = config.side, config.codes
        self.encoder = nn.Sequential(
            halvings(config.image_channels, config.channels), nn.Conv2d(config.channels[-1], config.code_width, 1)
        )
        self.quantizer = Quantizer(config.codes, config.code_width)
        self.decoder = nn.Sequential(
            nn.Conv2d(config.code_width, config.channels[-1], 3, padding=1),
            doublings(config.channels, config.image_channels),
        )
        self.prior = PixelCNN(
            config.codes,
            config.side,
            config.prior_width,
            config.prior_blocks,
            config.prior_reach,
            config.num_classes,
        )

    def encode(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) in [-1, 1] -> vectors before quantization, (B, D, H', W')."""
        return cast(Tensor, self.encoder(pixels).float())

    def to_codes(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) in [-1, 1] -> (B, H', W') int64."""
        return self.quantizer.nearest(self.encode(pixels).permute(0, 2, 3, 1))

    def decode(self, vectors: Tensor) -> Tensor:
        """(B, D, H', W') -> (B, C, H, W); beyond [-1, 1] it is black or white."""
        return cast(Tensor, self.decoder(vectors).float())

    def of_codes(self, codes: Tensor) -> Tensor:
        """(B, H' W') int64 -> (B, C, H, W)."""
        return self.decode(self.quantizer(codes.reshape(-1, self.side, self.side)))

    def forward(self, noise: Tensor, class_ids: Tensor) -> Tensor:
        codes = self.prior.draw(gumbel(noise[:, 0]), class_ids[:, 0])
        return cast(Tensor, to_images(self.of_codes(codes)))


def gumbel(noise: Tensor) -> Tensor:
    """Standard normal (..., 2 K) -> standard Gumbel (..., K): half the square of a pair's length is exponential."""
    first, second = noise.chunk(2, dim=-1)
    return -torch.log(0.5 * (first.square() + second.square()) + 1e-30)


def graphs(module: VQVAE, checkpoint: Checkpoint) -> tuple[Graph, ...]:
    return (Graph("generator", module, checkpoint.spec.inputs, checkpoint.spec.outputs),)


CHECKPOINTS = (
    Checkpoint(
        spec=class_conditional("vqvae", "vqvae", (64, 256), (32, 32, 1), 10),
        dataset=DATASET,
        config=VQVAEConfig(),
        recipe=Recipe(
            "vector_quantization",
            images=320_000,
            learning_rate=1.5e-3,
            ema_images=10_000,
            seed=33,
            options={"first_stage": 0.35, "commitment": 0.25, "decay": False},
            minutes=30.0,
        ),
        paper="van den Oord et al. 2017, arXiv:1711.00937",
        description="A VQ-VAE of 8x8 codes from a book of 128, and a class-conditional PixelCNN that draws them.",
        faults=(
            "Fine prints and seams are lost between the codes, and some outlines break from one code to the next.",
        ),
        systems=(
            System(
                "VQ-VAE and PixelCNN",
                Branch.AUTOENCODERS,
                "van den Oord et al. 2017, arXiv:1711.00937",
                "CIFAR-10 4.67 bits/dim",
            ),
        ),
    ),
)

FAMILY = Family(build=VQVAE, graphs=graphs, checkpoints=CHECKPOINTS)
