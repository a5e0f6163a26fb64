"""Text for a generator: an encoder of short prompts, and a U-Net that looks at what it gives.

Sources: Vaswani et al. 2017; Rombach et al. 2022, section 3.3 (cross-attention, the encoder trained with the U-Net).

Shapes: B batch, L tokens, D context width, C channels, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.networks.transformer import Layer
from zoo.networks.unet import Attention, UNet, UNetConfig

HIDDEN = -1e4  # added to the score of a token that is not there: a finite number, also in 16 bits


class TextEncoder(nn.Module):
    """`forward(tokens, mask)`: (B, L) int64, (B, L) -> context (B, L, D), bias (B, L).

    The mask is 1 for a token and 0 for padding. The bias is what attention adds to the scores
    of the context's tokens. There is always one: the start's.
    """

    def __init__(self, vocabulary: int, length: int, width: int, layers: int, heads: int = 4) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(0.1 * torch.randn(length, width))
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.embedding.weight, std=0.5)

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        bias = (1.0 - mask) * HIDDEN
        x = self.embedding(tokens) + self.position
        for layer in self.layers:
            x = layer(x, bias[:, None, None])
        return cast(Tensor, self.norm(x)).float(), bias


def mean_of(context: Tensor, bias: Tensor) -> Tensor:
    """The mean of a text's tokens, (B, D), of what its encoder gives."""
    there = bias.exp()[:, :, None]  # 1 for a token, 0 for padding
    return (context * there).sum(1) / there.sum(1)


class CrossAttention(nn.Module):
    """A feature map looks at a context: x + out(softmax(q k + bias) v), out 0 at first.

    Written out, as masked fused attention trains slower on a CPU.
    """

    def __init__(self, width: int, context: int, groups: int, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.scale = heads, 1.0 / math.sqrt(width // heads)
        self.norm = nn.GroupNorm(groups, width)
        self.query = nn.Conv2d(width, width, 1)
        self.key_value = nn.Linear(context, 2 * width)
        self.out = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.out.weight)

    def forward(  # (B, C, H, W), (B, L, D), (B, L), (B, M, 2 C)
        self, x: Tensor, context: Tensor, bias: Tensor, beside: Tensor | None = None
    ) -> Tensor:
        """`beside` are keys and values of what is looked at by itself, and added."""
        _, c, h, w = x.shape
        q = self.query(self.norm(x)).reshape(-1, self.heads, c // self.heads, h * w).transpose(2, 3)
        k, v = self._split(self.key_value(context))
        scores = q @ k * self.scale  # (B, heads, H W, L)
        seen = (scores + bias[:, None, None].to(scores.dtype)).softmax(-1).to(v.dtype) @ v.transpose(2, 3)
        if beside is not None:
            k, v = self._split(beside)
            seen = seen + (q @ k * self.scale).softmax(-1).to(v.dtype) @ v.transpose(2, 3)
        return cast(Tensor, x + self.out(seen.transpose(2, 3).reshape(-1, c, h, w)))

    def _split(self, keys_values: Tensor) -> tuple[Tensor, Tensor]:
        """(B, L, 2 C) -> twice (B, heads, C / heads, L)."""
        count, width = keys_values.shape[1], keys_values.shape[2] // 2
        parted = keys_values.reshape(-1, count, 2, self.heads, width // self.heads).permute(2, 0, 3, 4, 1)
        k, v = parted.unbind(0)
        return k, v


class Perceptron(nn.Module):
    """For each position by itself; zero at the start."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width)
        self.hidden, self.last = nn.Conv2d(width, 4 * width, 1), nn.Conv2d(4 * width, width, 1)
        nn.init.zeros_(self.last.weight)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        return cast(Tensor, x + self.last(F.silu(self.hidden(self.norm(x)))))


class Round(nn.Module):
    """Positions look at each other, then at the context, then each thinks by itself."""

    def __init__(self, width: int, context: int, groups: int) -> None:
        super().__init__()
        self.positions, self.context = Attention(width, groups), CrossAttention(width, context, groups)
        self.perceptron = Perceptron(width, groups)

    def forward(self, x: Tensor, context: Tensor, bias: Tensor, beside: Tensor | None = None) -> Tensor:
        return cast(Tensor, self.perceptron(self.context(self.positions(x), context, bias, beside)))


class TextUNet(nn.Module):
    """`forward(x, c_noise, context, bias)`: (B, C, H, W), (B,), (B, L, D), (B, L) -> (B, C, H, W).

    At its lowest resolution it looks at each word, `rounds` times; the mean of all goes where a class would go.
    """

    def __init__(self, config: UNetConfig, context: int, rounds: int) -> None:
        super().__init__()
        self.unet = UNet(config)
        width = config.channels[-1]
        self.pooled = nn.Linear(context, config.embedding)
        self.rounds = nn.ModuleList(Round(width, context, config.groups) for _ in range(rounds))

    def forward(self, x: Tensor, c_noise: Tensor, context: Tensor, bias: Tensor) -> Tensor:
        return self.unet.walk(x, *self.conditioned(c_noise, context, bias))

    def conditioned(
        self, c_noise: Tensor, context: Tensor, bias: Tensor, beside: Sequence[Tensor] | None = None
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """What all blocks are told, (B, E), and what is done at the lowest resolution.

        `beside` are keys and values for each round.
        """
        dtype = self.pooled.weight.dtype
        context, bias = context.to(dtype), bias.to(dtype)
        pooled = self.pooled(mean_of(context, bias))
        embedding = self.unet.noise_embedding(c_noise).to(dtype) + pooled

        def look(h: Tensor) -> Tensor:
            for place, each in enumerate(self.rounds):
                h = each(h, context, bias, beside[place] if beside else None)
            return h

        return embedding, look
