"""Train the two judges of a data set with captions: what a picture shows, word by word, and how well both agree.

The reader tells each attribute of a portrait. The pair embeds pictures and captions side by side (Radford et al. 2021,
contrastive); it shares nothing with a generator's text encoder, neither weights nor architecture, so a generator cannot
have learnt to please it. Both saw all combinations, on pictures that no generator saw.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.quality.feature_export import export
from benchmarks.quality.judges.captioned import SHAPE, Captioned
from benchmarks.quality.judges.parts import AdamW, Residual, conv
from zoo import files
from zoo.family import Recipe
from zoo.training.loop import Batch, autocast, fit

SHIFT, NOISE, BLUR = 2, 0.08, 0.5  # pixels, of the range [-1, 1], a share of pictures: what a first stage may do


def body(last: int) -> nn.Sequential:
    """A strided residual network: (B, 3, 64, 64) -> (B, 16 last); flat, as places matter."""
    stages = (
        *(conv(3, 32, 5, 2), Residual(32)),
        *(conv(32, 64, 3, 2), Residual(64)),
        *(conv(64, 96, 3, 2), Residual(96)),
    )
    return nn.Sequential(*stages, conv(96, last, 3, 2), nn.Flatten())


def scaled(images: Tensor) -> Tensor:
    """uint8 (B, 64, 64, 3) -> (B, 3, 64, 64) in [-1, 1]."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1.0


class Attributes(nn.Module):
    """`forward(images)`: uint8 (B, 64, 64, 3) -> the logits of all heads side by side."""

    def __init__(self, judge: Captioned) -> None:
        super().__init__()
        self.body = nn.Sequential(body(96), nn.Linear(16 * 96, 192), nn.ReLU())
        self.heads = nn.Linear(192, sum(len(words) for words in judge.heads.values()))

    def read(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.heads(self.body(pixels))
        return logits

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return (self.read(scaled(images)),)


class Texts(nn.Module):
    """Convolutions over three words at a time, and the strongest answer of each: (B, L) int64 -> (B, width)."""

    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words + 1, width)
        self.first, self.second = (nn.Conv1d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, tokens: Tensor) -> Tensor:
        h = F.relu(self.first(self.embedding(tokens).transpose(1, 2)))
        return F.relu(self.second(h)).amax(2)


class Pair(nn.Module):
    """`forward(images, tokens)`: uint8 (B, 64, 64, 3), (B, L) int64 -> a unit vector of each, (B, 96) twice."""

    def __init__(self, judge: Captioned, width: int = 96) -> None:
        super().__init__()
        self.picture = nn.Sequential(body(64), nn.Linear(16 * 64, 256), nn.ReLU(), nn.Linear(256, width))
        self.text = nn.Sequential(Texts(len(judge.words), 128), nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, width))
        self.temperature = nn.Parameter(torch.tensor(2.3))

    def embed(self, pixels: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return F.normalize(self.picture(pixels).float(), dim=1), F.normalize(self.text(tokens).float(), dim=1)

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, ...]:
        return self.embed(scaled(images), tokens)


def harmless(pixels: Tensor) -> Tensor:
    """What must not count: a shift, a slight blur, and noise too weak to see."""
    down, right = torch.randint(-SHIFT, SHIFT + 1, (2,)).tolist()
    padded = F.pad(pixels, (SHIFT,) * 4, mode="replicate")
    height, width = pixels.shape[2:]
    moved = padded[:, :, SHIFT + down :, SHIFT + right :][:, :, :height, :width]
    soft = F.avg_pool2d(F.pad(moved, (1,) * 4, mode="replicate"), 3, stride=1)
    weight = 0.7 * torch.rand(len(pixels), 1, 1, 1) * (torch.rand(len(pixels), 1, 1, 1) < BLUR)
    return moved.lerp(soft, weight) + NOISE * torch.rand(len(pixels), 1, 1, 1) * torch.randn_like(pixels)


class Reading(AdamW):
    """Cross-entropy of each head over the pictures of its style, by the exact labels where the data set has them."""

    def __init__(self, judge: Captioned, learning_rate: float) -> None:
        super().__init__(Attributes(judge), learning_rate)
        self.judge = judge

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        exact = batch.conditions.get("attributes")
        # (B, heads), -1 where a style has no such attribute
        wanted = exact if isinstance(exact, Tensor) else torch.from_numpy(self.judge.truth(captions_of(batch)))
        with autocast(batch.images.device):
            logits = self.model.read(harmless(batch.images)).float()  # type: ignore[operator]
        parts = logits.split([len(words) for words in self.judge.heads.values()], dim=1)
        losses = [
            F.cross_entropy(part, of, ignore_index=-1, reduction="sum")
            for part, of in zip(parts, wanted.T, strict=True)
        ]
        loss = torch.stack(losses).sum() / (wanted >= 0).sum()
        self.update(loss)
        return {"loss": loss.detach()}


class Agreement(AdamW):
    """Which caption of a batch is a picture's, and which picture a caption's."""

    def __init__(self, judge: Captioned, learning_rate: float) -> None:
        super().__init__(Pair(judge), learning_rate)
        self.judge = judge

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        said = torch.from_numpy(self.judge.tokens(captions_of(batch)))
        with autocast(batch.images.device):
            pictures, texts = self.model.embed(harmless(batch.images), said)  # type: ignore[operator]
        logits = self.model.temperature.exp() * pictures @ texts.T  # type: ignore[operator]
        own = torch.arange(len(said))
        loss = 0.5 * (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own))
        self.update(loss)
        return {"loss": loss.detach(), "right": (logits.argmax(1) == own).float().mean()}


def captions_of(batch: Batch) -> Sequence[str]:
    found = batch.conditions["prompt"]
    assert isinstance(found, list)
    return found


@dataclass(frozen=True)
class Design:
    network: Callable[[Captioned], nn.Module]
    objective: Callable[[Captioned, float], AdamW]
    recipe: Recipe
    inputs: Callable[[Captioned], dict[str, Tensor]]  # examples of the graph's
    outputs: tuple[str, ...]
    purpose: str


def _pictures(judge: Captioned) -> dict[str, Tensor]:
    return {"images": torch.zeros(2, *SHAPE, dtype=torch.uint8)}


def _both(judge: Captioned) -> dict[str, Tensor]:
    return {**_pictures(judge), "tokens": torch.zeros(2, judge.length, dtype=torch.int64)}


def reader(recipe: Recipe) -> Design:
    purpose = "Reads each attribute of a portrait: which of its words the picture shows."
    return Design(Attributes, Reading, recipe, _pictures, ("logits",), purpose)


def pair(recipe: Recipe) -> Design:
    purpose = "Says how well a picture and a caption agree: the product of two unit vectors."
    return Design(Pair, Agreement, recipe, _both, ("picture", "text"), purpose)


def train(judge: Captioned, name: str, design: Design, data_set: str, source: str | None = None) -> Path:
    """Train a judge by its recipe and publish it; its folder, as `Captioned` reads it."""
    torch.manual_seed(design.recipe.seed)
    objective = design.objective(judge, design.recipe.learning_rate)

    def finish(state: dict[str, Tensor], record: dict[str, Any]) -> Path:
        network, folder = design.network(judge), judge.folder / name
        network.load_state_dict(state)
        folder.mkdir(parents=True, exist_ok=True)
        export(network, folder, design.inputs(judge), design.outputs)
        config = {
            "name": name,
            "purpose": design.purpose,
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "dataset": data_set,
            "files": {file: files.sha256(folder / file) for file in ("model.onnx", "model.safetensors")},
            "recipe": dataclasses.asdict(design.recipe),
            "training": record,
        }
        files.write_json(folder / "config.json", config)
        return folder

    where = torch.device("cpu")
    return fit(f"judge-{name}", design.recipe, objective, where, finish, data_set=data_set, source=source)
