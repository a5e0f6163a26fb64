"""A mean flow that is told how strongly it is guided: one call, whatever the guidance, where a sum of two takes two.

Sources: Geng et al. 2025 (improved mean flow, arXiv:2512.02012: the scale of guidance as an input of the network);
Ho & Salimans 2022 (classifier-free guidance).

Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.contract.conditions import Condition, class_id, scalar
from zoo.contract.graph import Graph
from zoo.contract.spec import GeneratorSpec, Noise, Sampling
from zoo.family import Branch, Checkpoint, Family, Recipe, System, denoiser_graph
from zoo.networks.unet import UNet, UNetConfig

DATASET = "fashion_mnist"  # of every checkpoint here
GUIDANCE = scalar.Options(1.0, 4.0)  # 1: none


class GuidedMeanFlow(nn.Module):
    """`forward(x, c_noise, class_ids, guidance, c_next)`: -> (B, C, H, W), as `UNet` and guidance (B,)."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.denoiser = UNet(config)
        last = nn.Linear(config.embedding, config.embedding, bias=False)
        nn.init.zeros_(last.weight)
        self.guidance = nn.Sequential(nn.Linear(1, config.embedding), nn.SiLU(), last)

    def forward(self, x: Tensor, c_noise: Tensor, class_ids: Tensor, guidance: Tensor, c_next: Tensor) -> Tensor:
        embedding = self.denoiser.embedding(c_noise, class_ids, c_next)
        strength = torch.log(guidance)[:, None].to(embedding.dtype)
        return self.denoiser.walk(x, embedding + self.guidance(strength), self.denoiser.attention)


def graphs(module: GuidedMeanFlow, checkpoint: Checkpoint) -> tuple[Graph, ...]:
    return (denoiser_graph(module, checkpoint.spec),)


CHECKPOINTS = (
    Checkpoint(
        spec=GeneratorSpec(
            "fm-imf",
            "guided_mean_flow",
            (Noise("noise", (1, 32, 32)),),
            (32, 32, 1),
            (
                Condition("class_id", "class_id", class_id.Options(10)),
                Condition("guidance", "scalar", GUIDANCE, default=1.5),
            ),
            Sampling("velocity", "linear", ("ddim",), num_steps=1, steps=(1, 2, 4), whole_steps=True),
        ),
        dataset=DATASET,
        config=UNetConfig(whole_steps=True),
        recipe=Recipe(
            "guided_mean_flow",
            images=96_000,
            batch_size=64,
            learning_rate=3e-4,
            ema_images=4_000,
            seed=45,
            options={"apart": 0.5, "stretch": [0.5, 0.1], "class_dropout": 0.1, "guidance_rate": 5e-3},
            minutes=12.0,
        ),
        teacher="fm",
        paper="Geng et al. 2025, arXiv:2512.02012",
        description="A mean flow whose guidance is an input, begun from the weights of `fm`: one call at any guidance.",
        faults=(
            "Dark shirts and dark shoes nearly vanish in the background, which is faintly speckled in one step.",
            "Sandals are in pieces, and light clothes are plainer and brighter than real ones.",
        ),
        systems=(
            System(
                "Improved mean flow",
                Branch.FEW_STEPS,
                "Geng et al. 2025, arXiv:2512.02012",
                "ImageNet 256 FID 1.72 in 1",
            ),
        ),
    ),
)

FAMILY = Family(build=GuidedMeanFlow, graphs=graphs, checkpoints=CHECKPOINTS)
