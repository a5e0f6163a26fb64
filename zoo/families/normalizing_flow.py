"""A class-conditional normalizing flow: an invertible network with an exact likelihood, sampled through its inverse.

Sources: Kingma & Dhariwal 2018 (Glow); Dinh et al. 2017 (RealNVP, the multi-scale architecture).

Shapes: B batch, C channels, H height, W width, D dimensions of an image and of its latents, C H W.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.contract.graph import Graph
from zoo.family import Branch, Checkpoint, Family, Recipe, System, class_conditional
from zoo.images import bin_centres, to_images

DATASET = "fashion_mnist"  # of every checkpoint here


@dataclass(frozen=True)
class GlowConfig:
    """`widths[i]` is that of the conditioners at level i, which works at `size / 2**(i + 1)`."""

    image_channels: int = 1
    size: int = 32
    widths: tuple[int, ...] = (48, 96, 128)
    steps: int = 6  # of flow, in each level
    num_classes: int = 10
    max_log_scale: float = 2.0
    temperature: float = 0.8  # standard deviation of the latents from which images are sampled

    @property
    def latents(self) -> int:
        return self.image_channels * self.size**2


class Mixing(nn.Module):
    """Activation normalization and an invertible 1x1 convolution P L U, which are one affine map of the channels."""

    permutation: Tensor
    sign: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(channels, channels))[0]
        permutation, lower, upper = torch.linalg.lu(rotation)
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", upper.diagonal().sign())
        self.lower, self.upper = nn.Parameter(lower), nn.Parameter(upper)  # only what is off the diagonal counts
        self.log_diagonal = nn.Parameter(upper.diagonal().abs().log())
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def affine(self) -> tuple[Tensor, Tensor]:
        """The map x -> matrix x + bias, (C, C) and (C,)."""
        lower = self.lower.tril(-1) + torch.eye(len(self.sign)).to(self.lower)
        upper = self.upper.triu(1) + torch.diag(self.sign * self.log_diagonal.exp())
        matrix = self.permutation @ lower @ upper
        return matrix * self.log_scale.exp(), matrix @ self.shift

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # (B, C, H, W) -> the same, and log |det| of the Jacobian
        with torch.autocast(x.device.type, enabled=False):
            matrix, bias = self.affine()
            y = F.conv2d(x, matrix[:, :, None, None], bias)
        return y, (self.log_diagonal + self.log_scale).sum() * (x.shape[2] * x.shape[3])

    @torch.no_grad()
    def normalize(self, x: Tensor) -> None:
        """Set scale and shift such that each channel of x has mean zero and variance one before it is rotated."""
        deviation, mean = torch.std_mean(x, dim=(0, 2, 3))
        self.log_scale.copy_(-deviation.log())
        self.shift.copy_(-mean / deviation)

    @torch.no_grad()
    def inverse(self) -> nn.Conv2d:
        """The inverse map as a convolution, inverted in float64: neither a host nor an engine has to."""
        matrix, bias = (tensor.double() for tensor in self.affine())
        inverse = torch.linalg.inv(matrix)
        conv = nn.Conv2d(len(bias), len(bias), 1).to(self.shift).requires_grad_(False)
        conv.weight.copy_(inverse[:, :, None, None])
        conv.bias.copy_(-inverse @ bias)  # type: ignore[union-attr]
        return conv


class Conditioner(nn.Module):
    """(B, width_in, H, W), (B,) -> log scale and shift, (B, width_out, H, W); both zero at the start."""

    def __init__(self, width_in: int, width: int, width_out: int, config: GlowConfig) -> None:
        super().__init__()
        self.bound = config.max_log_scale
        self.conv1 = nn.Conv2d(width_in, width, 3, padding=1)
        self.class_embedding = nn.Embedding(config.num_classes, width)
        self.conv2 = nn.Conv2d(width, width, 1)
        self.conv3 = nn.Conv2d(width, 2 * width_out, 3, padding=1)
        for zero in (self.class_embedding.weight, self.conv3.weight, self.conv3.bias):
            nn.init.zeros_(cast(Tensor, zero))

    def forward(self, x: Tensor, class_ids: Tensor) -> tuple[Tensor, Tensor]:
        h = F.relu(self.conv1(x) + self.class_embedding(class_ids)[:, :, None, None])
        log_scale, shift = self.conv3(F.relu(self.conv2(h))).to(x.dtype).chunk(2, dim=1)
        return self.bound * torch.tanh(log_scale / self.bound), shift


class Level(nn.Module):
    """Steps of flow at one size; all but the last level then split half of the channels off as latents."""

    def __init__(self, channels: int, width: int, last: bool, config: GlowConfig) -> None:
        super().__init__()
        half = channels // 2
        count = config.steps if last else config.steps + 1  # the last conditioner is that of the split
        self.mixings = nn.ModuleList(Mixing(channels) for _ in range(config.steps))
        self.conditioners = nn.ModuleList(Conditioner(half, width, half, config) for _ in range(count))

    def forward(self, x: Tensor, class_ids: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) -> the same, and (B,) log |det| of the Jacobian. What is split off is the second half."""
        log_det = x.new_zeros(x.shape[0])
        for index, conditioner in enumerate(self.conditioners):
            if index < len(self.mixings):
                x, change = self.mixings[index](x)
                log_det = log_det + change
            kept, moved = x.chunk(2, dim=1)
            log_scale, shift = conditioner(kept, class_ids)
            x = torch.cat([kept, (moved + shift) * log_scale.exp()], dim=1)
            log_det = log_det + log_scale.flatten(1).sum(1)
        return x, log_det

    def unmixings(self) -> nn.ModuleList:
        return nn.ModuleList(cast(Mixing, mixing).inverse() for mixing in self.mixings)

    def inverse(self, x: Tensor, class_ids: Tensor, unmixings: nn.ModuleList) -> Tensor:
        for index in reversed(range(len(self.conditioners))):
            kept, moved = x.chunk(2, dim=1)
            log_scale, shift = self.conditioners[index](kept, class_ids)
            x = torch.cat([kept, moved * torch.exp(-log_scale) - shift], dim=1)
            if index < len(self.mixings):
                x = unmixings[index](x)
        return x


class Glow(nn.Module):
    """`forward(x, class_ids)`: continuous (B, C, H, W), (B,) -> latents (B, D), log |det| of the Jacobian (B,) nats."""

    def __init__(self, config: GlowConfig) -> None:
        super().__init__()
        self.config = config
        channels, levels = config.image_channels, len(config.widths)
        self.levels = nn.ModuleList()
        for index, width in enumerate(config.widths):
            self.levels.append(Level(channels * 4, width, index == levels - 1, config))
            channels *= 2
        self.top_shape = (2 * channels, *(2 * [config.size >> levels]))
        self.prior = nn.Embedding(config.num_classes, 2 * math.prod(self.top_shape))  # log scale and shift, by class
        nn.init.zeros_(self.prior.weight)

    def forward(self, x: Tensor, class_ids: Tensor) -> tuple[Tensor, Tensor]:
        log_det, latents = x.new_zeros(x.shape[0]), []
        for level in self.levels[:-1]:
            x, change = level(F.pixel_unshuffle(x, 2), class_ids)
            x, split = x.chunk(2, dim=1)
            latents.append(split.flatten(1))
            log_det = log_det + change
        x, change = self.levels[-1](F.pixel_unshuffle(x, 2), class_ids)
        log_scale, shift = self.prior(class_ids).chunk(2, dim=1)
        latents.append((x.flatten(1) + shift) * log_scale.exp())
        return torch.cat(latents, dim=1), log_det + change + log_scale.sum(1)


class GlowGenerator(nn.Module):
    """`forward(noise, class_ids)`: (B, 1, D), (B, 1) int64 -> uint8 NHWC [0, 255], by the inverse of `flow`."""

    def __init__(self, flow: Glow) -> None:
        super().__init__()
        self.flow = flow
        self.unmixings = nn.ModuleList(cast(Level, level).unmixings() for level in flow.levels)

    def inverse(self, latents: Tensor, class_ids: Tensor) -> Tensor:
        """(B, D), (B,) -> the continuous (B, C, H, W) that the flow takes to these latents."""
        begin = latents.shape[1] - math.prod(self.flow.top_shape)
        log_scale, shift = self.flow.prior(class_ids).chunk(2, dim=1)
        x = (latents[:, begin:] * torch.exp(-log_scale) - shift).reshape(-1, *self.flow.top_shape)
        for level, unmixings in zip(reversed(self.flow.levels), reversed(self.unmixings), strict=True):
            x = cast(Level, level).inverse(x, class_ids, cast(nn.ModuleList, unmixings))
            x = F.pixel_shuffle(x, 2)
            if begin:
                begin, end = begin - math.prod(x.shape[1:]), begin
                x = torch.cat([x, latents[:, begin:end].reshape(-1, *x.shape[1:])], dim=1)
        return cast(Tensor, x)

    def forward(self, noise: Tensor, class_ids: Tensor) -> Tensor:
        x = self.inverse(noise[:, 0] * self.flow.config.temperature, class_ids[:, 0])
        return cast(Tensor, to_images(bin_centres(x)))


def graphs(module: Glow, checkpoint: Checkpoint) -> tuple[Graph, ...]:
    return (Graph("generator", GlowGenerator(module).eval(), checkpoint.spec.inputs, checkpoint.spec.outputs),)


CHECKPOINTS = (
    Checkpoint(
        spec=class_conditional("glow", "normalizing_flow", (1024,), (32, 32, 1), 10),
        dataset=DATASET,
        config=GlowConfig(),
        recipe=Recipe(
            "likelihood", images=140_000, batch_size=64, learning_rate=1e-3, ema_images=10_000, seed=17, minutes=25.0
        ),
        paper="Kingma & Dhariwal 2018, arXiv:1807.03039",
        description="Glow, conditioned on the class: exact likelihoods, and images in one call of the inverse.",
        faults=(
            "It is small, and was stopped after two epochs: outlines are right, textures are smears.",
            "Most sandals are faint or in pieces, dark clothes are speckled, and some pictures are nearly black.",
        ),
        systems=(
            System(
                "Glow", Branch.NORMALIZING_FLOWS, "Kingma & Dhariwal 2018, arXiv:1807.03039", "CIFAR-10 3.35 bits/dim"
            ),
        ),
    ),
)

FAMILY = Family(build=Glow, graphs=graphs, checkpoints=CHECKPOINTS)
