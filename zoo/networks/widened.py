"""A text U-Net that sees more than its state from its first layer on, as if that were of more channels.

What it sees is fixed over the steps, so its part of the first convolution is made once, by a network before the loop,
and added to what the U-Net's own makes of the state: the wider input of Rombach et al. 2022, section 4.5, and of
Saharia et al. 2021 (SR3), where a picture is joined to the state. Low-rank adapters (Hu et al. 2021) beside all layers
learn to use it. Both times a scale, an image's own: at 0 the U-Net is as it was, to the bit.

Shapes: B batch, C channels, H height, W width of the state; a picture is four times as high and wide; L boxes.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.networks import low_rank
from zoo.networks.control import Drawing
from zoo.networks.first_stage import FirstStage
from zoo.networks.text import TextUNet
from zoo.networks.unet import UNetConfig

OWN = "wider"  # the adapters


class AdaptedTextUNet(TextUNet):
    """With adapters of its own beside all layers, for what it is told more than words."""

    def __init__(self, config: UNetConfig, context: int, rounds: int, rank: int = 16) -> None:
        super().__init__(config, context, rounds)
        places = [path for path, each in self.named_modules() if isinstance(each, nn.Linear | nn.Conv2d)]
        low_rank.attach(self, OWN, dict.fromkeys(places, rank))

    def adapted(
        self, x: Tensor, c_noise: Tensor, context: Tensor, bias: Tensor, scale: Tensor, beside: Tensor | None = None
    ) -> Tensor:
        """As TextUNet, with the adapters at a scale (B,), and what joins the state after the first convolution."""
        with low_rank.told({OWN: scale.to(self.pooled.weight.dtype)}):
            return self.unet.walk(x, *self.conditioned(c_noise, context, bias), beside=beside)


class WidenedTextUNet(AdaptedTextUNet):
    """`forward(x, c_noise, context, bias, seen, scale)`: as TextUNet, with `seen` (B, C, H, W), and (B,) scales."""

    def forward(  # type: ignore[override]
        self, x: Tensor, c_noise: Tensor, context: Tensor, bias: Tensor, seen: Tensor, scale: Tensor
    ) -> Tensor:
        return self.adapted(x, c_noise, context, bias, scale, seen * scale[:, None, None, None])


class RepaintingTextUNet(WidenedTextUNet):
    """`forward(x, c_noise, context, bias, seen, mask)`: the same; where a mask keeps nothing, the U-Net as it was."""

    def forward(  # type: ignore[override]
        self, x: Tensor, c_noise: Tensor, context: Tensor, bias: Tensor, seen: Tensor, mask: Tensor
    ) -> Tensor:
        return super().forward(x, c_noise, context, bias, seen, kept(mask).amax((1, 2, 3)))


def kept(mask: Tensor) -> Tensor:
    """1 where a mask in [0, 1] keeps what is there, 0 where it is made anew."""
    return (mask < 0.5).to(mask.dtype)


class Kept(nn.Module):
    """`forward(picture, mask)`: (B, 3, 4 H, 4 W) in [-1, 1], (B, 1, 4 H, 4 W) -> (B, C, H, W), nothing at first.

    What a mask keeps is seen twice: as latents of the first stage, which is the base's, and in pixels, where it ends.
    """

    def __init__(self, width: int, channels: int, latents: int) -> None:
        super().__init__()
        self.pixels = Drawing(width, channels + 1)
        self.latents = nn.Conv2d(latents + 1, width, 3, padding=1)
        nn.init.zeros_(self.latents.weight)

    def forward(self, picture: Tensor, mask: Tensor, first_stage: FirstStage) -> Tensor:
        there = kept(mask)
        seen = picture * there
        cells = F.avg_pool2d(there, 4)
        found = self.latents(torch.cat([first_stage.encode(seen) * cells, cells], 1))
        return cast(Tensor, found + self.pixels(torch.cat([seen, there], 1)))


class Small(nn.Module):
    """`forward(picture)`: (B, 3, H, W) in [-1, 1], a quarter of what is made -> (B, C, H, W), nothing at first.

    It is seen as it is, and as the latents of the same enlarged, by the first stage, which is the base's.
    """

    def __init__(self, width: int, channels: int, latents: int) -> None:
        super().__init__()
        self.pixels = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.latents = nn.Conv2d(latents, width, 3, padding=1)
        for each in (*self.pixels[-1].parameters(), self.latents.weight):
            nn.init.zeros_(each)

    def forward(self, picture: Tensor, first_stage: FirstStage) -> Tensor:
        enlarged = F.interpolate(picture, scale_factor=4.0, mode="bilinear")
        return cast(Tensor, self.latents(first_stage.encode(enlarged)) + self.pixels(picture))


class Placed(nn.Module):
    """`forward(boxes, labels)`: (B, L, 4) left, top, right, bottom in [0, 1], (B, L) int64 -> (B, C, H, W).

    Each box is painted with what its label is learned to look like, by how much of a cell it covers and where in the
    box the cell is; `count` labels, and one more for no box. Nothing at first.
    """

    edges: Tensor

    def __init__(self, width: int, side: int, count: int) -> None:
        super().__init__()
        self.width = width
        self.paints = nn.Embedding(count + 1, 3 * width)  # in the middle, and per unit to the right and down
        last = nn.Conv2d(width, width, 3, padding=1)
        self.layers = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.SiLU(), last)
        nn.init.normal_(self.paints.weight, std=0.5)
        for each in last.parameters():
            nn.init.zeros_(each)
        self.register_buffer("edges", torch.linspace(0.0, 1.0, side + 1), persistent=False)

    def forward(self, boxes: Tensor, labels: Tensor) -> Tensor:
        across, right = self._along(boxes[..., 0], boxes[..., 2])
        along, down = self._along(boxes[..., 1], boxes[..., 3])
        covered = along[:, :, :, None] * across[:, :, None, :]  # (B, L, H, W)
        shares = torch.stack([covered, covered * right[:, :, None, :], covered * down[:, :, :, None]], 2)
        paints = self.paints(labels).unflatten(2, (3, self.width))  # (B, L, 3, C)
        painted = paints.flatten(1, 2).transpose(1, 2) @ shares.flatten(1, 2).flatten(2)
        return cast(Tensor, self.layers(painted.unflatten(2, covered.shape[2:])))

    def _along(self, first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
        """Of one axis: how much of each cell lies between two ends, and where its middle does, in [-1, 1]."""
        low, high = self.edges[:-1], self.edges[1:]
        share = torch.minimum(high, last[..., None]) - torch.maximum(low, first[..., None])
        middle, half = (first + last)[..., None] / 2.0, ((last - first)[..., None] / 2.0).clamp(min=1e-3)
        place = ((low + high) / 2.0 - middle) / half
        return (share / (high - low)).clamp(0.0, 1.0), place.clamp(-1.0, 1.0)
