"""A normalizing flow in the latents of a first stage: likelihoods and noise are of latents, pictures are decoded.

Sources: Gu et al. 2025 (STARFlow, arXiv:2506.06276): an autoregressive flow of transformers on the latents of an
autoencoder, trained on latents with Gaussian noise, and a decoder that is tuned to take that noise away; Zhai et al.
2024 (arXiv:2412.06329) for the flow.

Shapes: B batch, C image channels, L latent channels, H height, W width; latents are (B, L, H / 4, W / 4), and D of
them are an image's noise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from zoo.contract.graph import Graph
from zoo.families.transformer_flow import TransformerFlow, TransformerFlowConfig, TransformerFlowGenerator
from zoo.family import Branch, Checkpoint, Family, Recipe, System, class_conditional
from zoo.images import to_images
from zoo.networks.first_stage import FirstStage

LATENTS = 4
CLASSES = 12


def _flow() -> TransformerFlowConfig:
    return TransformerFlowConfig(
        image_channels=LATENTS, size=16, patch=2, width=112, num_classes=CLASSES, temperature=0.9
    )


@dataclass(frozen=True)
class LatentFlowConfig:
    """`channels` are the first stage's widths at a half and at a quarter of the size; the flow's images are latents."""

    image_channels: int = 3
    channels: tuple[int, int] = (48, 96)
    flow: TransformerFlowConfig = field(default_factory=_flow)


class LatentFlow(nn.Module):
    """`forward(noise, class_ids)`: (B, 1, D), (B, 1) int64 -> uint8 NHWC [0, 255]."""

    def __init__(self, config: LatentFlowConfig) -> None:
        super().__init__()
        self.config = config
        self.first_stage = FirstStage(config.image_channels, config.flow.image_channels, config.channels)
        self.flow = TransformerFlow(config.flow)

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) in [-1, 1] -> the latents of which the flow has a likelihood once noise is added to them."""
        return self.first_stage.encode(pixels)

    def inverse(self, noise: Tensor, class_ids: Tensor) -> Tensor:
        """(B, D), (B,) -> the latents that the flow takes to this noise, (B, L, H / 4, W / 4)."""
        return TransformerFlowGenerator(self.flow).inverse(noise, class_ids)

    def forward(self, noise: Tensor, class_ids: Tensor) -> Tensor:
        latents = self.inverse(noise[:, 0] * self.config.flow.temperature, class_ids[:, 0])
        return cast(Tensor, to_images(self.first_stage(latents)))


def graphs(module: LatentFlow, checkpoint: Checkpoint) -> tuple[Graph, ...]:
    return (Graph("generator", module, checkpoint.spec.inputs, checkpoint.spec.outputs),)


CHECKPOINTS = (
    Checkpoint(
        spec=class_conditional("latent-flow", "latent_flow", (1024,), (64, 64, 3), CLASSES),
        dataset="designs",
        config=LatentFlowConfig(),
        recipe=Recipe(
            "latent_likelihood",
            images=160_000,
            batch_size=32,
            learning_rate=2e-3,
            ema_images=10_000,
            seed=52,
            options={"noise": 0.2, "adversarial": 0.05, "decoded": 0.125, "bfloat16": False},
            minutes=20.0,
        ),
        teacher="kl-f4",
        paper="Gu et al. 2025, arXiv:2506.06276",
        description="A transformer autoregressive flow on the latents of `kl-f4`, by kind: twelve designs in colour.",
        faults=(
            "Planets have no rings, moons or craters and few stars; horns, plants and hair melt into stumps.",
            "Colours and light run softly over what is flat in the data, and mouths and eyes are smudged in places.",
        ),
        systems=(
            System(
                "Latent autoregressive flow",
                Branch.NORMALIZING_FLOWS,
                "Gu et al. 2025, arXiv:2506.06276",
                "ImageNet 256 FID 2.40",
            ),
        ),
    ),
)

FAMILY = Family(build=LatentFlow, graphs=graphs, checkpoints=CHECKPOINTS)
