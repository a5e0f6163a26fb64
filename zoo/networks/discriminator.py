"""Discriminators: used in training only, so they are no part of a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.networks.convolutional import PlainResidual
from zoo.networks.text import TextEncoder, mean_of
from zoo.networks.unet import UNet, widen

LOGIT_SCALE = 10.0  # of the mean over an image


def downsampling_trunk(channels: tuple[int, ...]) -> nn.Sequential:
    """Halves the size once for each width after the first, which is that of the input; one residual at the end."""
    layers: list[nn.Module] = []
    for width_in, width in pairwise(channels):
        layers += [nn.Conv2d(width_in, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, PlainResidual(channels[-1]), nn.LeakyReLU(0.2))


def batch_deviation(features: Tensor, group: int = 8) -> Tensor:
    """One more channel: how much the images of a group differ (Karras et al. 2018, section 3). (B, C, H, W)."""
    b, _, h, w = features.shape
    grouped = features.float().reshape(group, b // group, -1)
    deviation = grouped.var(dim=0, unbiased=False).add(1e-8).sqrt().mean(dim=1)  # (B / group,)
    plane = deviation.repeat(group)[:, None, None, None].expand(b, 1, h, w)
    return torch.cat([features, plane.to(features.dtype)], dim=1)


class ProjectionDiscriminator(nn.Module):
    """`forward(pixels, class_ids)` -> logits (B,): w h + e(class) h (Miyato & Koyama 2018). B is a multiple of 8.

    Without classes it is `forward(pixels)`: w h.
    """

    def __init__(self, image_channels: int, channels: tuple[int, ...], size: int, num_classes: int) -> None:
        super().__init__()
        width = channels[-1]
        self.trunk = downsampling_trunk((image_channels, *channels))
        self.mix = nn.Conv2d(width + 1, width, 3, padding=1)
        self.features = nn.Linear(width * (size >> len(channels)) ** 2, width)
        self.logit = nn.Linear(width, 1)
        if num_classes:
            self.class_embedding = nn.Embedding(num_classes, width)
            nn.init.normal_(self.class_embedding.weight, std=width**-0.5)

    def forward(self, pixels: Tensor, class_ids: Tensor | None = None) -> Tensor:
        h = F.leaky_relu(self.mix(batch_deviation(self.trunk(pixels))), 0.2)
        h = F.leaky_relu(self.features(h.flatten(1)), 0.2).float()
        logits = self.logit(h)[:, 0].float()
        if class_ids is not None:
            logits = logits + (h * self.class_embedding(class_ids)).sum(1)
        return cast(Tensor, logits)


class CaptionDiscriminator(nn.Module):
    """`forward(pixels, tokens, mask)` -> logits (B,): w h + v(text) h, by a text encoder of its own.

    B is a multiple of 8. What a picture shows, `features`, can be `judged` beside several texts.
    """

    def __init__(self, image_channels: int, channels: tuple[int, ...], size: int, text_encoder: TextEncoder) -> None:
        super().__init__()
        width = channels[-1]
        self.trunk = downsampling_trunk((image_channels, *channels))
        self.mix = nn.Conv2d(width + 1, width, 3, padding=1)
        self.flat = nn.Linear(width * (size >> len(channels)) ** 2, width)
        self.logit = nn.Linear(width, 1)
        self.text_encoder = text_encoder
        self.said = nn.Linear(text_encoder.norm.normalized_shape[0], width)

    def features(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, F)."""
        h = F.leaky_relu(self.mix(batch_deviation(self.trunk(pixels))), 0.2)
        return F.leaky_relu(self.flat(h.flatten(1)), 0.2).float()

    def judged(self, features: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        said = self.said(mean_of(*self.text_encoder(tokens, mask))).float()
        return cast(Tensor, self.logit(features)[:, 0].float() + (features * said).sum(1) / math.sqrt(said.shape[1]))

    def forward(self, pixels: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.judged(self.features(pixels), tokens, mask)


class Pyramid(nn.Module):
    """Discriminators of a picture with its text at several sizes, the whole first and each a half of the one before.

    Its logits are those of all, (B * levels,). Pictures are one tensor, or one a size.
    """

    def __init__(self, levels: Iterable[CaptionDiscriminator]) -> None:
        super().__init__()
        self.levels: Any = nn.ModuleList(levels)

    def features(self, pixels: Tensor | Sequence[Tensor]) -> list[Tensor]:
        sizes = halved(pixels, len(self.levels)) if isinstance(pixels, Tensor) else pixels
        return [level.features(each) for level, each in zip(self.levels, sizes, strict=True)]

    def judged(self, features: Sequence[Tensor], tokens: Tensor, mask: Tensor) -> Tensor:
        seen = zip(self.levels, features, strict=True)
        return torch.cat([level.judged(each, tokens, mask) for level, each in seen])

    def forward(self, pixels: Tensor | Sequence[Tensor], tokens: Tensor, mask: Tensor) -> Tensor:
        return self.judged(self.features(pixels), tokens, mask)


def halved(pixels: Tensor, count: int) -> list[Tensor]:
    """So many sizes of a picture, the first its own, by the mean of four pixels."""
    found = [pixels]
    while len(found) < count:
        found.append(F.avg_pool2d(found[-1], 2))
    return found


class PatchDiscriminator(nn.Module):
    """`forward(pixels)` -> one logit for each patch, (B, 1, H', W') (Isola et al. 2017)."""

    def __init__(self, image_channels: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.trunk = downsampling_trunk((image_channels, *channels))
        self.logits = nn.Conv2d(channels[-1], 1, 3, padding=1)

    def forward(self, pixels: Tensor) -> Tensor:
        return cast(Tensor, self.logits(self.trunk(pixels)).float())


class DenoiserDiscriminator(nn.Module):
    """`forward(x, c_noise, class_ids)` -> logits (B,): a denoiser's network with a new last layer, on its own inputs.

    It knows every level of noise from the start, where one that is trained from nothing stays at chance for thousands
    of noisy images (after Sauer et al. 2024, arXiv:2403.12015, whose features of the denoiser stay frozen). `channels`
    of an input beyond the denoiser's are conditions, which it does not see yet.
    """

    def __init__(self, denoiser: UNet, channels: int) -> None:
        super().__init__()
        config = denoiser.config
        self.network = UNet(replace(config, image_channels=channels))
        widen(self.network, denoiser)
        self.network.unpatchify = nn.ConvTranspose2d(
            config.channels[0], 1, config.patch + 2, stride=config.patch, padding=1
        )
        nn.init.zeros_(self.network.unpatchify.weight)

    def forward(self, x: Tensor, c_noise: Tensor, class_ids: Tensor) -> Tensor:
        return cast(Tensor, LOGIT_SCALE * self.network(x, c_noise, class_ids).float().mean((1, 2, 3)))


class TellingDiscriminator(nn.Module):
    """`forward(pixels)` -> a logit for each patch, and of each of some questions logits (B, questions, choices).

    Choi et al. 2018, section 3.1 and table 5: one network says whether a picture is real, and what of, from all places.
    """

    def __init__(self, image_channels: int, channels: tuple[int, ...], size: int, questions: int, choices: int) -> None:
        super().__init__()
        self.trunk = downsampling_trunk((image_channels, *channels))
        self.logits = nn.Conv2d(channels[-1], 1, 3, padding=1)
        self.tell = nn.Linear(channels[-1] * (size >> len(channels)) ** 2, questions * choices)
        self.asked = (questions, choices)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        h = self.trunk(pixels)
        return self.logits(h).float(), self.tell(h.flatten(1)).float().reshape(-1, *self.asked)
