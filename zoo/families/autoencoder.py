"""Autoencoders, plain and denoising; they generate from Gaussians fitted to each class's codes after training.

Sources: Hinton & Salakhutdinov 2006 (deep autoencoders); Vincent et al. 2008 (denoising autoencoders); Ghosh et al.
2020 (a density fitted to the codes ex post).

Shapes: B batch, C channels, H height, W width, L latent width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from zoo.contract.graph import Graph
from zoo.family import Branch, Checkpoint, Family, Recipe, System, class_conditional
from zoo.images import to_images
from zoo.networks.convolutional import doublings, halvings
from zoo.networks.mixture import ClassMixture

DATASET = "fashion_mnist"  # of every checkpoint here


@dataclass(frozen=True)
class AutoencoderConfig:
    """`channels[i]` is the width at `size / 2**(i + 1)`; the last is that of the smallest maps."""

    image_channels: int = 1
    size: int = 32
    channels: tuple[int, ...] = (32, 64, 96)
    latent: int = 32
    num_classes: int = 10
    components: int = 1  # Gaussians of the codes of each class


class Autoencoder(nn.Module):
    """`forward(noise, class_ids)`: (B, 1, L), (B, 1) int64 -> uint8 NHWC [0, 255].

    The network knows no classes; only the Gaussians of the codes do. Where there are several, the noise is a number
    longer, which chooses among them.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.smallest = (config.channels[-1], *(2 * [config.size >> len(config.channels)]))
        features = self.smallest[0] * self.smallest[1] ** 2
        self.encoder = halvings(config.image_channels, config.channels)
        self.to_code = nn.Linear(features, config.latent)
        self.expand = nn.Linear(config.latent, features)
        self.decoder = doublings(config.channels, config.image_channels)
        self.codes = ClassMixture(config.num_classes, config.components, config.latent)

    def encode(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) in [-1, 1] -> (B, L)."""
        return cast(Tensor, self.to_code(self.encoder(pixels).flatten(1)).float())

    def decode(self, latents: Tensor) -> Tensor:
        """(B, L) -> (B, C, H, W); beyond [-1, 1] it is black or white."""
        h = F.silu(self.expand(latents)).reshape(-1, *self.smallest)
        return cast(Tensor, self.decoder(h).float())

    def reconstruct(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) in [-1, 1] -> the same."""
        return self.decode(self.encode(pixels)).clamp(-1.0, 1.0)

    def forward(self, noise: Tensor, class_ids: Tensor) -> Tensor:
        return cast(Tensor, to_images(self.decode(self.codes(noise, class_ids[:, 0]))))


def graphs(module: Autoencoder, checkpoint: Checkpoint) -> tuple[Graph, ...]:
    return (Graph("generator", module, checkpoint.spec.inputs, checkpoint.spec.outputs),)


def _recipe(masked: float, seed: int) -> Recipe:
    return Recipe(
        "reconstruction",
        images=128_000,
        learning_rate=2e-3,
        ema_images=10_000,
        seed=seed,
        options={"masked": masked},
        minutes=6.0,
    )


FAULTS = (
    "Its images are blurred, and those far from the mean of their class are smears: codes are not Gaussian.",
    "Its generator is an afterthought; what it is for is to tell what is no piece of clothing.",
)

CHECKPOINTS = (
    Checkpoint(
        spec=class_conditional("ae", "autoencoder", (32,), (32, 32, 1), 10),
        dataset=DATASET,
        config=AutoencoderConfig(),
        recipe=_recipe(masked=0.0, seed=31),
        paper="Hinton & Salakhutdinov 2006, doi:10.1126/science.1127647",
        description=(
            "A convolutional autoencoder with 32 latents, trained as a whole, not layer by layer as in 2006; images "
            "come from a Gaussian fitted to each class's codes (Ghosh et al. 2020)."
        ),
        faults=FAULTS,
        systems=(
            System("Autoencoder", Branch.AUTOENCODERS, "Hinton & Salakhutdinov 2006, doi:10.1126/science.1127647"),
        ),
    ),
    Checkpoint(
        spec=class_conditional("dae", "autoencoder", (33,), (32, 32, 1), 10),
        dataset=DATASET,
        config=AutoencoderConfig(components=10),
        recipe=_recipe(masked=0.5, seed=31),
        paper="Vincent et al. 2008, doi:10.1145/1390156.1390294",
        description=(
            "The same autoencoder, trained to restore pictures of which half of the pixels were masked. Images "
            "come from ten Gaussians a class, fitted to the codes of masked pictures, as its decoder knows no others."
        ),
        faults=("Its images are blurred, without prints or seams; dark clothes and sandals are smears.", FAULTS[1]),
        systems=(
            System("Denoising autoencoder", Branch.AUTOENCODERS, "Vincent et al. 2008, doi:10.1145/1390156.1390294"),
        ),
    ),
)

FAMILY = Family(build=Autoencoder, graphs=graphs, checkpoints=CHECKPOINTS)
