"""Networks whose every convolution is told a style: StyleGAN's, and what later ones added to them.

A style scales what a convolution sees, channel by channel, and what comes out is divided by the norm that its weights
would have under that scale. Scaling activations before and after is the same as scaling weights for each image, and is
one convolution for any batch, so it is exported as it is. Resampling is by the filter [1, 3, 3, 1].

Sources: Karras et al. 2019 (mapping, styles, noise); Karras et al. 2020, arXiv:1912.04958 (modulation and demodulation,
skips, the filter); Kang et al. 2023, arXiv:2303.05511 (a bank of kernels, of which each image has a mixture).

Shapes: B batch, C channels, H height, W width, L latent width, S style width, K kernels of a bank.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.networks.text import CrossAttention

SLOPE, GAIN = 0.2, math.sqrt(2.0)  # of a leaky ReLU, and what it takes of a normal number's deviation
EPSILON = 1e-8
LOOK, GROUPS = 2, 8  # at which size words are looked at: 16 pixels
Said = tuple[Tensor, Tensor]  # a text's context and bias, as `text.TextEncoder` gives them
FAINT = 0.3  # what each size adds to the pixels before anything is learnt


class Even(nn.Module):
    """A linear layer whose weights are normal numbers and scaled when used, so that all layers learn at one speed.

    Another `speed` is that of learning, as a share of the others' (Karras et al. 2018, section 4.1; 2019, appendix C).
    """

    def __init__(self, width_in: int, width: int, bias: float = 0.0, speed: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, width_in) / speed)
        self.bias = nn.Parameter(torch.full((width,), bias / speed))
        self.scale, self.speed = speed / math.sqrt(width_in), speed

    def forward(self, x: Tensor) -> Tensor:  # (B, C) -> (B, C')
        return F.linear(x, self.weight * self.scale, self.bias * self.speed)


class Mapping(nn.Module):
    """`forward(latents)`: (B, L) -> styles (B, S), of latents on a sphere (Karras et al. 2019, section 2)."""

    def __init__(self, latent: int, style: int, layers: int, speed: float) -> None:
        super().__init__()
        widths = [latent, *[style] * layers]
        self.layers = nn.ModuleList(Even(*each, speed=speed) for each in pairwise(widths))

    def forward(self, latents: Tensor) -> Tensor:
        h = normalized(latents)
        for layer in self.layers:
            h = GAIN * F.leaky_relu(layer(h), SLOPE)
        return h


def normalized(latents: Tensor) -> Tensor:
    """With a mean square of 1 a row."""
    return latents * (latents.square().mean(dim=1, keepdim=True) + EPSILON).rsqrt()


def doubled(x: Tensor) -> Tensor:
    """Twice the size by the filter [1, 3, 3, 1] / 4, its edges repeated; bilinear, in other words."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class ModulatedConv(nn.Module):
    """`forward(x, style)`: (B, C, H, W), (B, S) -> (B, C', H, W).

    `kernels` above 1 are a bank: a softmax of the style weighs them for each image before all else (Kang et al. 2023,
    equation 3). As a convolution is linear in its weights, all of them are run and their results weighed.
    """

    def __init__(
        self,
        width_in: int,
        width: int,
        size: int,
        style: int,
        *,
        demodulated: bool = True,
        kernels: int = 1,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.kernels, self.width, self.demodulated = kernels, width, demodulated
        self.weight = nn.Parameter(torch.randn(kernels * width, width_in, size, size))
        self.scale = gain / math.sqrt(width_in * size**2)
        self.style = Even(style, width_in, bias=1.0)
        self.select = Even(style, kernels) if kernels > 1 else None

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        scales, weight = self.style(style), self.weight * self.scale
        y = F.conv2d(x * scales[:, :, None, None], weight, padding=weight.shape[-1] // 2)
        shares = self.select(style).softmax(1) if self.select is not None else None
        if shares is not None:
            parted = y.reshape(-1, self.kernels, self.width, *y.shape[2:])
            y = (parted * shares[:, :, None, None, None]).sum(1)
        if self.demodulated:
            y = y * self._norms(weight, scales, shares)[:, :, None, None]
        return y

    def _norms(self, weight: Tensor, scales: Tensor, shares: Tensor | None) -> Tensor:
        """What each image's output channels are multiplied with, (B, C')."""
        squares = scales.square()
        if shares is None:
            return (squares @ weight.square().sum((2, 3)).T + EPSILON).rsqrt()
        bank = weight.reshape(self.kernels, self.width, weight.shape[1], -1)
        products = (bank[:, None] * bank[None]).sum(-1)  # (K, K, C', C)
        mixed = (shares[:, :, None] * shares[:, None]).flatten(1)  # (B, K K)
        each = (squares @ products.flatten(0, 2).T).reshape(-1, self.kernels**2, self.width)
        return ((each * mixed[:, :, None]).sum(1) + EPSILON).rsqrt()


class StyledLayer(nn.Module):
    """A modulated convolution, one plane of noise for all channels, with a strength that is learnt, and a leaky ReLU.

    `forward(x, style, grain)`: (B, C, H, W), (B, S), (B, 1, H', W') -> (B, C', H', W'), where H' is 2 H if it doubles.
    """

    def __init__(self, width_in: int, width: int, style: int, *, doubles: bool = False, kernels: int = 1) -> None:
        super().__init__()
        self.doubles = doubles
        self.conv = ModulatedConv(width_in, width, 3, style, kernels=kernels)
        self.bias = nn.Parameter(torch.zeros(width))
        self.strength = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, style: Tensor, grain: Tensor | None = None) -> Tensor:
        h = self.conv(x, style)
        if self.doubles:
            h = doubled(h)
        if grain is not None:
            h = h + self.strength * grain
        return GAIN * F.leaky_relu(h + self.bias[:, None, None], SLOPE)


class Synthesis(nn.Module):
    """`forward(styles, grains, said)`: (B, layers, S), a plane of noise for each layer -> (B, C, H, W), unbounded.

    `channels[i]` is the width at `4 * 2**i` pixels, `kernels[i]` the bank's there, 1 where none is said. One layer at
    the smallest size and two at any other; what is seen at each size is added to twice the size of what was seen before
    (Karras et al. 2020, figure 7). With a `context` it looks at the words `said`, (B, T, D) and (B, T), at the size of
    LOOK.
    """

    def __init__(
        self, image_channels: int, channels: Sequence[int], style: int, *, kernels: Sequence[int] = (), context: int = 0
    ) -> None:
        super().__init__()
        banks = [*kernels, *[1] * (len(channels) - len(kernels))]
        self.begin = nn.Parameter(torch.randn(channels[0], 4, 4))
        layers = [StyledLayer(channels[0], channels[0], style, kernels=banks[0])]
        for (width_in, width), bank in zip(pairwise(channels), banks[1:], strict=True):
            layers += [
                StyledLayer(width_in, width, style, doubles=True, kernels=bank),
                StyledLayer(width, width, style, kernels=bank),
            ]
        self.layers = nn.ModuleList(layers)
        self.to_pixels = nn.ModuleList(
            ModulatedConv(width, image_channels, 1, style, demodulated=False, gain=FAINT) for width in channels
        )
        self.bias = nn.Parameter(torch.zeros(image_channels))
        self.look = CrossAttention(channels[LOOK], context, GROUPS) if context else None

    def forward(self, styles: Tensor, grains: Sequence[Tensor | None], said: Said | None = None) -> Tensor:
        return self.scales(styles, grains, said)[-1]

    def scales(self, styles: Tensor, grains: Sequence[Tensor | None], said: Said | None = None) -> list[Tensor]:
        """The picture at each size, the smallest first."""
        h = self.layers[0](self.begin.expand(styles.shape[0], -1, -1, -1), styles[:, 0], grains[0])
        pixels = self.to_pixels[0](h, styles[:, 0])
        found = [pixels]
        for depth in range(1, len(self.to_pixels)):
            for place in (2 * depth - 1, 2 * depth):
                h = self.layers[place](h, styles[:, place], grains[place])
            if self.look is not None and said is not None and depth == LOOK:
                h = self.look(h, *said)
            pixels = doubled(pixels) + self.to_pixels[depth](h, styles[:, 2 * depth])
            found.append(pixels)
        return [each + self.bias[:, None, None] for each in found]


class Enlarger(nn.Module):
    """`forward(pixels, style)`: (B, C, H, W), (B, S) -> (B, C, 2 H, 2 W): twice the size by the filter, and detail."""

    def __init__(self, image_channels: int, channels: tuple[int, int], style: int, kernels: int) -> None:
        super().__init__()
        seen, small = channels
        self.first = nn.Conv2d(image_channels, seen, 3, padding=1)
        self.layers = nn.ModuleList([
            StyledLayer(seen, seen, style, kernels=kernels),
            StyledLayer(seen, small, style, doubles=True),
            StyledLayer(small, small, style),
        ])  # fmt: skip
        self.to_pixels = ModulatedConv(small, image_channels, 1, style, demodulated=False, gain=FAINT)

    def forward(self, pixels: Tensor, style: Tensor) -> Tensor:
        h = F.leaky_relu(self.first(pixels), SLOPE)
        for layer in self.layers:
            h = layer(h, style)
        return cast(Tensor, doubled(pixels) + self.to_pixels(h, style))
