"""A class-conditional variational autoencoder; its generator is the decoder's mean, of codes as pictures have them.

The bound pulls codes towards N(0, I) and leaves them elsewhere: images come from the Gaussian of each class's codes.

Sources: Kingma & Welling 2014 (VAE); Sohn et al. 2015 (conditional); Kingma et al. 2016 (discretised logistic); Rybkin
et al. 2021 (one learned scale of the likelihood instead of a chosen weight of the KL term); Dai & Wipf 2019, Ghosh et
al. 2020 (a density fitted to the codes ex post).

Shapes: B batch, C channels, H height, W width, L latent width.
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
from zoo.networks.convolutional import doublings, halvings
from zoo.networks.mixture import ClassMixture

DATASET = "fashion_mnist"  # of every checkpoint here


@dataclass(frozen=True)
class VAEConfig:
    """`channels[i]` is the width at `size / 2**(i + 1)`; the last is that of the smallest maps."""

    image_channels: int = 1
    size: int = 32
    channels: tuple[int, ...] = (32, 64, 96)
    latent: int = 64
    embedding: int = 32
    num_classes: int = 10


class VAE(nn.Module):
    """`forward(noise, class_ids)`: (B, 1, L), (B, 1) int64 -> uint8 NHWC [0, 255]."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.smallest = (config.channels[-1], *(2 * [config.size >> len(config.channels)]))
        features = self.smallest[0] * self.smallest[1] ** 2
        self.class_embedding = nn.Embedding(config.num_classes, config.embedding)
        self.encoder = halvings(config.image_channels, config.channels)
        self.posterior = nn.Linear(features + config.embedding, 2 * config.latent)
        self.expand = nn.Linear(config.latent + config.embedding, features)
        self.decoder = doublings(config.channels, config.image_channels)
        self.log_scale = nn.Parameter(torch.tensor(-2.0))  # of the logistic likelihood, pixels in [-1, 1]
        self.codes = ClassMixture(
            config.num_classes, 1, config.latent
        )  # of what is drawn; the bound's prior is N(0, I)

    def encode(self, pixels: Tensor, class_ids: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) in [-1, 1], (B,) -> the posterior's mean and log variance, (B, L) each."""
        features = torch.cat([self.encoder(pixels).flatten(1), self.class_embedding(class_ids)], dim=1)
        mean, log_variance = self.posterior(features).float().chunk(2, dim=1)
        return mean, log_variance.clamp(-12.0, 4.0)

    def decode(self, latents: Tensor, class_ids: Tensor) -> Tensor:
        """(B, L), (B,) -> the likelihood's mean, (B, C, H, W); beyond [-1, 1] it is certain of black or white."""
        h = F.silu(self.expand(torch.cat([latents, self.class_embedding(class_ids)], dim=1)))
        return cast(Tensor, self.decoder(h.reshape(-1, *self.smallest)).float())

    def forward(self, noise: Tensor, class_ids: Tensor) -> Tensor:
        ids = class_ids[:, 0]
        return cast(Tensor, to_images(self.decode(self.codes(noise, ids), ids)))


def graphs(module: VAE, checkpoint: Checkpoint) -> tuple[Graph, ...]:
    return (Graph("generator", module, checkpoint.spec.inputs, checkpoint.spec.outputs),)


CHECKPOINTS = (
    Checkpoint(
        spec=class_conditional("vae", "vae", (64,), (32, 32, 1), 10),
        dataset=DATASET,
        config=VAEConfig(),
        recipe=Recipe("variational", images=192_000, learning_rate=2e-3, ema_images=10_000, seed=11, minutes=7.0),
        paper="Kingma & Welling 2014, arXiv:1312.6114",
        description=(
            "A class-conditional convolutional VAE (Sohn et al. 2015): the bound of Kingma & Welling, with a "
            "discretised logistic likelihood of one learned scale, in a network of later years. Images come from a "
            "Gaussian fitted to each class's codes (Ghosh et al. 2020), not from the bound's prior."
        ),
        faults=("Its images are smooth: prints, seams and the straps of sandals are averaged away.",),
        systems=(System("Conditional VAE", Branch.AUTOENCODERS, "Kingma & Welling 2014, arXiv:1312.6114"),),
    ),
)

FAMILY = Family(build=VAE, graphs=graphs, checkpoints=CHECKPOINTS)
