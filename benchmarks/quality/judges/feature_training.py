"""Feature nets, however they are taught: what all have, and the one that is taught nothing but which views are of one
picture (Chen et al. 2020), for pictures of any size and colours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.quality.feature_export import publish
from benchmarks.quality.judges.parts import AdamW, Residual, conv
from zoo.datasets import dataset
from zoo.family import Recipe
from zoo.images import to_pixels
from zoo.training.loop import Batch, autocast, fit

WINDOWS = 8  # a view's side is 5 to 8 such parts of its picture's


class FeatureNet(nn.Module):
    """`features(pixels)`: (B, C, H, W) in [-1, 1] -> (B, width), before standardisation."""

    feature_mean: Tensor
    feature_scale: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("feature_mean", torch.zeros(width))
        self.register_buffer("feature_scale", torch.ones(width))

    def features(self, pixels: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:  # uint8 (B, H, W, C) -> (B, width)
        return (self.standard(self.features(scaled(images))),)

    def standard(self, features: Tensor) -> Tensor:
        return (features - self.feature_mean) * self.feature_scale


def scaled(images: Tensor) -> Tensor:
    """uint8 (B, H, W, C) -> (B, C, H, W) in [-1, 1]."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1.0


class Contrastive(FeatureNet):
    """A convolutional network whose features are the channel means of its last depth, before the head that compares.

    `first` is the convolution that sees the picture, of `stages[0]` channels; each further depth halves the side.
    `forward(images)` also gives the maps of all depths, (B, C, H, W) each: what a perceptual distance compares.
    """

    def __init__(self, first: nn.Module, stages: tuple[int, int, int, int]) -> None:
        super().__init__(stages[-1])
        one, two, three, four = stages
        self.body = nn.ModuleList([
            first,
            nn.Sequential(conv(one, two, stride=2), conv(two, two)),
            nn.Sequential(conv(two, three, stride=2), Residual(three)),
            nn.Sequential(conv(three, four, stride=2), Residual(four)),
        ])  # fmt: skip
        self.projection = nn.Sequential(nn.Linear(four, 192), nn.ReLU(), nn.Linear(192, 64))

    def maps(self, pixels: Tensor) -> list[Tensor]:
        found = []
        for stage in self.body:
            pixels = stage(pixels)
            found.append(pixels)
        return found

    def features(self, pixels: Tensor) -> Tensor:
        return self.maps(pixels)[-1].mean((2, 3))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:  # -> (B, width), then (B, C, H, W) of each depth
        found = self.maps(scaled(images))
        return self.standard(found[-1].mean((2, 3))), *found


def window(pixels: Tensor) -> Tensor:
    """A view of each picture (B, C, H, H): a window at another place, mirrored or not, lighter or darker.

    Nothing is resampled, so sharpness is not among what the net learns to overlook; nor are colours, which stay.
    """
    count, whole = len(pixels), pixels.shape[2]
    side = int(torch.randint(5, WINDOWS + 1, ())) * (whole // WINDOWS)
    rows, columns = (torch.randint(0, whole + 1 - side, (count, 1)) + torch.arange(side) for _ in range(2))
    cut = pixels[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    cut = torch.where(torch.rand(count, 1, 1, 1) < 0.5, cut.flip(3), cut)
    gamma, gain = (low + (high - low) * torch.rand(count, 1, 1, 1) for low, high in ((0.6, 1.6), (0.6, 1.2)))
    return ((0.5 * (cut + 1.0)) ** gamma * gain).clamp(max=1.0) * 2.0 - 1.0


class Comparison(AdamW):
    """Which two of a batch's views are of one picture (Chen et al. 2020, equation 1), at temperature 0.2."""

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        count = len(batch.images)
        with autocast(batch.images.device):
            parts = [self.model.features(window(batch.images)) for _ in range(2)]  # type: ignore[operator]
            z = F.normalize(self.model.projection(torch.cat(parts)).float(), dim=1)  # type: ignore[operator]
        similarity = (z @ z.T / 0.2).masked_fill(torch.eye(2 * count, dtype=torch.bool), -torch.inf)
        twin = torch.arange(2 * count).roll(count)
        loss = F.cross_entropy(similarity, twin)
        self.update(loss)
        return {"loss": loss.detach(), "found": (similarity.argmax(1) == twin).float().mean()}


@dataclass(frozen=True)
class Design:
    network: Callable[[], FeatureNet]
    objective: type[AdamW]
    views: Callable[[Tensor], Tensor]  # pictures as the features' scale should see them
    recipe: Recipe
    purpose: str
    faults: str


def train(name: str, design: Design, data_set: str, source: str | None = None) -> Path:
    """Train a feature net by its recipe on a data set and publish it, with its graph and references; its folder."""
    torch.manual_seed(design.recipe.seed)
    objective = design.objective(design.network(), design.recipe.learning_rate)
    where = torch.device("cpu")

    def finish(state: dict[str, Tensor], record: dict[str, Any]) -> Path:
        network = design.network()
        network.load_state_dict(state)
        standardise(network.eval(), design.views, dataset(data_set).load("train", source).images)
        return publish(name, network, design.recipe, record, data_set, design.purpose, design.faults)

    return fit(f"feature-{name}", design.recipe, objective, where, finish, data_set=data_set, source=source)


@torch.inference_mode()
def standardise(network: FeatureNet, views: Callable[[Tensor], Tensor], images: np.ndarray) -> None:
    """Give each feature zero mean and unit variance over views of `images`."""
    torch.manual_seed(0)
    parts = np.array_split(to_pixels(images), 120)
    features = torch.cat([network.features(views(torch.from_numpy(part))) for part in parts])
    network.feature_mean.copy_(features.mean(0))
    network.feature_scale.copy_(1.0 / features.std(0).clamp(min=1e-3))
