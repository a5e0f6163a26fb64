"""The U-Net of every diffusion checkpoint here: v-prediction or any other dialect, pixels or latents.

It knows neither schedules nor samplers: it maps a scaled input, a noise level and a class to a tensor of the
input's shape, and the columns of a sampler's table say what that tensor means.

Shapes: B batch, C channels, H height, W width, E embedding width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class UNetConfig:
    """Width, depth and conditions of a `UNet`; `channels[i]` is the width at `size / patch / 2**i`.

    There is one attention, at the lowest resolution.
    """

    image_channels: int = 1
    patch: int = 2
    channels: tuple[int, ...] = (32, 64, 128)
    blocks: int = 1
    embedding: int = 128
    num_classes: int = 10
    groups: int = 8
    whole_steps: bool = False  # the network takes the level at which its step ends as well


class NoiseEmbedding(nn.Module):
    """Fourier features of the noise level, computed in float32 whatever the network's precision."""

    frequencies: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        frequencies = torch.logspace(0.0, 2.0, width // 2, dtype=torch.float64) * math.pi / 2
        self.register_buffer("frequencies", frequencies.float(), persistent=False)

    def forward(self, c_noise: Tensor) -> Tensor:  # (B,) -> (B, width)
        phase = c_noise.float()[:, None] * self.frequencies.float()
        return torch.cat([phase.cos(), phase.sin()], dim=1)


class ResidualBlock(nn.Module):
    """Two normalized convolutions with the condition as a scale and a shift between them (Dhariwal & Nichol 2021)."""

    def __init__(self, width_in: int, width: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, width, affine=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.skip = nn.Conv2d(width_in, width, 1) if width_in != width else nn.Identity()
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:  # (B, C, H, W), 2 x (B, C', 1, 1)
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.norm2(h) * scale + shift
        return cast(Tensor, self.skip(x) + self.conv2(F.silu(h)))


class Attention(nn.Module):
    """Self-attention over the positions of one feature map, four-dimensional so that runtimes fuse it."""

    def __init__(self, width: int, groups: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(groups, width)
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.out = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        _, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).reshape(-1, 3, self.heads, c // self.heads, h * w).transpose(3, 4)
        q, k, v = qkv.unbind(1)  # (B, heads, H W, C / heads)
        y = F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(-1, c, h, w)
        return cast(Tensor, x + self.out(y))


class UNet(nn.Module):
    """`forward(x, c_noise, class_ids)`: (B, C, H, W), (B,), (B,) int64 -> (B, C, H, W).

    With `whole_steps` it takes c_next, (B,), as well; it makes nothing of a step of no length, untrained of none.

    Class `num_classes` is the null class of classifier-free guidance (Ho & Salimans 2022). Without classes, a network
    around it that has another condition calls `walk`, and looks around in its own way.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        width, patch = config.channels[0], config.patch
        self.noise_embedding = NoiseEmbedding(config.embedding)
        if config.num_classes:
            self.class_embedding = nn.Embedding(config.num_classes + 1, config.embedding)
        if config.whole_steps:
            self.step_embedding = nn.Linear(config.embedding, config.embedding, bias=False)
            nn.init.zeros_(self.step_embedding.weight)
        self.embed = nn.Sequential(nn.Linear(config.embedding, config.embedding), nn.SiLU())
        self.patchify = nn.Conv2d(config.image_channels, width, patch + 2, stride=patch, padding=1)

        blocks: list[ResidualBlock] = []
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        skips = [width]
        for level, channels in enumerate(config.channels):
            if level:
                self.downs.append(nn.Conv2d(width, channels, 3, stride=2, padding=1))
                skips.append(channels)
            blocks += [ResidualBlock(channels, channels, config.groups) for _ in range(config.blocks)]
            skips += [channels] * config.blocks
            width = channels
        if config.num_classes:
            self.attention = Attention(width, config.groups)
        for level, channels in reversed(list(enumerate(config.channels))):
            for _ in range(config.blocks + 1):
                blocks.append(ResidualBlock(width + skips.pop(), channels, config.groups))
                width = channels
            if level:
                width = config.channels[level - 1]
                self.ups.append(nn.Conv2d(channels, width, 3, padding=1))
        self.blocks = nn.ModuleList(blocks)
        self.widths = [b.conv1.out_channels for b in blocks]
        # One matrix product makes the scale and the shift of every block.
        self.modulation = nn.Linear(config.embedding, 2 * sum(self.widths))
        self.norm_out = nn.GroupNorm(config.groups, width)
        self.unpatchify = nn.ConvTranspose2d(width, config.image_channels, patch + 2, stride=patch, padding=1)
        self.levels, self.depth = len(config.channels), config.blocks
        nn.init.zeros_(self.unpatchify.weight)
        if config.num_classes:
            nn.init.normal_(self.class_embedding.weight, std=0.5)

    def forward(self, x: Tensor, c_noise: Tensor, class_ids: Tensor, c_next: Tensor | None = None) -> Tensor:
        return self.walk(x, self.embedding(c_noise, class_ids, c_next), self.attention)

    def embedding(self, c_noise: Tensor, class_ids: Tensor, c_next: Tensor | None = None) -> Tensor:
        """All that the network is told of an image besides x, as one (B, E)."""
        dtype = self.patchify.weight.dtype
        embedding = self.noise_embedding(c_noise).to(dtype) + self.class_embedding(class_ids)
        if c_next is not None:
            length = self.noise_embedding(c_noise - c_next) - self.noise_embedding(torch.zeros_like(c_noise))
            embedding = embedding + self.step_embedding(length.to(dtype))
        return cast(Tensor, embedding)

    def walk(
        self,
        x: Tensor,
        embedding: Tensor,
        middle: Callable[[Tensor], Tensor],
        joints: Sequence[Tensor] = (),
        beside: Tensor | None = None,
    ) -> Tensor:
        """(B, C, H, W) and all conditions as one (B, E) -> (B, C, H, W); `middle` is done at the lowest resolution.

        `joints` are added to what `way_down` gives, which takes `beside`.
        """
        blocks = self.modulated(embedding)
        met = self.way_down(x, blocks, middle, beside)
        *skips, h = [each + joint for each, joint in zip(met, joints, strict=True)] if joints else met
        for level in reversed(range(self.levels)):
            for _ in range(self.depth + 1):
                h = next(blocks)(torch.cat([h, skips.pop()], dim=1))
            if level:
                h = self.ups[self.levels - 1 - level](F.interpolate(h, scale_factor=2.0, mode="nearest"))
        return cast(Tensor, self.unpatchify(F.silu(self.norm_out(h)))).to(x.dtype)

    def modulated(self, embedding: Tensor) -> Iterator[Callable[[Tensor], Tensor]]:
        """The blocks in their order, each with its scale and its shift."""
        modulation = self.modulation(self.embed(embedding))[:, :, None, None]
        scales, shifts = modulation.chunk(2, dim=1)
        told = zip((scales + 1).split(self.widths, 1), shifts.split(self.widths, 1), strict=True)
        return iter(
            [partial(block, scale=scale, shift=shift) for block, (scale, shift) in zip(self.blocks, told, strict=True)]
        )

    def way_down(
        self,
        x: Tensor,
        blocks: Iterator[Callable[[Tensor], Tensor]],
        middle: Callable[[Tensor], Tensor],
        beside: Tensor | None = None,
    ) -> list[Tensor]:
        """What the way up takes, of `skip_widths`: as it comes, and after the middle. `beside` joins what comes in."""
        h = self.patchify(x.to(self.patchify.weight.dtype))
        if beside is not None:
            h = h + beside.to(h.dtype)
        met = [h]
        for level in range(self.levels):
            if level:
                h = self.downs[level - 1](h)
                met.append(h)
            for _ in range(self.depth):
                h = next(blocks)(h)
                met.append(h)
        return [*met, middle(h)]

    @property
    def skip_widths(self) -> tuple[int, ...]:
        first, *others = self.config.channels
        levels = [(first,) * (self.depth + 1), *((width,) * (self.depth + 1) for width in others)]
        return (*chain.from_iterable(levels), self.config.channels[-1])

    def keep_the_way_down(self) -> None:
        """Give up the rest: `walk` no longer works."""
        count = self.levels * self.depth
        self.blocks, self.widths = self.blocks[:count], self.widths[:count]
        self.modulation = nn.Linear(self.modulation.in_features, 2 * sum(self.widths))
        del self.ups, self.unpatchify, self.norm_out


def widen(network: UNet, teacher: UNet) -> None:
    """Give `network`, which has more channels, a teacher's weights; it does not see the others yet, nor fill them."""
    state, own = teacher.state_dict(), network.state_dict()
    for key in ("patchify.weight", "unpatchify.weight", "unpatchify.bias"):
        wider = torch.zeros_like(own[key])
        axis = 0 if key.endswith("bias") else 1
        wider.narrow(axis, 0, state[key].shape[axis]).copy_(state[key])
        state[key] = wider
    network.load_state_dict(state)
