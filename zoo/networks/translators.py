"""Networks that turn one picture, or a map of one, into another of its size, in one call.

What is not a picture (noise, a class) is a style: a scale and a shift of normalized features, or planes beside the
input. Normalization is within each image, so that an image does not depend on its batch.

Shapes: B batch, C channels, H height, W width, L latent width, S style width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.networks.convolutional import halvings

GROUPS = 8
SLOPE = 0.2


class Normalized(nn.Module):
    """A convolution, normalized within groups of channels of its own image, perhaps scaled and shifted by a style."""

    def __init__(self, conv: nn.Conv2d, style: int = 0) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.GroupNorm(GROUPS, conv.out_channels, affine=not style)
        self.style = nn.Linear(style, 2 * conv.out_channels) if style else None

    def forward(self, x: Tensor, style: Tensor | None = None) -> Tensor:  # (B, C, H, W), (B, S)
        h = self.norm(self.conv(x))
        if self.style is not None:
            scale, shift = self.style(style)[:, :, None, None].chunk(2, dim=1)
            h = h * (1.0 + scale) + shift
        return F.leaky_relu(h, SLOPE)


def doubled(x: Tensor) -> Tensor:
    """Twice the size by nearest neighbours."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class UNetTranslator(nn.Module):
    """`forward(pixels, style)`: (B, C, H, W), (B, S) -> (B, C', H, W) in [-1, 1] (Isola et al. 2017, section 3.2).

    `channels[i]` is the width at `size / 2**i`; what is seen at each size is beside what is painted there.
    """

    def __init__(self, seen: int, image_channels: int, channels: Sequence[int], style: int = 0) -> None:
        super().__init__()
        self.first = nn.Conv2d(seen, channels[0], 3, padding=1)
        self.downs = nn.ModuleList(
            Normalized(nn.Conv2d(width_in, width, 4, stride=2, padding=1)) for width_in, width in pairwise(channels)
        )
        self.middle = Normalized(nn.Conv2d(channels[-1], channels[-1], 3, padding=1), style)
        self.ups = nn.ModuleList(
            Normalized(nn.Conv2d(below + width, width, 3, padding=1), style)
            for below, width in pairwise(channels[::-1])
        )
        self.to_pixels = nn.Conv2d(channels[0], image_channels, 3, padding=1)

    def forward(self, pixels: Tensor, style: Tensor | None = None) -> Tensor:
        skips = [F.leaky_relu(self.first(pixels), SLOPE)]
        for down in self.downs:
            skips.append(down(skips[-1]))
        h = self.middle(skips.pop(), style)
        for up in self.ups:
            h = up(torch.cat([doubled(h), skips.pop()], dim=1), style)
        return cast(Tensor, self.to_pixels(h).float().tanh())


class LatentEncoder(nn.Module):
    """`forward(pixels)` -> the mean and the logarithm of the variance of latents, (B, L) each."""

    def __init__(self, image_channels: int, channels: tuple[int, ...], side: int, latent: int) -> None:
        super().__init__()
        self.trunk = halvings(image_channels, channels)
        self.moments = nn.Linear(channels[-1] * (side >> len(channels)) ** 2, 2 * latent)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.moments(self.trunk(pixels).flatten(1)).float().chunk(2, dim=1)
        return mean, log_variance


class Retoucher(nn.Module):
    """`forward(pixels, style)`: (B, C, H, W), (B, S) -> the same picture but for what is added to it, near [-1, 1].

    Two halvings, residual blocks, two doublings, with the style as planes beside the input (Choi et al. 2018). It
    begins as the identity. A mask of what is painted over (Pumarola et al. 2018) closes before the critic can tell
    anything, and lets no gradient through from then on.
    """

    def __init__(self, image_channels: int, channels: tuple[int, int, int], blocks: int, style: int = 0) -> None:
        super().__init__()
        small, half, wide = channels
        self.downs = nn.Sequential(
            Normalized(nn.Conv2d(image_channels + style, small, 5, padding=2)),
            Normalized(nn.Conv2d(small, half, 4, stride=2, padding=1)),
            Normalized(nn.Conv2d(half, wide, 4, stride=2, padding=1)),
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(
                Normalized(nn.Conv2d(wide, wide, 3, padding=1)),
                nn.Conv2d(wide, wide, 3, padding=1),
                nn.GroupNorm(GROUPS, wide),
            )
            for _ in range(blocks)
        )
        self.ups = nn.ModuleList(
            [
                Normalized(nn.Conv2d(wide, half, 3, padding=1)),
                Normalized(nn.Conv2d(half, small, 3, padding=1)),
            ]
        )
        self.to_pixels = nn.Conv2d(small, image_channels, 5, padding=2)
        for parameter in self.to_pixels.parameters():
            nn.init.zeros_(parameter)

    def forward(self, pixels: Tensor, style: Tensor | None = None) -> Tensor:
        seen = pixels
        if style is not None:
            seen = torch.cat([pixels, style[:, :, None, None].expand(-1, -1, *pixels.shape[2:])], dim=1)
        h = self.downs(seen)
        for block in self.blocks:
            h = h + block(h)
        for up in self.ups:
            h = up(doubled(h))
        return pixels + cast(Tensor, self.to_pixels(h).float())


class SpatialNorm(nn.Module):
    """Normalized features, scaled and shifted at each place by what a map has there (Park et al. 2019, equation 1)."""

    def __init__(self, width: int, hidden: int, embedding: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width, affine=False)
        self.shared = nn.Conv2d(embedding, hidden, 3, padding=1)
        self.modulation = nn.Conv2d(hidden, 2 * width, 3, padding=1)

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:  # (B, C, H, W), (B, E, H, W)
        scale, shift = self.modulation(F.relu(self.shared(embedded))).chunk(2, dim=1)
        found: Tensor = self.norm(x) * (1.0 + scale) + shift
        return found


class SpatialBlock(nn.Module):
    """A residual block of two convolutions, each after a norm of its width that sees what is where."""

    def __init__(self, width_in: int, width: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.norm1 = norm(width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, padding=1)
        self.norm2 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.skip = nn.Conv2d(width_in, width, 1, bias=False) if width_in != width else nn.Identity()

    def forward(self, x: Tensor, seen: Any) -> Tensor:
        h = self.conv1(F.leaky_relu(self.norm1(x, seen), SLOPE))
        h = self.conv2(F.leaky_relu(self.norm2(h, seen), SLOPE))
        return cast(Tensor, self.skip(x) + h)


class SpatialPainter(nn.Module):
    """`forward(latents, classes)`: (B, L), (B, H, W) int64 -> (B, C, H, W) in [-1, 1] (Park et al. 2019, figure 4).

    `channels[i]` is the width at `side / 2**(len(channels) - 1 - i)`; only the map says where anything is.
    """

    def __init__(
        self, side: int, image_channels: int, channels: Sequence[int], classes: int, latent: int, hidden: int
    ) -> None:
        super().__init__()
        self.smallest = side >> (len(channels) - 1)
        self.width = channels[0]
        self.embedding = nn.Embedding(classes, hidden)
        self.expand = nn.Linear(latent, self.width * self.smallest**2)
        norm = partial(SpatialNorm, hidden=hidden, embedding=hidden)
        self.blocks = nn.ModuleList(
            SpatialBlock(width_in, width, norm) for width_in, width in pairwise((channels[0], *channels))
        )
        self.to_pixels = nn.Conv2d(channels[-1], image_channels, 3, padding=1)

    def forward(self, latents: Tensor, classes: Tensor) -> Tensor:
        h = self.expand(latents).reshape(-1, self.width, self.smallest, self.smallest)
        for depth, block in enumerate(self.blocks):
            if depth:
                h = doubled(h)
            step = 1 << (len(self.blocks) - 1 - depth)
            seen = self.embedding(classes[:, step // 2 :: step, step // 2 :: step]).permute(0, 3, 1, 2)
            h = block(h, seen)
        return cast(Tensor, self.to_pixels(F.leaky_relu(h, SLOPE)).float().tanh())
