"""The first stage of latent diffusion: it halves the size twice (Rombach et al. 2022, section 3.1, with a KL term).

Shapes: B batch, C image channels, L latent channels, H height, W width; latents are (B, L, H / 4, W / 4).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from zoo.networks.convolutional import PlainResidual, Upsample


class FirstStage(nn.Module):
    """Pixels to latents of zero mean and unit variance, and back; `forward` is the way back.

    `channels` are the widths at a half and at a quarter of the size.
    """

    latent_mean: Tensor
    latent_scale: Tensor

    def __init__(self, image_channels: int, latent_channels: int, channels: tuple[int, int]) -> None:
        super().__init__()
        half, quarter = channels
        self.encoder = nn.Sequential(
            nn.Conv2d(image_channels, half, 4, stride=2, padding=1),
            PlainResidual(half),
            nn.Conv2d(half, quarter, 4, stride=2, padding=1),
            PlainResidual(quarter),
            nn.SiLU(),
            nn.Conv2d(quarter, 2 * latent_channels, 3, padding=1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_channels, quarter, 3, padding=1),
            PlainResidual(quarter),
            nn.SiLU(),
            Upsample(quarter, half),
            PlainResidual(half),
            nn.SiLU(),
            Upsample(half, half // 2),
            nn.SiLU(),
            nn.Conv2d(half // 2, image_channels, 3, padding=1),
        )
        self.register_buffer("latent_mean", torch.zeros(latent_channels, 1, 1))
        self.register_buffer("latent_scale", torch.ones(latent_channels, 1, 1))

    def posterior(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) in [-1, 1] -> mean and log variance of the raw latents, (B, L, H / 4, W / 4) each."""
        mean, log_variance = self.encoder(pixels).float().chunk(2, dim=1)
        return mean, log_variance.clamp(-12.0, 4.0)

    def normalize(self, raw: Tensor) -> Tensor:
        return (raw - self.latent_mean) / self.latent_scale

    def encode(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) in [-1, 1] -> the normalized means, (B, L, H / 4, W / 4)."""
        return self.normalize(self.posterior(pixels)[0])

    def forward(self, latents: Tensor) -> Tensor:
        raw = latents * self.latent_scale + self.latent_mean
        return cast(Tensor, self.decoder(raw)).float()


class Encoder(nn.Module):
    """The way into the latents, as a module of its own: `forward` is the normalized mean."""

    def __init__(self, first_stage: FirstStage) -> None:
        super().__init__()
        self.first_stage = first_stage

    def forward(self, pixels: Tensor) -> Tensor:
        return self.first_stage.encode(pixels)
