"""IP-Adapter (Ye et al. 2023, arXiv:2308.06721): a U-Net that looks at a picture beside the words, each by itself.

Attention has keys and values for the picture's tokens besides those for words, and what both find is added (section
3.2.2), the picture's times a scale; at 0 the U-Net is as it was.

Shapes: B batch, H height and W width of a picture, T tokens of it, D context width, C width of a round.
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from zoo.networks.text import TextUNet
from zoo.networks.unet import UNetConfig

SHRUNK = 16  # the sides of a picture, over those of its tokens


class PictureTokens(nn.Module):
    """`forward(picture)`: (B, 3, H, W) in [-1, 1] -> (B, T, D), a token for each square of SHRUNK pixels."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        widths = (channels, width // 4, width // 2, width, width)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, width, 1))
        self.norm = nn.LayerNorm(width)

    def forward(self, picture: Tensor) -> Tensor:
        return cast(Tensor, self.norm(self.layers(picture).flatten(2).transpose(1, 2))).float()


class ReferredTextUNet(TextUNet):
    """`forward(x, c_noise, context, bias, tokens, scale)`: as TextUNet, with what PictureTokens makes, and (B,)."""

    def __init__(self, config: UNetConfig, context: int, rounds: int) -> None:
        super().__init__(config, context, rounds)
        self.pictured = nn.ModuleList(nn.Linear(context, 2 * config.channels[-1], bias=False) for _ in range(rounds))

    def forward(  # type: ignore[override]
        self, x: Tensor, c_noise: Tensor, context: Tensor, bias: Tensor, tokens: Tensor, scale: Tensor
    ) -> Tensor:
        dtype = self.pooled.weight.dtype
        strength = scale[:, None, None].to(dtype)
        beside = [_scaled(each(tokens.to(dtype)), strength) for each in self.pictured]
        return self.unet.walk(x, *self.conditioned(c_noise, context, bias, beside))


def _scaled(keys_values: Tensor, strength: Tensor) -> Tensor:
    """Values times the scale; keys as they are."""
    keys, values = keys_values.chunk(2, dim=2)
    return torch.cat([keys, values * strength], dim=2)
