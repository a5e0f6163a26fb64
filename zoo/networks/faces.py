"""Face0 (Valevski et al. 2023, arXiv:2306.06638): what a face is like stands in place of a prompt's last tokens.

A network sees a face and says who it is, in few numbers; a projection makes tokens of them. Low-rank adapters beside
the U-Net learn to use them, where the paper tunes all of it.

Shapes: B batch, H height and W width of a face, T tokens, L of a prompt, D context width.
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from zoo.networks.text import HIDDEN
from zoo.networks.unet import UNetConfig
from zoo.networks.widened import AdaptedTextUNet

TOKENS = 4
FACE_RANK = 8
FACE_SIDE = 48
WHO = 64  # numbers that say who somebody is


class Face(nn.Module):
    """`forward(face)`: (B, channels, H, W) in [-1, 1], sides of FACE_SIDE -> (B, T, D)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        widths = (channels, 32, 64, 128, 128)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.SiLU()]
        self.layers = nn.Sequential(*layers)
        self.who = nn.Linear(widths[-1] * (FACE_SIDE // 16) ** 2, WHO)
        self.tokens = nn.Linear(WHO, TOKENS * width)
        self.norm = nn.LayerNorm(width)

    def forward(self, face: Tensor) -> Tensor:
        tokens = self.tokens(self.who(self.layers(face).flatten(1)))
        return cast(Tensor, self.norm(tokens.unflatten(1, (TOKENS, -1)))).float()


class FacedTextUNet(AdaptedTextUNet):
    """`forward(x, c_noise, context, bias, tokens, scale)`: as TextUNet, with what Face makes, and (B,) scales.

    A scale is what attention to the tokens is multiplied by; at 0 the prompt has its own tokens again.
    """

    def __init__(self, config: UNetConfig, context: int, rounds: int) -> None:
        super().__init__(config, context, rounds, FACE_RANK)

    def forward(  # type: ignore[override]
        self, x: Tensor, c_noise: Tensor, context: Tensor, bias: Tensor, tokens: Tensor, scale: Tensor
    ) -> Tensor:
        there = scale[:, None] > 0.0
        own, own_bias = context[:, -TOKENS:], bias[:, -TOKENS:]
        told = torch.where(there[..., None], tokens, own)
        seen = torch.where(there, scale.clamp(min=1e-4).log()[:, None].clamp(min=HIDDEN), own_bias)
        return self.adapted(
            x, c_noise, torch.cat([context[:, :-TOKENS], told], 1), torch.cat([bias[:, :-TOKENS], seen], 1), scale
        )
