"""Classifier guidance (Dhariwal & Nichol 2021): an unconditional denoiser, steered by a classifier of noisy images.

The classifier's gradient is a part of the exported graph. It is written out by hand, because no exporter takes
autograd: the classifier is plain (convolutions, SiLU, a mean, one linear layer), so its gradient is too.

The house's guidance is a weighted sum over conditions, `s F(c) + (1 - s) F(null)`. With `F(c) = F(null) + G(c)`, G the
gradient's term, that sum is `F(null) + s G(c)`: the paper's scale, with no other mechanism.

Shapes: B batch, C channels, H height, W width, N classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.contract.graph import Graph
from zoo.contract.request import Setting
from zoo.contract.spec import Sampling
from zoo.family import Branch, Checkpoint, Family, Recipe, System, class_conditional, denoiser_graph
from zoo.networks.unet import NoiseEmbedding, UNet, UNetConfig

DATASET = "fashion_mnist"  # of every checkpoint here


@dataclass(frozen=True)
class GuidedConfig:
    """`widths[i]` is the classifier's at `size / 2**(i + 1)`."""

    denoiser: UNetConfig = field(default_factory=UNetConfig)
    widths: tuple[int, ...] = (32, 64, 96)
    embedding: int = 64


class NoisyClassifier(nn.Module):
    """`forward(scaled, c_noise)`: (B, C, H, W), (B,) -> logits (B, N), at every level of noise."""

    def __init__(self, config: GuidedConfig) -> None:
        super().__init__()
        self.noise_embedding = NoiseEmbedding(config.embedding)
        channels = (config.denoiser.image_channels, *config.widths)
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 4, stride=2, padding=1) for i, o in pairwise(channels))
        self.shifts = nn.ModuleList(nn.Linear(config.embedding, width) for width in config.widths)
        self.logits = nn.Linear(config.widths[-1], config.denoiser.num_classes)

    def layers(self, scaled: Tensor, c_noise: Tensor) -> tuple[list[Tensor], Tensor]:
        """What goes into each SiLU, and the logits."""
        embedding = self.noise_embedding(c_noise).to(scaled.dtype)
        h, before = scaled, []
        for conv, shift in zip(self.convs, self.shifts, strict=True):
            before.append(conv(h) + shift(embedding)[:, :, None, None])
            h = F.silu(before[-1])
        return before, self.logits(h.mean((2, 3)))

    def forward(self, scaled: Tensor, c_noise: Tensor) -> Tensor:
        return self.layers(scaled, c_noise)[1]

    def gradient(self, scaled: Tensor, c_noise: Tensor, class_ids: Tensor) -> Tensor:
        """The gradient of log p(class | scaled) by `scaled`, (B, C, H, W); zero for the null class N."""
        before, logits = self.layers(scaled, c_noise)
        wanted = class_ids[:, None] == torch.arange(logits.shape[1], device=logits.device)
        known = wanted.sum(1, keepdim=True).to(logits.dtype)
        by_logits = wanted.to(logits.dtype) - known * logits.softmax(1)
        height, width = before[-1].shape[2:]
        g = (by_logits @ self.logits.weight / (height * width))[:, :, None, None]
        for conv, z in zip(reversed(self.convs), reversed(before), strict=True):
            gate = z.sigmoid()
            g = F.conv_transpose2d(g * (gate * (1.0 + z * (1.0 - gate))), conv.weight, stride=2, padding=1)  # type: ignore[arg-type]
        return g


class GuidedDenoiser(nn.Module):
    """`forward(x, c_noise, class_ids)`: the F of v-prediction, and the classifier's term where a class is asked for."""

    def __init__(self, config: GuidedConfig) -> None:
        super().__init__()
        self.denoiser = UNet(config.denoiser)
        self.classifier = NoisyClassifier(config)
        self.null = config.denoiser.num_classes

    def forward(self, x: Tensor, c_noise: Tensor, class_ids: Tensor) -> Tensor:
        """D' = D + sigma^2 grad_x log p (equation 10 of the paper), which in v is F' = F - sigma grad log p."""
        unconditional = self.denoiser(x, c_noise, torch.full_like(class_ids, self.null))
        angle = (0.5 * math.pi) * c_noise
        sigma = (angle.sin() / angle.cos())[:, None, None, None]
        return cast(Tensor, unconditional - sigma * self.classifier.gradient(x, c_noise, class_ids))


def graphs(module: GuidedDenoiser, checkpoint: Checkpoint) -> tuple[Graph, ...]:
    return (denoiser_graph(module, checkpoint.spec),)


CHECKPOINTS = (
    Checkpoint(
        spec=class_conditional(
            "guided", "guided_diffusion", (1, 32, 32), (32, 32, 1), 10, Sampling(num_steps=20, max_guidance_scale=20.0)
        ),
        dataset=DATASET,
        config=GuidedConfig(),
        recipe=Recipe(
            "guidance_classifier",
            images=400_000,
            learning_rate=2e-3,
            ema_images=20_000,
            seed=31,
            minutes=8.0,
        ),
        teacher="ddpm",
        paper="Dhariwal & Nichol 2021, arXiv:2105.05233",
        description="Classifier guidance: the unconditional half of `ddpm`, steered by a classifier of noisy images.",
        faults=(
            "At a scale of 1 four images in ten show another class than the one asked for; classifier-free guidance of "
            "the same teacher is right in nine of ten.",
            "At a scale of 3 some pictures are over-lit, and some sandals and bags are torn.",
        ),
        systems=(
            System(
                "Classifier guidance",
                Branch.DIFFUSION,
                "Dhariwal & Nichol 2021, arXiv:2105.05233",
                "ImageNet 256 FID 4.59 in 250 steps",
                setting=Setting(guidance_scale=2.0),
            ),
        ),
    ),
)

FAMILY = Family(build=GuidedDenoiser, graphs=graphs, checkpoints=CHECKPOINTS)
