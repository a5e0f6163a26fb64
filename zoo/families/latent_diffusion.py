"""Latent diffusion: a first stage that halves the size twice, diffusion on its latents, and a consistency model of it.

Sources: Rombach et al. 2022 (latent diffusion, the KL first stage with an adversarial loss); Luo et al. 2023 (LCM).

Shapes: B batch, C image channels, L latent channels, H height, W width; latents are (B, L, H / 4, W / 4).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from zoo.contract.graph import BATCH, Graph, TensorSpec
from zoo.contract.spec import GeneratorSpec, Sampling
from zoo.family import Branch, Checkpoint, Family, Recipe, System, class_conditional, denoiser_graph
from zoo.networks.first_stage import Encoder, FirstStage
from zoo.networks.unet import UNet, UNetConfig

DATASET = "fashion_mnist"  # of every checkpoint here


@dataclass(frozen=True)
class LatentDiffusionConfig:
    """`channels` are the first stage's widths at a half and at a quarter of the size."""

    image_channels: int = 1
    latent_channels: int = 4
    channels: tuple[int, int] = (32, 64)
    denoiser: UNetConfig = field(default_factory=lambda: UNetConfig(image_channels=4, patch=1, channels=(64, 128)))


class LatentDiffusion(nn.Module):
    def __init__(self, config: LatentDiffusionConfig) -> None:
        super().__init__()
        self.first_stage = FirstStage(config.image_channels, config.latent_channels, config.channels)
        self.denoiser = UNet(config.denoiser)

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """What is diffused: the normalized means."""
        return self.first_stage.encode(pixels)


def graphs(module: LatentDiffusion, checkpoint: Checkpoint) -> tuple[Graph, ...]:
    height, width, channels = checkpoint.spec.image_shape
    latents = TensorSpec("latents", "float32", (BATCH, *checkpoint.spec.latent_shape))
    pixels = TensorSpec("pixels", "float32", (BATCH, channels, height, width))
    image = TensorSpec("image", "float32", pixels.shape)
    return (
        Graph("encode_image", Encoder(module.first_stage), (image,), (latents,)),
        denoiser_graph(module.denoiser, checkpoint.spec),
        Graph("decoder", module.first_stage, (latents,), (pixels,)),
    )


def _spec(name: str, sampling: Sampling) -> GeneratorSpec:
    return class_conditional(name, "latent_diffusion", (4, 8, 8), (32, 32, 1), 10, sampling)


FIRST_STAGE_FAULT = "The first stage reconstructs unseen pictures at 22 dB only: fine patterns do not survive it."

CHECKPOINTS = (
    Checkpoint(
        spec=_spec("ldm", Sampling(num_steps=20, max_guidance_scale=8.0, encodes_images=True)),
        dataset=DATASET,
        config=LatentDiffusionConfig(),
        recipe=Recipe(
            "latent_diffusion",
            images=260_000,
            learning_rate=1.5e-3,
            ema_images=20_000,
            seed=21,
            options={"class_dropout": 0.1, "first_stage": 0.3, "kl": 1e-4, "adversarial": 0.1},
            minutes=25.0,
        ),
        paper="Rombach et al. 2022, arXiv:2112.10752",
        description="Diffusion on the 4x8x8 latents of a first stage trained with an adversarial loss.",
        faults=(FIRST_STAGE_FAULT, "Some dresses and bags have holes or lumps."),
        systems=(
            System(
                "Latent diffusion",
                Branch.DIFFUSION,
                "Rombach et al. 2022, arXiv:2112.10752",
                "ImageNet 256 FID 3.60 in 250 steps, guided",
            ),
        ),
    ),
    Checkpoint(
        spec=_spec("lcm", Sampling(samplers=("consistency",), num_steps=4, steps=(1, 2, 3, 4), encodes_images=True)),
        dataset=DATASET,
        config=LatentDiffusionConfig(),
        recipe=Recipe(
            "consistency_distillation",
            images=64_000,
            batch_size=64,
            learning_rate=3e-4,
            ema_images=10_000,
            seed=22,
            options={"grid": 20, "guidance_scale": 1.5},
            minutes=12.0,
        ),
        teacher="ldm",
        paper="Luo et al. 2023, arXiv:2310.04378",
        description="The latent consistency model of `ldm`, with guidance 1.5 distilled in: one to four steps.",
        faults=(FIRST_STAGE_FAULT,),
        systems=(
            System(
                "Latent consistency model",
                Branch.FEW_STEPS,
                "Luo et al. 2023, arXiv:2310.04378",
                "LAION-Aesthetics 512 FID 11.10 in 4 steps",
            ),
        ),
    ),
)

FAMILY = Family(build=LatentDiffusion, graphs=graphs, checkpoints=CHECKPOINTS)
