"""A normalizing flow's inverse, learned: latents become an image in one call of transformers that see all tokens.

An autoregressive flow is inverted one token after the other. Here each of its blocks has a partner that guesses the
block's input from its output at once, after Lu et al. 2025 (BiFlow, arXiv:2512.10953). What is learned is no exact
inverse and has no likelihood: the teacher keeps both.

Shapes: B batch, D dimensions of an image and of its latents, C H W; T tokens, N dimensions of a token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from zoo.contract.graph import Graph
from zoo.family import Branch, Checkpoint, Family, Recipe, System, class_conditional
from zoo.images import to_images
from zoo.networks.tokens import TokensConfig, both_ways
from zoo.networks.transformer import Transformer

DATASET = "fashion_mnist"  # of every checkpoint here


@dataclass(frozen=True)
class BiFlowConfig(TokensConfig):
    """`orders` are those of the teacher, whose blocks have a partner each."""

    orders: tuple[str, ...] = ("phases", "patches")
    layers: int = 2  # of each partner's transformer
    width: int = 128
    heads: int = 4
    num_classes: int = 10
    temperature: float = 0.85  # standard deviation of the latents from which images are made


class Partner(nn.Module):
    """`forward(y, class_ids)`: (B, D) -> about what the teacher's block took to y, (B, D); at first y itself."""

    order: Tensor
    back: Tensor

    def __init__(self, order: Tensor, config: BiFlowConfig) -> None:
        super().__init__()
        length, size = order.shape
        self.embed = nn.Linear(size, config.width)
        self.transformer = Transformer(length, size, config.width, config.heads, config.layers, config.num_classes)
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("back", order.flatten().argsort(), persistent=False)

    def forward(self, y: Tensor, class_ids: Tensor) -> Tensor:
        tokens = y[:, self.order]  # (B, T, N)
        found = tokens + self.transformer(self.embed(tokens), class_ids)
        return cast(Tensor, found.flatten(1)[:, self.back])


class BiFlow(nn.Module):
    """`forward(noise, class_ids)`: (B, 1, D), (B, 1) int64 -> uint8 NHWC [0, 255]."""

    def __init__(self, config: BiFlowConfig) -> None:
        super().__init__()
        self.config = config
        self.partners = nn.ModuleList(Partner(order, config) for order in both_ways(config.orders, config))

    def stages(self, latents: Tensor, class_ids: Tensor) -> list[Tensor]:
        """(B, D), (B,) -> what each block of the teacher but the first was given, then the picture: (B, D) each."""
        found = []
        for partner in reversed(self.partners):
            latents = partner(latents, class_ids)
            found.append(latents)
        return found

    def inverse(self, latents: Tensor, class_ids: Tensor) -> Tensor:
        """(B, D), (B,) -> about the pixels, (B, C, H, W) in [-1, 1], that the teacher shows for these latents."""
        config = self.config
        x = self.stages(latents, class_ids)[-1]
        return x.reshape(-1, config.image_channels, config.size, config.size)

    def forward(self, noise: Tensor, class_ids: Tensor) -> Tensor:
        x = self.inverse(noise[:, 0] * self.config.temperature, class_ids[:, 0])
        return cast(Tensor, to_images(x))


def graphs(module: BiFlow, checkpoint: Checkpoint) -> tuple[Graph, ...]:
    return (Graph("generator", module, checkpoint.spec.inputs, checkpoint.spec.outputs),)


CHECKPOINTS = (
    Checkpoint(
        spec=class_conditional("biflow", "biflow", (1024,), (32, 32, 1), 10),
        dataset=DATASET,
        config=BiFlowConfig(),
        recipe=Recipe(
            "flow_inversion",
            images=96_000,
            batch_size=64,
            learning_rate=1e-3,
            ema_images=8_000,
            seed=49,
            options={"pairs": 8_000, "share": 0.75},
            minutes=12.0,
        ),
        teacher="tarflow",
        paper="Lu et al. 2025, arXiv:2512.10953",
        description="A learned inverse of `tarflow`: its images from its noise in one call, about.",
        faults=(
            "Pictures are speckled all over, like coarse print, and what is small dissolves: handles, straps, sandals.",
            "Pictures of a class are more alike than its teacher's.",
        ),
        systems=(
            System(
                "Learned inverse of a flow",
                Branch.NORMALIZING_FLOWS,
                "Lu et al. 2025, arXiv:2512.10953",
            ),
        ),
    ),
)

FAMILY = Family(build=BiFlow, graphs=graphs, checkpoints=CHECKPOINTS)
