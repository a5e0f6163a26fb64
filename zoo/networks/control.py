"""ControlNet (Zhang et al. 2023, arXiv:2302.05543): a copy of a U-Net's way down that sees a drawing, and joints.

What the copy finds is added where the U-Net's own way down meets its way up, through convolutions of one pixel that
begin at zero (section 3.1), times a scale; at 0 the U-Net is as it was, to the bit.

Shapes: B batch, C channels, H height, W width of the state; a drawing is four times as high and wide; L tokens, D
context width.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from zoo.networks.text import TextUNet
from zoo.networks.unet import UNetConfig


class Drawing(nn.Module):
    """`forward(drawing)`: (B, channels, 4 H, 4 W) -> (B, C, H, W), nothing at first; one channel is in [0, 1]."""

    def __init__(self, width: int, channels: int = 1) -> None:
        super().__init__()
        last = nn.Conv2d(width, width, 3, padding=1)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 16, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(16, 32, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(32, width, 4, stride=2, padding=1),
            nn.SiLU(),
            last,
        )
        for each in last.parameters():
            nn.init.zeros_(each)

    def forward(self, drawing: Tensor) -> Tensor:
        return cast(Tensor, self.layers(drawing))


class WayDown(TextUNet):
    """The half of a text U-Net that comes before its way up, of the same names."""

    def __init__(self, config: UNetConfig, context: int, rounds: int) -> None:
        super().__init__(config, context, rounds)
        self.unet.keep_the_way_down()

    def begin_as(self, base: TextUNet) -> None:
        """The copy is that of a trained U-Net, of which each block has its part of one matrix product."""
        known, count = base.state_dict(), sum(self.unet.widths)
        for name, own in self.state_dict().items():
            if name.startswith("unet.modulation."):
                own.copy_(torch.cat([part[:count] for part in known[name].chunk(2)]))
            else:
                own.copy_(known[name])

    def forward(self, x: Tensor, c_noise: Tensor, context: Tensor, bias: Tensor, drawn: Tensor) -> list[Tensor]:  # type: ignore[override]
        """Of `UNet.skip_widths`."""
        embedding, look = self.conditioned(c_noise, context, bias)
        return self.unet.way_down(x, self.unet.modulated(embedding), look, drawn)


class ControlledTextUNet(TextUNet):
    """`forward(x, c_noise, context, bias, drawn, scale)`: as TextUNet, with what Drawing makes, and (B,) scales."""

    def __init__(self, config: UNetConfig, context: int, rounds: int) -> None:
        super().__init__(config, context, rounds)
        self.control = WayDown(config, context, rounds)
        self.joints = nn.ModuleList(nn.Conv2d(width, width, 1) for width in self.unet.skip_widths)
        for each in self.joints.parameters():
            nn.init.zeros_(each)

    def forward(  # type: ignore[override]
        self, x: Tensor, c_noise: Tensor, context: Tensor, bias: Tensor, drawn: Tensor, scale: Tensor
    ) -> Tensor:
        strength = scale[:, None, None, None]
        found = self.control(x, c_noise, context, bias, drawn)
        joints = [joint(each) * strength.to(each.dtype) for joint, each in zip(self.joints, found, strict=True)]
        return self.unet.walk(x, *self.conditioned(c_noise, context, bias), joints)
