"""A vector-quantized autoencoder with an autoregressive prior: pictures as maps of codes, drawn one after the other.

Sources: van den Oord et al. 2017 (VQ-VAE); van den Oord et al. 2016a, 2016b (PixelCNN, gated and conditional).

The generator is one execution: noise -> Gumbel noise -> a loop over the positions of the map -> the decoder. A draw is
discrete, so where the two best codes of a position come closer than two runtimes' roundings, they may part company;
the study `codes` counts how often.

Shapes: B batch, H W of a map of codes, K codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from zoo.contract.graph import Graph
from zoo.family import Branch, Checkpoint, Family, Recipe, System, class_conditional
from zoo.images import to_images
from zoo.networks.causal import PixelCNN
from zoo.networks.codes import Tokenizer, TokenizerConfig

DATASET = "fashion_mnist"  # of every checkpoint here


@dataclass(frozen=True)
class VQVAEConfig(TokenizerConfig):
    """What of it is the prior's: width, blocks, and the reach of its first layer."""

    prior_width: int = 96
    prior_blocks: int = 6
    prior_reach: int = 3
    num_classes: int = 10


class VQVAE(Tokenizer):
    """`forward(noise, class_ids)`: (B, 1, H W, 2 K), (B, 1) int64 -> uint8 NHWC [0, 255]."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__(config)
        self.prior = PixelCNN(
            config.codes,
            config.side,
            config.prior_width,
            config.prior_blocks,
            config.prior_reach,
            config.num_classes,
        )

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
