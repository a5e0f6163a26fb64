"""What a text encoder is trained against before anything looks at its words: pictures, side by side with captions.

Radford et al. 2021 (CLIP): a caption's vector is nearest to its own picture's of a batch, and the other way round. Used
in training only, so it is no part of a checkpoint.

Shapes: B batch, L tokens, D context width, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.networks.convolutional import halvings
from zoo.networks.text import mean_of


class ImageTower(nn.Module):
    """`forward(pixels, context, bias)`: (B, C, H, W), (B, L, D), (B, L) -> (B, B) logits, a row a picture."""

    def __init__(
        self, image_channels: int, size: int, context: int, channels: tuple[int, ...] = (32, 64, 96, 96)
    ) -> None:
        super().__init__()
        features = channels[-1] * (size >> len(channels)) ** 2
        self.body = nn.Sequential(halvings(image_channels, channels), nn.Flatten(), nn.Linear(features, context))
        self.words = nn.Linear(context, context)
        self.temperature = nn.Parameter(torch.tensor(2.3))

    def forward(self, pixels: Tensor, context: Tensor, bias: Tensor) -> Tensor:
        said = self.words(mean_of(context, bias))
        pictures, texts = (F.normalize(each.float(), dim=1) for each in (self.body(pixels), said))
        return self.temperature.clamp(max=4.6).exp() * pictures @ texts.T


def contrastive_loss(logits: Tensor) -> Tensor:
    """Of (B, B) logits whose diagonal is right."""
    own = torch.arange(len(logits), device=logits.device)
    return 0.5 * (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own))
