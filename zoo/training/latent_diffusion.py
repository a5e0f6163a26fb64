"""Latent diffusion in two phases of one run: the first stage with an adversarial loss, then diffusion on its latents.

Rombach et al. 2022, sections 3.1 and 3.2. Options: `first_stage`, the share of the run that the first phase takes;
`kl` and `adversarial`, the weights of its losses beside the reconstruction's.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.family import Checkpoint
from zoo.networks.discriminator import PatchDiscriminator
from zoo.networks.first_stage import FirstStage
from zoo.training.diffusion import DiffusionObjective
from zoo.training.loop import Batch, autocast, descend
from zoo.training.optimizers import adam
from zoo.training.variational import kl_to_prior

MOMENTUM = 0.02  # of the latents' running mean and scale


def absolute_error(decoded: Tensor, pixels: Tensor) -> Tensor:
    return (decoded - pixels).abs().mean()


class FirstStageObjective:
    """A distance, KL and a hinge loss on patches, the last after `adversarial_from`, else a third, of the phase."""

    def __init__(
        self,
        first_stage: FirstStage,
        checkpoint: Checkpoint,
        device: torch.device,
        distance: Callable[[Tensor, Tensor], Tensor] = absolute_error,
    ) -> None:
        assert checkpoint.recipe is not None
        self.model, self.device, self.options = first_stage, device, checkpoint.recipe.options
        self.distance = distance
        self.adversarial_from = float(self.options.get("adversarial_from", 1.0 / 3.0))
        self.discriminator = PatchDiscriminator(checkpoint.spec.default_image_shape[2], (32, 64)).to(device).train()
        self.optimizers = {
            "first_stage": adam(checkpoint.recipe, first_stage),
            "discriminator": torch.optim.Adam(self.discriminator.parameters(), lr=5e-4, betas=(0.0, 0.99)),
        }

    def step(self, pixels: Tensor, progress: float) -> dict[str, Tensor]:
        with autocast(self.device):
            mean, log_variance = self.model.posterior(pixels)
            raw = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
            self.track(mean)
            decoded = self.model(self.model.normalize(raw))
            reconstruction = self.distance(decoded, pixels)
            loss = reconstruction + self.options["kl"] * kl_to_prior(mean, log_variance).mean() / mean[0].numel()
            if progress > self.adversarial_from:
                loss = loss - self.options["adversarial"] * self.discriminator(decoded).mean()
        descend(self.optimizers["first_stage"], loss)  # it reaches the discriminator too, which forgets it
        if progress > self.adversarial_from:
            descend(self.optimizers["discriminator"], self._hinge(pixels, decoded.detach()))
        return {"reconstruction": reconstruction.detach()}

    @torch.no_grad()
    def track(self, mean: Tensor) -> None:
        """Move the running moments that make latents standard towards those of one batch of posterior means."""
        self.model.latent_mean.lerp_(mean.mean((0, 2, 3))[:, None, None], MOMENTUM)
        self.model.latent_scale.lerp_(mean.std((0, 2, 3))[:, None, None], MOMENTUM)

    def _hinge(self, real: Tensor, fake: Tensor) -> Tensor:
        with autocast(self.device):
            return F.relu(1.0 - self.discriminator(real)).mean() + F.relu(1.0 + self.discriminator(fake)).mean()


class LatentDiffusionObjective:
    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        assert checkpoint.recipe is not None
        self.share = float(checkpoint.recipe.options["first_stage"])
        self.diffusion = DiffusionObjective(checkpoint, device)
        self.model: nn.Module = self.diffusion.model
        self.first_stage = FirstStageObjective(self.diffusion.model.first_stage, checkpoint, device)
        self.modules = {"model": self.model, "discriminator": self.first_stage.discriminator}
        self.optimizers = {**self.diffusion.optimizers, **self.first_stage.optimizers}

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        if progress < self.share:
            return self.first_stage.step(batch.images, progress / self.share)
        return self.diffusion.step(batch, progress)

    @torch.no_grad()
    def evaluate(self, model: nn.Module, batch: Batch) -> dict[str, float]:
        """The bound that the first stage sets: its reconstruction of unseen images."""
        pixels = batch.images[:2000]
        decoded = model.first_stage(model.encode(pixels)).clamp(-1.0, 1.0)  # type: ignore[operator]
        error = (decoded - pixels).square().mean() / 4.0
        return {
            "reconstruction_l1": float((decoded - pixels).abs().mean() / 2.0),
            "reconstruction_psnr_db": float(-10.0 * error.log10()),
        }


def objective(checkpoint: Checkpoint, device: torch.device) -> LatentDiffusionObjective:
    return LatentDiffusionObjective(checkpoint, device)
