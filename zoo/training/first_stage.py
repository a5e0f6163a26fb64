"""A first stage by itself: a distance at several scales, KL, and a hinge loss on patches from `adversarial_from` on.

Rombach et al. 2022, section 3.1. Options: `kl` and `adversarial`, the weights of the losses beside the distance;
`adversarial_from`, the share of the run after which the second is on.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo import registry
from zoo.families.first_stage import FirstStageGenerator
from zoo.family import Checkpoint
from zoo.networks.convolutional import channels_last
from zoo.training.latent_diffusion import FirstStageObjective
from zoo.training.loop import Batch
from zoo.training.text_to_image import graphic_distance

JUDGED = 1500  # unseen pictures


class FirstStageRun:
    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        model = channels_last(registry.family(checkpoint.spec.family).build(checkpoint.config), device)
        assert isinstance(model, FirstStageGenerator)
        self.model: nn.Module = model
        self.objective = FirstStageObjective(model.first_stage, checkpoint, device, graphic_distance)
        self.modules: dict[str, nn.Module] = {"model": model, "discriminator": self.objective.discriminator}
        self.optimizers = self.objective.optimizers

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        return self.objective.step(batch.images, progress)

    @torch.no_grad()
    def evaluate(self, model: FirstStageGenerator, batch: Batch) -> dict[str, float]:
        """The bound that it sets to whatever is built on it: its reconstruction of unseen pictures, from all parts."""
        pixels = batch.images[:: max(1, len(batch) // JUDGED)][:JUDGED]
        error = model.reconstruct(pixels) - pixels
        squared = error.square().mean((1, 2, 3)) / 4.0
        return {
            "reconstruction_l1": float(error.abs().mean() / 2.0),
            "reconstruction_psnr_db": float(-10.0 * squared.mean().log10()),
            "worst_percent_psnr_db": float(-10.0 * squared.quantile(0.99).log10()),
        }


def objective(checkpoint: Checkpoint, device: torch.device) -> FirstStageRun:
    return FirstStageRun(checkpoint, device)
