"""Transformers that see all tokens, or those before each; the causal one in two forms that compute the same.

Sources: Vaswani et al. 2017; Radford et al. 2019 (normalization before each part). The causal one is of a whole
sequence, or of a window of it at a time, which sees the tokens before it through its layers' memory, the keys and
values of all places.

Shapes: B batch, T tokens of a sequence, S tokens of a window, N numbers of a token, W width.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Layer(nn.Module):
    """Attention, then a perceptron for each token by itself; both are added to their input, and zero at the start."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.hidden, self.last = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        for zero in (self.out.weight, self.out.bias, self.last.weight, self.last.bias):
            nn.init.zeros_(zero)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, T, W) -> the same. `mask`, (B or 1, 1, T, T), is 0 where a row sees a column, and -inf elsewhere."""
        h = self.norm1(x)
        return self._add(x, h, self.key_value(h), mask)

    def window(self, x: Tensor, mask: Tensor, places: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, W) at `places`, (B, S), and the memory (B, T, 2 W) -> the same, the window's own part renewed."""
        h = self.norm1(x)
        memory = put_rows(memory, places, self.key_value(h))
        return self._add(x, h, memory, mask), memory

    def _add(self, x: Tensor, h: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        keys, values = (self._split(each) for each in memory.chunk(2, dim=2))
        seen = F.scaled_dot_product_attention(self._split(self.query(h)), keys, values, mask.to(keys.dtype))
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        added: Tensor = self.last(F.gelu(self.hidden(self.norm2(x)), approximate="tanh"))
        return x + added

    def _split(self, x: Tensor) -> Tensor:  # (B, T, W) -> (B, heads, T, W / heads)
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)


class Transformer(nn.Module):
    """`forward(x, class_ids)`: embedded tokens (B, T, W), (B,) int64 -> (B, T, N'), each from all; 0 at first."""

    def __init__(self, length: int, size_out: int, width: int, heads: int, layers: int, num_classes: int) -> None:
        super().__init__()
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.class_embedding = nn.Embedding(num_classes, width)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, size_out)
        for zero in (self.class_embedding.weight, self.head.weight, self.head.bias):
            nn.init.zeros_(zero)

    def forward(self, x: Tensor, class_ids: Tensor) -> Tensor:
        x = x + self.position + self.class_embedding(class_ids)[:, None]
        everything = x.new_zeros(1, 1, x.shape[1], x.shape[1])  # no row is hidden from another
        for layer in self.layers:
            x = layer(x, everything)
        return cast(Tensor, self.head(self.norm(x)).float())


class CausalTransformer(nn.Module):
    """`forward(tokens, class_ids)`: (B, T, N), (B,) int64 -> (B, T, N'), each from the tokens before it; 0 at first."""

    def __init__(
        self, length: int, size_in: int, size_out: int, width: int, heads: int, layers: int, num_classes: int
    ) -> None:
        super().__init__()
        self.width = width
        self.embed = nn.Linear(size_in, width, bias=False)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.class_embedding = nn.Embedding(num_classes, width)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, size_out)
        for zero in (self.class_embedding.weight, self.head.weight, self.head.bias):
            nn.init.zeros_(zero)

    def forward(self, tokens: Tensor, class_ids: Tensor) -> Tensor:
        places = torch.arange(len(self.position), device=tokens.device)[None]
        x, mask = self._begin(F.pad(tokens[:, :-1], (0, 0, 1, 0)), class_ids, places)
        for layer in self.layers:
            x = layer(x, mask)
        found: Tensor = self.head(self.norm(x))
        return found

    def no_memory(self, batch: int) -> list[Tensor]:
        """That of each layer before the first window."""
        shape = (batch, len(self.position), 2 * self.width)
        return [self.position.new_zeros(shape) for _ in self.layers]

    def window(
        self, before: Tensor, class_ids: Tensor, places: Tensor, memory: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """What is at `places`, (B, S), from the tokens right `before` each, (B, S, N), 0 before the first: (B, S, N').

        The memory is of all places before the window, and returned with those of the window.
        """
        x, mask = self._begin(before, class_ids, places)
        renewed = []
        for layer, of_layer in zip(self.layers, memory, strict=True):
            x, of_layer = cast(Layer, layer).window(x, mask, places, of_layer)
            renewed.append(of_layer)
        return self.head(self.norm(x)), renewed

    def _begin(self, before: Tensor, class_ids: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """The first layer's input, (B, S, W), and the mask of all."""
        x = self.embed(before) + self.position[places] + self.class_embedding(class_ids)[:, None]
        visible = places[:, None, :, None] >= torch.arange(len(self.position), device=places.device)
        return x, torch.where(visible, 0.0, float("-inf"))


def rows(x: Tensor, places: Tensor) -> Tensor:
    """The rows of each sequence at places of its own: (B, T, N), (B, S) -> (B, S, N)."""
    return x.flatten(0, 1)[_flat(x, places)].reshape(*places.shape, -1)


def put_rows(x: Tensor, places: Tensor, values: Tensor) -> Tensor:
    """The sequences with other rows there: (B, T, N), (B, S), (B, S, N) -> (B, T, N)."""
    return x.flatten(0, 1).index_put((_flat(x, places),), values.flatten(0, 1)).reshape(x.shape)


def _flat(x: Tensor, places: Tensor) -> Tensor:
    """Places as rows of all sequences, one below the other: (B S,)."""
    return (torch.arange(x.shape[0], device=x.device)[:, None] * x.shape[1] + places).flatten()
