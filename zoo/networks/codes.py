"""Pictures as maps of codes: an encoder, a book of vectors, and a decoder (van den Oord et al. 2017, section 3).

Shapes: B batch, C channels, H height, W width, D width of a code's vector, K codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.networks.convolutional import doublings, halvings


@dataclass(frozen=True)
class TokenizerConfig:
    """`channels[i]` is the width at `size / 2**(i + 1)`; codes lie at the last of these sizes."""

    image_channels: int = 1
    size: int = 32
    channels: tuple[int, ...] = (48, 96)
    codes: int = 128
    code_width: int = 16

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


class Tokenizer(nn.Module):
    def __init__(self, config: TokenizerConfig) -> None:
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
