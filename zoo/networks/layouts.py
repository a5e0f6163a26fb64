"""Networks that paint what stands in boxes, and look at what does: a layout becomes a picture in one call.

What moves between a box and the picture is resampled by two matrices of hat functions, so it is bilinear, has a
gradient in the picture, and is exported as products of matrices.

Shapes: B batch, O boxes, C channels, H height, W width, M side of a box's mask, S style width.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.networks.discriminator import downsampling_trunk
from zoo.networks.translators import GROUPS, SLOPE, SpatialBlock, doubled

MASK = 16


def hats(low: Tensor, high: Tensor, inside: int, size: int) -> Tensor:
    """How much each of `inside` cells of a span has of each of `size` pixels, (B, O, size, inside) of (B, O) twice.

    Spans are shares of the picture. A pixel whose centre is in the span has 1 in all, any other 0.
    """
    centres = (torch.arange(size, device=low.device, dtype=torch.float32) + 0.5) / size
    share = (centres - low[..., None]) / (high - low).clamp_min(1e-4)[..., None]  # (B, O, size)
    cells = (share * inside - 0.5).clamp(0.0, inside - 1.0)[..., None]
    weights = F.relu(1.0 - (cells - torch.arange(inside, device=low.device, dtype=torch.float32)).abs())
    return weights * ((share >= 0.0) & (share <= 1.0)).to(weights.dtype)[..., None]


def placed(masks: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Masks where their boxes are, (B, O, size, size) of (B, O, M, M) and (B, O, 4): left, top, right, bottom."""
    left, top, right, bottom = boxes.unbind(-1)
    return hats(top, bottom, masks.shape[2], size) @ masks @ hats(left, right, masks.shape[3], size).transpose(2, 3)


def cropped(pixels: Tensor, boxes: Tensor, size: int) -> Tensor:
    """What is in each box, (B, O, C, size, size) of (B, C, H, W) and (B, O, 4), by bilinear samples at its cells."""
    rows = _samples(boxes[..., 1], boxes[..., 3], size, pixels.shape[2])  # (B, O, size, H)
    columns = _samples(boxes[..., 0], boxes[..., 2], size, pixels.shape[3])
    return rows[:, :, None] @ pixels[:, None] @ columns.transpose(2, 3)[:, :, None]


def _samples(low: Tensor, high: Tensor, cells: int, size: int) -> Tensor:
    """How much of each of `size` pixels is seen at the centre of each cell of a span, (B, O, cells, size)."""
    shares = (torch.arange(cells, device=low.device, dtype=torch.float32) + 0.5) / cells
    at = (low[..., None] + shares * (high - low)[..., None]) * size - 0.5
    at = at.clamp(0.0, size - 1.0)[..., None]
    return F.relu(1.0 - (at - torch.arange(size, device=low.device, dtype=torch.float32)).abs())


class LayoutNorm(nn.Module):
    """Normalized features, scaled and shifted at each place by the styles of what is there (Sun & Wu 2019, eq. 4)."""

    def __init__(self, width: int, style: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width, affine=False)
        self.modulation = nn.Linear(style, 2 * width)

    def forward(self, x: Tensor, seen: tuple[Tensor, Tensor]) -> Tensor:  # (B, C, H, W); (B, O, H, W), (B, O, S)
        there, styles = seen
        spread = self.modulation(styles).transpose(1, 2) @ there.flatten(2)  # (B, 2 C, H W)
        scale, shift = spread.reshape(-1, 2 * x.shape[1], *x.shape[2:]).chunk(2, dim=1)
        found: Tensor = self.norm(x) * (1.0 + scale) + shift
        return found


class LayoutPainter(nn.Module):
    """`forward(latents, boxes, labels)`: (B, O, L), (B, O, 4), (B, O) int64 -> (B, C, H, W) in [-1, 1].

    Sun & Wu 2019 (arXiv:1908.07500): of a label and its latents a style and a mask; the first box is behind all, and
    of others what is masked twice is shared. The last class is that of no box. `channels` as of SpatialPainter.
    """

    def __init__(
        self, side: int, image_channels: int, channels: Sequence[int], classes: int, latent: int, style: int
    ) -> None:
        super().__init__()
        self.none, self.smallest, self.width = classes, side >> (len(channels) - 1), channels[0]
        self.embedding = nn.Embedding(classes + 1, style)
        self.style = nn.Sequential(nn.Linear(style + latent, style), nn.LeakyReLU(SLOPE), nn.Linear(style, style))
        self.begin = nn.Linear(style, 16 * (MASK // 4) ** 2)
        self.mask = nn.Sequential(
            nn.LeakyReLU(SLOPE),
            nn.Upsample(scale_factor=2.0),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Upsample(scale_factor=2.0),
            nn.Conv2d(16, 1, 3, padding=1),
        )
        self.expand = nn.Linear(latent, self.width * self.smallest**2)
        norm = partial(LayoutNorm, style=style)
        self.blocks = nn.ModuleList(
            SpatialBlock(width_in, width, norm) for width_in, width in pairwise((channels[0], *channels))
        )
        self.to_pixels = nn.Conv2d(channels[-1], image_channels, 3, padding=1)

    def forward(self, latents: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        styles = self.style(torch.cat([self.embedding(labels), latents], dim=2))
        masks = self.mask(self.begin(styles).reshape(-1, 16, MASK // 4, MASK // 4)).float().sigmoid()
        masks = masks.reshape(-1, labels.shape[1], MASK, MASK)
        masks = masks * (labels != self.none).to(masks.dtype)[:, :, None, None]
        h = self.expand(latents[:, 0]).reshape(-1, self.width, self.smallest, self.smallest)
        for depth, block in enumerate(self.blocks):
            if depth:
                h = doubled(h)
            h = block(h, (self.there(masks, boxes, self.smallest << depth), styles))
        return cast(Tensor, self.to_pixels(F.leaky_relu(h, SLOPE)).float().tanh())

    def there(self, masks: Tensor, boxes: Tensor, size: int) -> Tensor:
        """The share of each box in each pixel, (B, O, size, size), 1 in all."""
        front = placed(masks[:, 1:], boxes[:, 1:], size)
        front = front / front.sum(dim=1, keepdim=True).clamp_min(1.0)
        return torch.cat([1.0 - front.sum(dim=1, keepdim=True), front], dim=1)


class LayoutDiscriminator(nn.Module):
    """`forward(pixels, boxes, labels)` -> logits of patches, (B, 1, H', W'), and of what is in each box, (B, O).

    Of a box by projection of its label (Sun & Wu 2019, section 3.3). What is no box has logits as well.
    """

    def __init__(
        self, image_channels: int, channels: tuple[int, ...], of_boxes: tuple[int, ...], classes: int, crop: int
    ) -> None:
        super().__init__()
        self.crop = crop
        self.patches = downsampling_trunk((image_channels, *channels))
        self.logits = nn.Conv2d(channels[-1], 1, 3, padding=1)
        width = of_boxes[-1]
        self.box = downsampling_trunk((image_channels, *of_boxes))
        self.features = nn.Linear(width * (crop >> len(of_boxes)) ** 2, width)
        self.logit = nn.Linear(width, 1)
        self.embedding = nn.Embedding(classes + 1, width)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)

    def forward(self, pixels: Tensor, boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        inside = cropped(pixels.float(), boxes, self.crop).flatten(0, 1)  # (B O, C, crop, crop)
        h = F.leaky_relu(self.features(self.box(inside).flatten(1)), SLOPE).float()
        of_boxes = self.logit(h)[:, 0] + (h * self.embedding(labels.flatten())).sum(1)
        return self.logits(self.patches(pixels)).float(), of_boxes.float().reshape(labels.shape)
