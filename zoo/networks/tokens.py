"""An image as a sequence of tokens: which of its values are together, and in what order.

Shapes: D values of an image, C H W; T tokens, N values of a token.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TokensConfig:
    image_channels: int = 1
    size: int = 32
    patch: int = 4

    @property
    def latents(self) -> int:
        return self.image_channels * self.size**2


def patches(config: TokensConfig) -> Tensor:
    """A token is a square of pixels: where each of its values lies in an image, (T, N)."""
    side, patch = config.size // config.patch, config.patch
    places = torch.arange(config.latents).reshape(-1, side, patch, side, patch)
    return places.permute(1, 3, 0, 2, 4).flatten(2).flatten(0, 1)


def phases(config: TokensConfig) -> Tensor:
    """A token is a coarse picture, every `size / patch`-th pixel: later ones fill in what lies between, (T, N)."""
    side, patch = config.size // config.patch, config.patch
    places = torch.arange(config.latents).reshape(-1, patch, side, patch, side)
    return places.permute(2, 4, 0, 1, 3).flatten(2).flatten(0, 1)


ORDERS = {"patches": patches, "phases": phases}


def both_ways(names: tuple[str, ...], config: TokensConfig) -> list[Tensor]:
    """Each order from one end, then from the other."""
    return [each for name in names for each in (ORDERS[name](config), ORDERS[name](config).flip(0))]
