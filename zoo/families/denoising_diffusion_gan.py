"""Denoising diffusion GAN (Xiao et al. 2022): a few large steps, each drawn by an implicit model instead of a Gaussian.

The generator needs a noise z of its own at every step. Here z is a second channel of the state: an image of zeros that
is diffused like any other, so the house's samplers renew it, and scaled by `c_in` it is nearly standard normal.

Shapes: B batch, H height, W width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from zoo.contract.graph import BATCH, Graph, TensorSpec
from zoo.contract.spec import Sampling
from zoo.family import Branch, Checkpoint, Family, Recipe, System, class_conditional, denoiser_graph
from zoo.networks.unet import UNet, UNetConfig

DATASET = "fashion_mnist"  # of every checkpoint here


class ImplicitDenoiser(nn.Module):
    """`forward(x, c_noise, class_ids)`: (B, 2, H, W) -> (B, 2, H, W), in v; the second channel's estimate is zero."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.network = UNet(config)

    def forward(self, x: Tensor, c_noise: Tensor, class_ids: Tensor) -> Tensor:
        image = self.network(x, c_noise, class_ids)[:, :1]
        angle = (0.5 * math.pi) * c_noise
        # D = c_skip x + c_out F = 0 in v-prediction is F = (c_in x) / sigma.
        still = x[:, 1:] * (angle.cos() / angle.sin())[:, None, None, None]
        return torch.cat([image, still], dim=1)


class FirstChannel(nn.Module):
    """The decoder: (B, 2, H, W) -> (B, 1, H, W)."""

    def forward(self, latents: Tensor) -> Tensor:
        return latents[:, :1]


class DenoisingDiffusionGAN(nn.Module):
    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.denoiser = ImplicitDenoiser(config)
        self.decoder = FirstChannel()


def graphs(module: DenoisingDiffusionGAN, checkpoint: Checkpoint) -> tuple[Graph, ...]:
    height, width, channels = checkpoint.spec.image_shape
    latents = TensorSpec("latents", "float32", (BATCH, *checkpoint.spec.latent_shape))
    pixels = TensorSpec("pixels", "float32", (BATCH, channels, height, width))
    return (
        denoiser_graph(module.denoiser, checkpoint.spec),
        Graph("decoder", module.decoder, (latents,), (pixels,)),
    )


CHECKPOINTS = (
    Checkpoint(
        spec=class_conditional(
            "ddgan",
            "denoising_diffusion_gan",
            (2, 32, 32),
            (32, 32, 1),
            10,
            Sampling(samplers=("ddpm",), num_steps=4, steps=(4,)),
        ),
        dataset=DATASET,
        config=UNetConfig(image_channels=2),
        recipe=Recipe(
            "denoising_diffusion_gan",
            images=24_000,
            batch_size=64,
            learning_rate=5e-5,
            ema_images=5_000,
            seed=41,
            options={
                "steps": 4,
                "r1": 0.02,
                "r1_interval": 8,
                "discriminator_rate": 2e-4,
                "alone": 0.05,
                "anchor": [5.0, 1.5],
            },
            minutes=15.0,
        ),
        teacher="ddpm",
        paper="Xiao et al. 2022, arXiv:2112.07804",
        description="A denoising diffusion GAN of four steps, begun from the weights of `ddpm`.",
        faults=(
            "Dark and printed clothes are spotted with black and white, and some sandals are in pieces.",
            "It is less varied than its teacher: the discriminator rewards what is plainly of its class.",
        ),
        systems=(
            System(
                "Denoising diffusion GAN",
                Branch.FEW_STEPS,
                "Xiao et al. 2022, arXiv:2112.07804",
                "CIFAR-10 FID 3.75 in 4 steps",
            ),
        ),
    ),
)

FAMILY = Family(build=DenoisingDiffusionGAN, graphs=graphs, checkpoints=CHECKPOINTS)
