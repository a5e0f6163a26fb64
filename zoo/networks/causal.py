"""Convolutions in raster order, in two forms that compute the same: of a whole map, and of one position at a time.

A position sees those before it within a reach: all of them in the rows above, and to its left (van den Oord et al.
2016, arXiv:1601.06759, section 3). Read row by row, each neighbour lies a fixed number of positions back, so one
position needs no more than a queue of the last ones (Ramachandran et al. 2017, arXiv:1704.06001).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CausalConv(nn.Module):
    """`forward`: (B, C, H, W) -> (B, C', H, W). `at`: the last `queue` positions, and this one -> (B, C').

    `inclusive` takes in the position itself (mask B); without it `at` needs only those before (mask A).
    """

    places: Tensor
    inside: Tensor

    def __init__(self, width_in: int, width: int, reach: int, side: int, inclusive: bool) -> None:
        super().__init__()
        self.reach, self.side, self.span = reach, side, 2 * reach + 1
        offsets = [(row, column) for row in range(-reach, 1) for column in range(-reach, reach + 1)]
        offsets = [offset for offset in offsets if offset < (0, int(inclusive))]
        self.queue = reach * side + reach  # positions back that it looks
        self.cells = [(row + reach) * self.span + column + reach for row, column in offsets]  # in the kernel
        self.weight = nn.Parameter(torch.empty(width, len(offsets) * width_in))
        self.bias = nn.Parameter(torch.zeros(width))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        places = [self.queue + row * side + column for row, column in offsets]  # in the queue and itself
        self.register_buffer("places", torch.tensor(places), persistent=False)
        self.register_buffer("inside", self._inside(offsets), persistent=False)

    def _inside(self, offsets: list[tuple[int, int]]) -> Tensor:
        """Whether each neighbour of each position lies in the map, (positions, neighbours, 1) float."""
        rows, columns = (axis.reshape(-1, 1) for axis in torch.meshgrid(*2 * [torch.arange(self.side)], indexing="ij"))
        at = torch.tensor(offsets)
        found = [(rows + at[:, 0]) >= 0, (columns + at[:, 1]) >= 0, (columns + at[:, 1]) < self.side]
        return torch.stack(found).all(0).float()[:, :, None]

    def kernel(self) -> Tensor:
        """(C', C, reach + 1, 2 reach + 1): nothing below the position."""
        width, count = len(self.weight), len(self.cells)
        rows = self.weight.reshape(width, count, -1)
        full = rows.new_zeros(width, (self.reach + 1) * self.span, rows.shape[2])
        full = full.index_copy(1, torch.tensor(self.cells, device=rows.device), rows)
        return full.transpose(1, 2).reshape(width, -1, self.reach + 1, self.span)

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (self.reach, self.reach, self.reach, 0))
        return F.conv2d(padded, self.kernel(), self.bias)

    def at(self, position: Tensor, window: Tensor) -> Tensor:
        """(1,) int64, (B, queue [+ 1], C) -> (B, C')."""
        seen = window.index_select(1, self.places) * self.inside.index_select(0, position)
        return F.linear(seen.flatten(1), self.weight, self.bias)


class GatedBlock(nn.Module):
    """x + conv(tanh(a) sigmoid(b)), with a and b of a causal convolution (van den Oord et al. 2016b, equation 2)."""

    def __init__(self, width: int, side: int, num_classes: int) -> None:
        super().__init__()
        self.conv = CausalConv(width, 2 * width, 1, side, inclusive=True)
        self.class_embedding = nn.Embedding(num_classes, 2 * width)
        self.out = nn.Linear(width, width)
        for zero in (self.class_embedding.weight, self.out.weight, self.out.bias):
            nn.init.zeros_(zero)

    def forward(self, x: Tensor, class_ids: Tensor) -> Tensor:  # (B, C, H, W), (B,)
        h = self.conv(x) + self.class_embedding(class_ids)[:, :, None, None]
        return x + self._out(h.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def at(self, position: Tensor, window: Tensor, class_ids: Tensor) -> Tensor:
        """(1,) int64, (B, queue + 1, C), (B,) -> (B, C), the position's."""
        h = self.conv.at(position, window) + self.class_embedding(class_ids)
        return window[:, -1] + self._out(h)

    def _out(self, h: Tensor) -> Tensor:  # (..., 2 C) -> (..., C)
        value, gate = h.chunk(2, dim=-1)
        return cast(Tensor, self.out(torch.tanh(value) * torch.sigmoid(gate)))


class PixelCNN(nn.Module):
    """A distribution over maps of codes, one after the other in raster order, given a class.

    `forward(codes, class_ids)`: (B, H, W), (B,) int64 -> logits (B, codes, H, W), each of the codes before it.
    `draw(gumbel, class_ids)`: (B, H W, codes) -> a sample, (B, H W), in as many steps as there are positions.
    """

    def __init__(self, codes: int, side: int, width: int, blocks: int, reach: int, num_classes: int) -> None:
        super().__init__()
        self.side, self.width = side, width
        self.embedding = nn.Embedding(codes, width // 2)
        self.first = CausalConv(width // 2, width, reach, side, inclusive=False)
        self.position = nn.Parameter(torch.zeros(side * side, width))
        self.blocks = nn.ModuleList(GatedBlock(width, side, num_classes) for _ in range(blocks))
        self.hidden, self.last = nn.Linear(width, width), nn.Linear(width, codes)

    def forward(self, codes: Tensor, class_ids: Tensor) -> Tensor:
        position = self.position.T.reshape(1, -1, self.side, self.side)
        x = self.first(self.embedding(codes).permute(0, 3, 1, 2)) + position
        for block in self.blocks:
            x = block(x, class_ids)
        return self._logits(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def _logits(self, x: Tensor) -> Tensor:  # (..., C) -> (..., codes)
        return cast(Tensor, self.last(F.silu(self.hidden(F.silu(x)))))

    def draw(self, gumbel: Tensor, class_ids: Tensor) -> Tensor:
        """The Gumbel-max trick: logits and standard Gumbel noise, of which the largest is a draw of the softmax."""
        count, batch = self.side**2, gumbel.shape[0]
        state = (
            torch.zeros(1, dtype=torch.int64, device=gumbel.device),  # the position
            gumbel.new_zeros(batch, self.first.queue, self.width // 2),
            gumbel.new_zeros(batch, len(self.blocks), self.side + 1, self.width),
            torch.zeros(batch, count, dtype=torch.int64, device=gumbel.device),
        )

        def step(
            position: Tensor, embedded: Tensor, features: Tensor, drawn: Tensor
        ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
            code, embedded, features = self._next(position, embedded, features, gumbel, class_ids)
            return position + 1, embedded, features, torch.cat([drawn[:, 1:], code[:, None]], dim=1)

        if torch.compiler.is_exporting():
            from torch._higher_order_ops.while_loop import while_loop

            return cast(Tensor, while_loop(lambda position, *_: (position < count).reshape(()), step, state)[3])  # type: ignore[no-untyped-call]
        for _ in range(count):
            state = step(*state)
        return state[3]

    def _next(
        self, position: Tensor, embedded: Tensor, features: Tensor, gumbel: Tensor, class_ids: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One position: its code (B,), and the queues of embeddings and of each block's inputs with it at the end."""
        x = self.first.at(position, embedded) + self.position.index_select(0, position)
        inputs = []
        for index, block in enumerate(self.blocks):
            inputs.append(x)
            x = cast(GatedBlock, block).at(position, torch.cat([features[:, index], x[:, None]], dim=1), class_ids)
        noise = gumbel.index_select(1, position)[:, 0]
        code = torch.argmax(self._logits(x) + noise, dim=1)
        embedded = torch.cat([embedded[:, 1:], self.embedding(code)[:, None]], dim=1)
        features = torch.cat([features[:, :, 1:], torch.stack(inputs, dim=1)[:, :, None]], dim=2)
        return code, embedded, features
