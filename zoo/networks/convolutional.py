"""Small convolutional parts that the one-shot generators and the first stage share. No batch statistics anywhere."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PlainResidual(nn.Module):
    """x + conv(silu(conv(silu(x)))), without normalization; the last starts at zero (Zhang et al. 2019)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        return x + cast(Tensor, self.conv2(F.silu(self.conv1(F.silu(x)))))


class Upsample(nn.Module):
    """Twice the size by nearest neighbours, then a 3x3 convolution: no checkerboard (Odena et al. 2016)."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', 2 H, 2 W)
        return cast(Tensor, self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest")))


def halvings(image_channels: int, channels: tuple[int, ...]) -> nn.Sequential:
    """An encoder: (B, C, H, W) -> (B, channels[-1], H', W'), H' = H / 2**len(channels)."""
    layers: list[nn.Module] = []
    for width_in, width in zip((image_channels, *channels), channels, strict=False):
        layers += [nn.Conv2d(width_in, width, 4, stride=2, padding=1), PlainResidual(width), nn.SiLU()]
    return nn.Sequential(*layers)


def doublings(channels: tuple[int, ...], image_channels: int) -> nn.Sequential:
    """Its decoder: (B, channels[-1], H', W') -> (B, C, H, W), unbounded."""
    widths = channels[::-1]
    layers: list[nn.Module] = []
    for width, width_out in zip(widths, (*widths[1:], channels[0] // 2), strict=True):
        layers += [PlainResidual(width), nn.SiLU(), Upsample(width, width_out)]
    return nn.Sequential(*layers, nn.SiLU(), nn.Conv2d(width_out, image_channels, 3, padding=1))


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def channels_last(module: nn.Module, device: torch.device) -> nn.Module:
    """In the memory layout that convolutions without normalization prefer, ready to train."""
    return module.to(device=device, memory_format=torch.channels_last).train()  # type: ignore[call-overload, no-any-return]
