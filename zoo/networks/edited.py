"""Imagic (Kawar et al. 2023, arXiv:2210.09276): words between those that give a picture and those that say its edit.

A context that was found for one picture stands in the network; what it looks at is that and the prompt's, mixed
(section 3.3). Which of its tokens are there, the prompt says: without one nothing is known of the picture.

Shapes: B batch, C channels, H height, W width, L tokens, D context width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.networks.text import TextUNet
from zoo.networks.unet import UNetConfig


class EditedTextUNet(TextUNet):
    """`forward(x, c_noise, context, bias, edit)`: as TextUNet; at an edit (B,) of 0 it looks at the picture's context,
    at 1 at the prompt's."""

    def __init__(self, config: UNetConfig, context: int, rounds: int, length: int) -> None:
        super().__init__(config, context, rounds)
        self.found = nn.Parameter(torch.zeros(length, context))

    def forward(  # type: ignore[override]
        self, x: Tensor, c_noise: Tensor, context: Tensor, bias: Tensor, edit: Tensor
    ) -> Tensor:
        share = edit[:, None, None]
        return super().forward(x, c_noise, (1.0 - share) * self.found + share * context, bias)
