"""Train the three feature nets in which quality is measured: three networks and objectives, the same pictures.

`classifier` learns the classes, so it sees what a picture shows. `critic` learns without labels to tell what is wrong
with a picture (blur, noise, shuffled tiles, torn rows, a ghost of another picture: which, and how much), how it is
rotated, and which two views come from one picture. Its features come from every depth, so it sees texture that a
classifier overlooks. `contrastive` learns one thing only, which two views are of one picture (Chen et al. 2020):
neither our classes nor our list of faults shaped it. All end in features of zero mean and unit variance over the
training set.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.quality.judges import feature_training
from benchmarks.quality.judges.feature_training import (
    Comparison,
    Contrastive,
    Design,
    FeatureNet,
    scaled,
)
from benchmarks.quality.judges.parts import AdamW, Residual, conv
from zoo.datasets.fashion_mnist import DATASET
from zoo.family import Recipe
from zoo.training.loop import Batch, autocast


class Classifier(FeatureNet):
    """A strided residual network (He et al. 2016); the features are those before its linear head."""

    width = 128

    def __init__(self) -> None:
        super().__init__(self.width)
        self.body = nn.Sequential(
            *(conv(1, 32, 5, 2), Residual(32)),
            *(conv(32, 64, 3, 2), Residual(64)),
            *(conv(64, 128, 3, 2), Residual(128)),
        )
        self.head = nn.Linear(self.width, 10)

    def features(self, pixels: Tensor) -> Tensor:
        return torch.mean(self.body(pixels), (2, 3))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:  # -> (B, 128), (B, 10)
        raw = self.features(scaled(images))
        return self.standard(raw), self.head(raw)


class Critic(FeatureNet):
    """A plain convolutional network with average pooling; the features are the channel means of all four depths."""

    stages = (16, 32, 48, 64)
    width = sum(stages)

    def __init__(self) -> None:
        super().__init__(self.width)
        inputs = (1, *self.stages[:-1])
        self.body = nn.ModuleList(
            nn.Sequential(conv(i, o), conv(o, o)) for i, o in zip(inputs, self.stages, strict=True)
        )
        self.hidden = nn.Sequential(nn.Linear(self.width, 256), nn.ReLU())
        self.strengths = nn.Linear(self.width, len(FAULTS))  # linear: so distances between features grow with damage
        self.rotation = nn.Linear(256, 4)
        self.projection = nn.Linear(256, 64)

    def features(self, pixels: Tensor) -> Tensor:
        h, means = pixels, []
        for depth, stage in enumerate(self.body):
            h = stage(F.avg_pool2d(h, 2) if depth else h)
            means.append(h.mean((2, 3)))
        return torch.cat(means, 1)


def jitter(pixels: Tensor, reach: int = 2) -> Tensor:
    """A random flip and shift of each picture."""
    flipped = torch.where(torch.rand(len(pixels), 1, 1, 1) < 0.5, pixels.flip(3), pixels)
    offsets = torch.randint(-reach, reach + 1, (2, len(pixels), 1))
    rows, columns = ((torch.arange(32) + offset) % 32 for offset in offsets)
    return flipped[torch.arange(len(pixels))[:, None, None], 0, rows[:, :, None], columns[:, None, :]][:, None]


def harmless(pixels: Tensor) -> Tensor:
    """What must not count as a fault: a flip, a shift, a slight zoom, contrast, and noise too weak to see."""
    count = len(pixels)
    zoom = 1.0 + 0.06 * (torch.rand(count, 1, 1) - 0.5)
    shift = 0.12 * (torch.rand(count, 2, 1) - 0.5)
    grid = F.affine_grid(torch.cat([torch.eye(2) * zoom, shift], 2), [count, 1, 32, 32], align_corners=False)
    resampled = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    pixels = jitter(torch.where(torch.rand(count, 1, 1, 1) < 0.5, resampled, pixels))
    contrast, level = 1.0 + 0.2 * (torch.rand(count, 1, 1, 1) - 0.5), 0.04 * torch.rand(count, 1, 1, 1)
    return ((pixels + 1.0) * contrast - 1.0 + level * torch.randn_like(pixels)).clamp(-1.0, 1.0)


# The faults: pictures and strengths (B,) in [0, 1] -> pictures.


def blur(pixels: Tensor, strength: Tensor) -> Tensor:
    sigma = 0.2 + 2.0 * strength[:, None]
    kernel = torch.exp(-0.5 * (torch.arange(-4, 5) / sigma) ** 2)
    kernel = kernel / kernel.sum(1, keepdim=True)
    padded = F.pad(pixels.transpose(0, 1), (4, 4, 4, 4), mode="replicate")
    across = F.conv2d(padded, kernel[:, None, None, :], groups=len(pixels))
    return F.conv2d(across, kernel[:, None, :, None], groups=len(pixels)).transpose(0, 1)


def noise(pixels: Tensor, strength: Tensor) -> Tensor:
    sigma = (0.8 * strength**2)[:, None, None, None]
    return (pixels + sigma * torch.randn_like(pixels)).clamp(-1.0, 1.0)


def shuffle(pixels: Tensor, strength: Tensor) -> Tensor:
    """Tiles move, the further the stronger."""
    size = int(2 ** torch.randint(1, 4, ()))
    side = 32 // size
    tiles = F.unfold(pixels, size, stride=size)  # (B, size^2, side^2)
    position = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"))
    moved = position[None] + 4.0 * strength[:, None, None, None] * torch.rand(len(pixels), 2, side, side)
    order = (moved[:, 0].round() * 2 * side + moved[:, 1]).flatten(1).argsort(1)
    return F.fold(tiles.gather(2, order[:, None].expand_as(tiles)), 32, size, stride=size)


def tear(pixels: Tensor, strength: Tensor) -> Tensor:
    """Rows slide sideways."""
    offsets = (torch.randn(len(pixels), 32) * 4.0 * strength[:, None] ** 2).round().long()
    columns = (torch.arange(32) + offsets[:, :, None]) % 32
    return pixels.gather(3, columns[:, None])


def ghost(pixels: Tensor, strength: Tensor) -> Tensor:
    weight = 0.5 * strength[:, None, None, None]
    return pixels.lerp(pixels.roll(1, 0), weight)


FAULTS: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (blur, noise, shuffle, tear, ghost)


def spoil(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Each fault on an equal share of the batch: (B, 1, 32, 32), and its strength in its own column (B, faults)."""
    strength = torch.rand(len(pixels))
    shares = torch.arange(len(pixels)).tensor_split(len(FAULTS))
    spoiled = [fault(pixels[rows], strength[rows]) for fault, rows in zip(FAULTS, shares, strict=True)]
    strengths = torch.zeros(len(pixels), len(FAULTS))
    for column, rows in enumerate(shares):
        strengths[rows, column] = strength[rows]
    return torch.cat(spoiled), strengths


class Classification(AdamW):
    """Cross-entropy with label smoothing, under flips and shifts."""

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        pixels, class_ids = batch.images, batch.class_ids
        with autocast(pixels.device):
            logits = self.model.head(self.model.features(jitter(pixels)))  # type: ignore[operator]
        loss = F.cross_entropy(logits.float(), class_ids, label_smoothing=0.05)
        self.update(loss)
        return {"loss": loss.detach(), "accuracy": (logits.argmax(1) == class_ids).float().mean()}


class Criticism(AdamW):
    """What is wrong and how much, the rotation (Gidaris et al. 2018), and the twin (Chen et al. 2020)."""

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        pixels = batch.images
        count = len(pixels)
        wrong, strengths = spoil(harmless(pixels))
        turns = torch.randint(4, (count,))
        wrong = torch.stack([image.rot90(int(k), (1, 2)) for image, k in zip(wrong, turns, strict=True)])
        with autocast(pixels.device):
            seen = self.model.features(torch.cat([harmless(pixels), harmless(pixels), wrong]))  # type: ignore[operator]
            guesses = self.model.strengths(seen).float()  # type: ignore[operator]
            first, second, third = self.model.hidden(seen).chunk(3)  # type: ignore[operator]
            rotation = self.model.rotation(third).float()  # type: ignore[operator]
            a, b = (F.normalize(self.model.projection(h).float(), dim=1) for h in (first, second))  # type: ignore[operator]
        truth = torch.cat([torch.zeros(2 * count, len(FAULTS)), strengths])
        losses = {
            "strengths": (guesses - truth).square().sum(1).mean(),
            "rotation": F.cross_entropy(rotation, turns),
            "twins": F.cross_entropy(a @ b.T / 0.2, torch.arange(count)),
        }
        self.update(20.0 * losses["strengths"] + losses["rotation"] + 0.5 * losses["twins"])
        return {key: value.detach() for key, value in losses.items()}


DESIGNS = {
    "classifier": Design(
        Classifier,
        Classification,
        lambda pixels: pixels,
        Recipe("classification", images=240_000, learning_rate=3e-3, ema_images=10_000, seed=11, minutes=6.0),
        "Tells the ten classes: a strided residual network under cross-entropy, flips and shifts. Its features "
        "see what a picture shows, and its logits judge whether a generated image has the class that was asked "
        "for.",
        "It overlooks how a picture is made: a blur that the eye sees at once moves its features little. Of real "
        "pictures it takes some 8 % for another class, mostly shirts, so no generator reaches 100 %.",
    ),
    "critic": Design(
        Critic,
        Criticism,
        lambda pixels: spoil(pixels)[0],  # on intact pictures alone, the slightest fault would be enormous
        Recipe("criticism", images=90_000, batch_size=120, learning_rate=3e-3, ema_images=10_000, seed=12, minutes=6.0),
        "Tells what is wrong with a picture (blur, noise, shuffled tiles, torn rows, a ghost of another picture) "
        "and how much, how it is rotated, and which two views come from one picture; it never saw a class. A "
        "plain convolutional network; the features are the channel means of all four depths.",
        "It is strict: a blur of half a pixel costs a fifth of its precision, and beyond a blur of one pixel "
        "precision and recall are 0 and tell nothing more; the distances go on growing. It was trained on faults "
        "of the same kinds as those by which the metrics are tested, though made by other code.",
    ),
    "contrastive": Design(
        lambda: Contrastive(conv(1, 32), (32, 48, 64, 96)),
        Comparison,
        lambda pixels: pixels,
        Recipe(
            "comparison", images=600_000, batch_size=200, learning_rate=2e-3, ema_images=10_000, seed=15, minutes=15.0
        ),
        "Tells which two windows were cut from one picture, mirrored and lighter or darker as they may be (SimCLR, "
        "Chen et al. 2020), and was taught nothing else: neither our classes nor our list of faults. Nothing is "
        "resampled or blurred in its training, so it need not overlook sharpness. A convolutional network; the "
        "features are the channel means of its last depth, and the maps of all four depths are what perceptual "
        "distances compare.",
        "It sees less of what a picture shows than the classifier: a linear probe that learns from 5,000 test pictures "
        "tells 83 % of the others right. It overlooks light and contrast, and where in a picture something is.",
    ),
}


def train(name: str, source: str | None = None) -> Path:
    """Train one by its recipe and publish it; its folder."""
    return feature_training.train(name, DESIGNS[name], DATASET.name, source)
