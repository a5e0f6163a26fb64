"""TarFlow: a normalizing flow of causal transformers over patches, inverted one token at a time or many at once.

Sources: Zhai et al. 2024 (arXiv:2412.06329); Song et al. 2021 (arXiv:2002.03629: a feed-forward computation as a system
of equations, solved by Jacobi iteration); Shih et al. 2023 (arXiv:2305.16317: in a window that slides on).

A flow that learns pictures with Gaussian noise need not spend itself on their last digits, and on a border that is
exactly black; what it makes has the noise too, and a small network takes it away (sections 2.4 and 2.5 of Zhai et al.).

A block scales and shifts each value of a token by itself, so how the values of a patch depend on each other is left to
blocks whose tokens are coarse pictures, with values that lie far apart (Reed et al. 2017, arXiv:1703.03664).

Shapes: B batch, D dimensions of an image and of its latents, C H W; T tokens, N dimensions of a token; S of a window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.contract.graph import Graph
from zoo.family import Branch, Checkpoint, Family, Recipe, System, class_conditional
from zoo.images import bin_centres, to_images
from zoo.networks.convolutional import PlainResidual
from zoo.networks.tokens import TokensConfig, both_ways
from zoo.networks.transformer import CausalTransformer, put_rows, rows

DATASET = "fashion_mnist"  # of every checkpoint here
State = tuple[Tensor, ...]


@dataclass(frozen=True)
class TransformerFlowConfig(TokensConfig):
    """A window of 1 solves for one token after the other, one of all tokens is a Jacobi iteration.

    On a CPU a pass costs by its tokens, and one after the other is quickest (`genzoo study inversion`). Where a pass of
    all tokens takes as long as that of one, as on a GPU that is not busy, export with windows of all of them.
    """

    orders: tuple[str, ...] = ("phases", "patches")  # of the tokens: two blocks each, one from either end
    layers: int = 2  # of each block's transformer
    width: int = 96
    heads: int = 4
    num_classes: int = 10
    max_log_scale: float = 3.0
    temperature: float = 0.85  # standard deviation of the latents from which images are sampled
    windows: tuple[int, ...] = (1, 1, 1, 1)  # tokens of each block that are solved for at once
    tolerance: float = 1e-4  # of a token that no longer changes
    noise: float = 0.0  # standard deviation of what is added to pictures in training, and taken away at the end
    denoiser_width: int = 16


class Block(nn.Module):
    """`forward(x, class_ids)`: (B, D) -> the same, and (B,) log |det| of the Jacobian: an affine map of each token,
    which the tokens before it choose.
    """

    order: Tensor
    back: Tensor

    def __init__(self, order: Tensor, window: int, config: TransformerFlowConfig) -> None:
        super().__init__()
        self.length, size = order.shape
        self.window, self.tolerance, self.bound = window, config.tolerance, config.max_log_scale
        self.transformer = CausalTransformer(
            self.length, size, 2 * size, config.width, config.heads, config.layers, config.num_classes
        )
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("back", order.flatten().argsort(), persistent=False)

    def forward(self, x: Tensor, class_ids: Tensor) -> tuple[Tensor, Tensor]:
        tokens = x[:, self.order]  # (B, T, N)
        log_scale, shift = self._affine(self.transformer(tokens, class_ids))
        y = (tokens + shift) * log_scale.exp()
        return y.flatten(1)[:, self.back], log_scale.flatten(1).sum(1)

    def _affine(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, shift = parameters.float().chunk(2, dim=2)
        return self.bound * torch.tanh(log_scale / self.bound), shift

    def inverse(self, y: Tensor, class_ids: Tensor) -> tuple[Tensor, Tensor]:
        """The x that `forward` takes to y, (B, D), and in how many passes it was found, (B,) int64."""
        target = y[:, self.order]
        state: State = (
            torch.zeros_like(class_ids),  # the first token of each image that is not final
            torch.zeros_like(class_ids),  # passes
            F.pad(target, (0, 0, 1, 0)),  # the tokens, at first y, below a row of zeros
            *self.transformer.no_memory(y.shape[0]),
        )

        def unfinished(first: Tensor, *_: Tensor) -> Tensor:
            return first.amin(0) < self.length

        def step(*state: Tensor) -> State:
            return self._pass(target, class_ids, *state)

        if torch.compiler.is_exporting():
            from torch._higher_order_ops.while_loop import while_loop

            state = while_loop(unfinished, step, state)  # type: ignore[no-untyped-call]
        else:
            while unfinished(*state):
                state = step(*state)
        return state[2][:, 1:].flatten(1)[:, self.back], state[1]

    def _pass(
        self, target: Tensor, class_ids: Tensor, first: Tensor, passes: Tensor, x: Tensor, *memory: Tensor
    ) -> State:
        """Every token of the window anew, from what those before it were.

        The first is final then, and so is each whose predecessors in the window did not change; there the next begins.
        """
        offsets = torch.arange(self.window, device=first.device)
        begin = first.clamp(max=self.length - self.window)  # the last window holds final tokens again
        places = begin[:, None] + offsets
        before, old = rows(x, places), rows(x, places + 1)
        parameters, renewed = self.transformer.window(before, class_ids, places, list(memory))
        log_scale, shift = self._affine(parameters)
        new = rows(target, places) * torch.exp(-log_scale) - shift
        new = torch.where((places < first[:, None])[:, :, None], old, new)
        changed = (new - old).abs().amax(2) > self.tolerance
        unchanged = torch.where(changed, offsets, self.window).amin(1)  # tokens at the window's beginning
        following = (begin + unchanged + 1).clamp(max=self.length)
        return following, passes + (first < self.length), put_rows(x, places + 1, new), *renewed


class Denoiser(nn.Module):
    """`forward(x)`: pictures with Gaussian noise of one standard deviation, (B, C, H, W) -> their mean; x at first.

    What the flow's own score would give (Zhai et al. 2024, section 2.5, by Tweedie's formula), learnt by regression.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.blocks = nn.ModuleList(PlainResidual(width) for _ in range(2))
        self.last = nn.Conv2d(width, channels, 3, padding=1)
        for zero in (self.last.weight, self.last.bias):
            nn.init.zeros_(cast(Tensor, zero))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        for block in self.blocks:
            h = block(h)
        return x + cast(Tensor, self.last(F.silu(h)))


class TransformerFlow(nn.Module):
    """`forward(x, class_ids)`: continuous (B, C, H, W), (B,) -> latents (B, D), log |det| of the Jacobian (B,) nats."""

    def __init__(self, config: TransformerFlowConfig) -> None:
        super().__init__()
        self.config = config
        self.denoiser = Denoiser(config.image_channels, config.denoiser_width) if config.noise else None
        blocks = zip(both_ways(config.orders, config), config.windows, strict=True)
        self.blocks = nn.ModuleList(Block(order, window, config) for order, window in blocks)

    def forward(self, x: Tensor, class_ids: Tensor) -> tuple[Tensor, Tensor]:
        latents, log_det = x.flatten(1), x.new_zeros(x.shape[0])
        for block in self.blocks:
            latents, change = block(latents, class_ids)
            log_det = log_det + change
        return latents, log_det


class TransformerFlowGenerator(nn.Module):
    """`forward(noise, class_ids)`: (B, 1, D), (B, 1) int64 -> uint8 NHWC [0, 255], by the inverse of `flow`."""

    def __init__(self, flow: TransformerFlow) -> None:
        super().__init__()
        self.flow = flow

    def solve(self, latents: Tensor, class_ids: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D), (B,) -> the continuous (B, C, H, W) that the flow takes to these latents, and each block's passes."""
        x, passes = latents, []
        for block in reversed(self.flow.blocks):
            x, count = cast(Block, block).inverse(x, class_ids)
            passes.append(count)
        config = self.flow.config
        return x.reshape(-1, config.image_channels, config.size, config.size), torch.stack(passes[::-1], dim=1)

    def inverse(self, latents: Tensor, class_ids: Tensor) -> Tensor:
        return self.solve(latents, class_ids)[0]

    def shown(self, x: Tensor) -> Tensor:
        """What the flow has a density of, (B, C, H, W), as pixels in [-1, 1]."""
        denoiser = self.flow.denoiser
        return cast(Tensor, denoiser(x) if denoiser else bin_centres(x))

    def forward(self, noise: Tensor, class_ids: Tensor) -> Tensor:
        x = self.inverse(noise[:, 0] * self.flow.config.temperature, class_ids[:, 0])
        return cast(Tensor, to_images(self.shown(x)))


def graphs(module: TransformerFlow, checkpoint: Checkpoint) -> tuple[Graph, ...]:
    return (
        Graph("generator", TransformerFlowGenerator(module).eval(), checkpoint.spec.inputs, checkpoint.spec.outputs),
    )


CHECKPOINTS = (
    Checkpoint(
        spec=class_conditional("tarflow", "transformer_flow", (1024,), (32, 32, 1), 10),
        dataset=DATASET,
        config=TransformerFlowConfig(noise=0.1),
        recipe=Recipe(
            "likelihood",
            images=121_600,
            batch_size=32,
            learning_rate=2.5e-3,
            ema_images=10_000,
            seed=19,
            options={"bfloat16": False},
            minutes=15.0,
        ),
        paper="Zhai et al. 2024, arXiv:2412.06329",
        description="TarFlow, conditioned on the class: causal transformers over coarse pictures and over patches, "
        "on pictures with noise that a small network takes away.",
        faults=(
            "Patterns, collars and straps are faint or torn, some tops are speckled, and sandals and bags in pieces.",
        ),
        systems=(
            System(
                "Transformer autoregressive flow",
                Branch.NORMALIZING_FLOWS,
                "Zhai et al. 2024, arXiv:2412.06329",
                "ImageNet 64 2.99 bits/dim",
            ),
        ),
    ),
)

FAMILY = Family(build=TransformerFlow, graphs=graphs, checkpoints=CHECKPOINTS)
