"""Maximum likelihood of a normalizing flow on dequantized images: a bound on the likelihood of the 8-bit pixels."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from zoo.families.normalizing_flow import Mixing
from zoo.family import Checkpoint
from zoo.images import GREY_LEVELS, dequantize
from zoo.training.loop import Batch, autocast, descend
from zoo.training.optimizers import one_network


def bits_per_dim(log_density: Tensor, dimensions: int) -> Tensor:
    """Nats of a density over [-1, 1)^D, (B,) -> bits for each 8-bit pixel (Theis et al. 2016): 8 if it is uniform."""
    return math.log2(GREY_LEVELS / 2) - log_density / (math.log(2.0) * dimensions)


def standard_normal(latents: Tensor) -> Tensor:
    """log density, (B, D) -> (B,) nats."""
    return -0.5 * (latents.square() + math.log(2.0 * math.pi)).sum(1)


def spread(config: Any, pixels: Tensor) -> Tensor:
    """8-bit pixels as one draw of what a flow has a density of: dequantized, or with its own Gaussian noise."""
    noise = getattr(config, "noise", 0.0)
    return pixels + noise * torch.randn_like(pixels) if noise else dequantize(pixels, torch.rand_like(pixels))


def bits(model: nn.Module, x: Tensor, class_ids: Tensor) -> Tensor:
    """Bits per dimension of each continuous image, (B,)."""
    latents, log_det = model(x, class_ids)
    return bits_per_dim(standard_normal(latents) + log_det, latents.shape[1])


@torch.no_grad()
def initialize(model: nn.Module, x: Tensor, class_ids: Tensor) -> None:
    """Let each activation normalization see the first batch as it arrives there (Glow, section 3.1)."""
    mixings = [module for module in model.modules() if isinstance(module, Mixing)]
    hooks = [mixing.register_forward_pre_hook(lambda module, args: module.normalize(*args)) for mixing in mixings]
    model(x, class_ids)
    for hook in hooks:
        hook.remove()


class LikelihoodObjective:
    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        assert checkpoint.recipe is not None
        self.device, self.bfloat16 = device, bool(checkpoint.recipe.options.get("bfloat16", True))
        self.model, self.modules, self.optimizers = one_network(checkpoint, device)

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        pixels, class_ids = batch.images, batch.class_ids
        if progress == 0.0:
            initialize(self.model, spread(self.model.config, pixels), class_ids)
        x = spread(self.model.config, pixels)
        with autocast(self.device, self.bfloat16):  # of the conditioners alone: what is inverted stays in float32
            loss = found = bits(self.model, x, class_ids).mean()
            if denoiser := getattr(self.model, "denoiser", None):
                loss = loss + (denoiser(x) - pixels).square().mean()
        descend(self.optimizers["model"], loss, clip=1.0)
        return {"bits_per_dim": found.detach()}

    @torch.no_grad()
    def evaluate(self, model: nn.Module, batch: Batch) -> dict[str, float]:
        """Bits per dimension of unseen images, each under one draw of the dequantization."""
        torch.manual_seed(0)
        parts = [batch[start : start + 250] for start in range(0, len(batch), 250)]
        return {
            "bits_per_dim": float(
                torch.cat([bits(model, spread(model.config, part.images), part.class_ids) for part in parts]).mean()
            )
        }


def objective(checkpoint: Checkpoint, device: torch.device) -> LikelihoodObjective:
    return LikelihoodObjective(checkpoint, device)
