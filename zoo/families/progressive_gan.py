"""A progressive GAN: two networks that grow together from 4x4 to 32x32 pixels, one checkpoint a stage.

A stage begins with the weights of the one before it and a block more in each network, which fades in while it trains
(`zoo.training.progressive_growing`). It therefore keeps its discriminator, and names the stage before as its teacher.

Source: Karras et al. 2018, arXiv:1710.10196: equalized learning rate, pixel norm, minibatch deviation, no tanh. Strided
convolutions double and halve the size, as in the authors' own code.

Shapes: B batch, C channels, H height, W width, L latent width.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from zoo.contract.graph import Graph
from zoo.family import Branch, Checkpoint, Family, Recipe, System, class_conditional
from zoo.images import to_images
from zoo.networks.discriminator import batch_deviation

DATASET = "fashion_mnist"  # of every checkpoint here


@dataclass(frozen=True)
class ProgressiveConfig:
    """`channels[i]` is the width at `4 * 2**i` pixels, in both networks; a stage has one more than the one before."""

    channels: tuple[int, ...]
    image_channels: int = 1
    latent: int = 64


class Equalized(nn.Module):
    """A layer of N(0, 1) weights that is scaled when it is used, so that Adam moves all of them alike (section 4.1).

    It is the input that is scaled: the product is the same, and an exported graph uses the weights as they are stored.
    """

    def __init__(self, layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear, gain: float = 2.0**0.5) -> None:
        super().__init__()
        fan_in = layer.weight[0].numel()
        if isinstance(layer, nn.ConvTranspose2d):  # an output pixel meets a part of the kernel of each input channel
            fan_in = layer.weight[:, 0].numel() // (layer.stride[0] * layer.stride[1])
        self.layer, self.scale = layer, gain * fan_in**-0.5
        nn.init.normal_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.layer(x * self.scale))


class PixelNorm(nn.Module):
    """Every pixel's features at length one on average (section 4.2)."""

    def forward(self, x: Tensor) -> Tensor:  # (B, C, ...)
        return x * (x.square().mean(dim=1, keepdim=True) + 1e-6).rsqrt()


def _normalized(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> list[nn.Module]:
    return [Equalized(layer), nn.LeakyReLU(0.2), PixelNorm()]


def _activated(layer: nn.Conv2d | nn.Linear) -> list[nn.Module]:
    return [Equalized(layer), nn.LeakyReLU(0.2)]


class ProgressiveGenerator(nn.Module):
    """`forward(noise)`: (B, 1, L) -> uint8 NHWC [0, 255]."""

    def __init__(self, config: ProgressiveConfig) -> None:
        super().__init__()
        first = config.channels[0]
        self.expand = nn.Sequential(
            PixelNorm(), *_normalized(nn.Linear(config.latent, 16 * first)), nn.Unflatten(1, (first, 4, 4))
        )
        blocks: list[nn.Module] = [nn.Sequential(*_normalized(nn.Conv2d(first, first, 3, padding=1)))]
        for width_in, width in pairwise(config.channels):
            doubled = nn.ConvTranspose2d(width_in, width, 4, stride=2, padding=1)
            convolved = nn.Conv2d(width, width, 3, padding=1)
            blocks.append(nn.Sequential(*_normalized(doubled), *_normalized(convolved)))
        self.blocks = nn.ModuleList(blocks)
        self.to_pixels = nn.ModuleList(Equalized(nn.Conv2d(c, config.image_channels, 1), 1.0) for c in config.channels)

    def pixels(self, latents: Tensor, fade: float = 1.0) -> Tensor:
        """(B, L) -> (B, C, H, W), about [-1, 1]; of the last block's work the share `fade`."""
        h = before = self.expand(latents)
        for block in self.blocks:
            before, h = h, block(h)
        pixels: Tensor = self.to_pixels[-1](h).float()
        return pixels if fade == 1.0 else enlarged(self.to_pixels[-2](before).float()).lerp(pixels, fade)

    def forward(self, noise: Tensor) -> Tensor:
        return cast(Tensor, to_images(self.pixels(noise[:, 0])))


class Discriminator(nn.Module):
    """`forward(pixels, fade)` -> logits (B,): the generator's mirror. B is a multiple of 8."""

    def __init__(self, config: ProgressiveConfig) -> None:
        super().__init__()
        first = config.channels[0]
        self.from_pixels = nn.ModuleList(
            nn.Sequential(*_activated(nn.Conv2d(config.image_channels, width, 1))) for width in config.channels
        )
        blocks = []
        for width_out, width in pairwise(config.channels):
            halved = nn.Conv2d(width, width_out, 4, stride=2, padding=1)
            blocks.append(nn.Sequential(*_activated(nn.Conv2d(width, width, 3, padding=1)), *_activated(halved)))
        self.blocks = nn.ModuleList(blocks)
        self.mix = nn.Sequential(*_activated(nn.Conv2d(first + 1, first, 3, padding=1)))
        self.logit = nn.Sequential(
            nn.Flatten(), *_activated(nn.Linear(16 * first, first)), Equalized(nn.Linear(first, 1), 1.0)
        )

    def forward(self, pixels: Tensor, fade: float = 1.0) -> Tensor:
        h = self.from_pixels[-1](pixels)
        for depth, block in enumerate(reversed(self.blocks)):
            h = block(h)
            if depth == 0 and fade != 1.0:
                h = self.from_pixels[-2](shrunk(pixels, pixels.shape[-1] // 2)).lerp(h, fade)
        return cast(Tensor, self.logit(self.mix(batch_deviation(h)))[:, 0].float())


class ProgressiveGAN(nn.Module):
    """Both networks of a stage."""

    def __init__(self, config: ProgressiveConfig) -> None:
        super().__init__()
        self.generator, self.discriminator = ProgressiveGenerator(config), Discriminator(config)

    def grow_from(self, before: ProgressiveGAN) -> None:
        """Take over the weights of the stage before; a block that it does not have stays as it is."""
        self.load_state_dict({**self.state_dict(), **before.state_dict()})


def enlarged(pixels: Tensor) -> Tensor:
    """Twice the size by nearest neighbours."""
    return F.interpolate(pixels, scale_factor=2.0, mode="nearest")


def shrunk(pixels: Tensor, size: int) -> Tensor:
    """Square pictures at a size that divides theirs, by the mean of what falls together."""
    factor = pixels.shape[-1] // size
    return F.avg_pool2d(pixels, factor) if factor > 1 else pixels


def graphs(module: ProgressiveGAN, checkpoint: Checkpoint) -> tuple[Graph, ...]:
    return (Graph("generator", module.generator, checkpoint.spec.inputs, checkpoint.spec.outputs),)


CHANNELS = (64, 64, 32, 16)


SYSTEM = System(
    "Progressive GAN",
    Branch.GANS,
    "Karras et al. 2018, arXiv:1710.10196",
    "CIFAR-10 Inception score 8.80, unconditional",
)


def _stage(
    name: str,
    size: int,
    images: int,
    rate: float,
    minutes: float,
    fault: str,
    teacher: str | None = None,
    systems: tuple[System, ...] = (),
) -> Checkpoint:
    config = ProgressiveConfig(CHANNELS[: size.bit_length() - 2])
    options = {"r1": 1.0, "r1_interval": 16, "fade": 0.5 if teacher else 0.0, "decay": False}
    return Checkpoint(
        spec=class_conditional(name, "progressive_gan", (config.latent,), (size, size, config.image_channels), 0),
        dataset=DATASET,
        config=config,
        recipe=Recipe(
            "progressive_growing",
            images=images,
            batch_size=64,
            learning_rate=rate,
            ema_images=10_000,
            seed=size,
            options=options,
            minutes=minutes,
        ),
        paper="Karras et al. 2018, arXiv:1710.10196",
        teacher=teacher,
        description=f"The stage of {size}x{size} pixels of a progressive GAN.",
        faults=(fault,),
        systems=systems,
    )


CHECKPOINTS = (
    _stage("pgan-4", 4, 25_600, 8e-3, 1.0, "Nobody can tell a piece of clothing in sixteen pixels."),
    _stage("pgan-8", 8, 25_600, 8e-3, 2.0, "Some images are smudges.", "pgan-4"),
    _stage("pgan-16", 16, 25_600, 5e-3, 3.0, "Many clothes are speckled; few have a texture of their own.", "pgan-8"),
    _stage("pgan", 32, 32_000, 5e-3, 6.0, "Bags and sandals are torn, and dark shirts blurred.", "pgan-16", (SYSTEM,)),
)

FAMILY = Family(build=ProgressiveGAN, graphs=graphs, checkpoints=CHECKPOINTS)
