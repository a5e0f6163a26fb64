"""Drifting models (Deng et al. 2026, arXiv:2602.04770): a generator follows the drift of its own pictures.

Each picture is drawn to real ones of its class and driven away from generated ones, by the mean shift of one kernel
for both; where the two distributions are the same the shifts cancel, whatever the kernel (their antisymmetry). What the
drift would make of a picture is its target, and the next update goes there: no adversary, no teacher's paths, one call.
Distances are taken in the features of a masked autoencoder, as theirs are, at every place and size of its maps, and of
the pixels, whole and in patches; between whole pictures alone, for comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import registry
from zoo.contract.conditions import class_id
from zoo.families.autoencoder import Autoencoder
from zoo.family import Checkpoint
from zoo.training.loop import Batch, autocast, descend
from zoo.training.optimizers import one_network

APART = -1e4  # the logit of a pair that is none
PATCH = 4  # pixels
SMALLEST = 1e-6  # of what is divided by


def drift(made: Tensor, real: Tensor, same: Tensor, temperature: float) -> Tensor:
    """Where each generated one is driven, of unit size on average: (L, B, D) twice, at L places -> (L, B, D).

    `same` (B, B) are the pairs of one class. The kernel is exp(-|a - b| / (temperature sqrt(D))), normalized over both
    of a pair; distances are sqrt(D) on average. Their algorithm 2.
    """
    itself = torch.eye(len(same), dtype=torch.bool, device=same.device)
    pairs = torch.cat([same, same & ~itself], dim=1)  # with the real, with the generated
    logits = torch.cdist(made, torch.cat([real, made], dim=1)) / -(temperature * made.shape[-1] ** 0.5)
    logits = torch.where(pairs, logits, APART)
    weights = (logits.softmax(-1) * logits.softmax(-2)).sqrt()
    near, own = weights.chunk(2, dim=-1)
    shift = torch.matmul(near * own.sum(-1, keepdim=True), real) - torch.matmul(own * near.sum(-1, keepdim=True), made)
    return shift / shift.square().mean().sqrt().clamp(min=SMALLEST)


def drifting_loss(made: Tensor, real: Tensor, same: Tensor, temperatures: Sequence[float]) -> Tensor:
    """The squared distance from features (L, B, D) to where they drift, the sum over temperatures; their equation 6."""
    with torch.no_grad():
        size = torch.cdist(made, real).mean().clamp(min=SMALLEST) / made.shape[-1] ** 0.5
        scaled = made / size, real / size
        target = scaled[0] + sum(drift(*scaled, same, temperature) for temperature in temperatures)
    error: Tensor = made / size - target
    return error.square().mean()


def at_places(map_: Tensor) -> Tensor:
    """(B, D, H, W) -> (H W, B, D)."""
    return map_.flatten(2).permute(2, 0, 1)


def statistics(map_: Tensor, window: int) -> Tensor:
    """The mean and the deviation inside each window: (B, D, H, W) -> (places, B, 2 D)."""
    mean = F.avg_pool2d(map_, window)
    deviation = (F.avg_pool2d(map_.square(), window) - mean.square()).clamp(min=SMALLEST).sqrt()
    return at_places(torch.cat([mean, deviation], dim=1))


class Drifting:
    """Options: `features`, `maps` of the teacher or `pixels`; `temperatures` of the kernel; `classes`, how many of them
    a step is about: the pictures of a batch that are of others are left out, as a kernel needs many of one class."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        recipe = checkpoint.recipe
        assert recipe is not None
        assert checkpoint.teacher is not None
        self.device, self.latent = device, checkpoint.spec.latent_shape[0]
        self.by_maps = recipe.options["features"] == "maps"
        self.temperatures = [float(each) for each in recipe.options["temperatures"]]
        self.drawn, self.num_classes = int(recipe.options["classes"]), class_id.count(checkpoint.spec.conditions)
        self.teacher: Autoencoder = registry.load_module(registry.checkpoint(checkpoint.teacher)).to(device)
        self.model: Any
        self.model, self.modules, self.optimizers = one_network(checkpoint, device)

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        kept = torch.isin(batch.class_ids, torch.randperm(self.num_classes, device=self.device)[: self.drawn])
        real, class_ids = batch.images[kept], batch.class_ids[kept]
        same = class_ids[:, None] == class_ids
        with torch.no_grad():
            wanted = self.features(real)
        with autocast(self.device):
            made = self.model.pixels(torch.randn(len(real), self.latent, device=self.device), class_ids)
        pairs = list(zip(self.features(made), wanted, strict=True))
        loss = torch.stack([drifting_loss(*pair, same, self.temperatures) for pair in pairs]).mean()
        descend(self.optimizers["model"], loss, clip=1.0)
        # The loss is of one size by its normalization and says little; how far apart the features' means are says more.
        apart = [(found.detach().mean(1) - real.mean(1)).square().mean() / real.var(1).mean() for found, real in pairs]
        return {"loss": loss.detach(), "means": torch.stack(apart).mean()}

    def features(self, pixels: Tensor) -> list[Tensor]:
        """(B, C, H, W) -> what is compared, each (places, B, D)."""
        flat = pixels.flatten(1)[None]
        if not self.by_maps:
            return [flat]
        maps, h = [], pixels
        with autocast(self.device):
            for layer in self.teacher.encoder:
                h = layer(h)
                if isinstance(layer, nn.SiLU):
                    maps.append(h)
            code = self.teacher.to_code(h.flatten(1))
        fine, middle, coarse = (each.float() for each in maps)
        places = [at_places(middle), at_places(coarse), statistics(fine, 4), statistics(middle, 2)]
        whole = [statistics(each, each.shape[-1]) for each in (fine, middle, coarse)]
        return [flat, at_places(F.pixel_unshuffle(pixels, PATCH)), code.float()[None], *whole, *places]


def objective(checkpoint: Checkpoint, device: torch.device) -> Drifting:
    return Drifting(checkpoint, device)
