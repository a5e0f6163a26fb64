"""Adversarial training: the non-saturating loss with a lazy R1 penalty on real images (Mescheder et al. 2018)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import registry
from zoo.families.gan import Generator
from zoo.family import Checkpoint
from zoo.networks.discriminator import ProjectionDiscriminator
from zoo.training.loop import autocast


def gradient_penalty(discriminator: nn.Module, pixels: Tensor, *condition: Any) -> Tensor:
    """R1: the mean squared norm of the logits' gradient at real images, in float32."""
    pixels = pixels.detach().requires_grad_(True)
    logits = discriminator(pixels, *condition)
    (gradient,) = torch.autograd.grad(logits.sum(), pixels, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean()


class AdversarialObjective:
    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        recipe, spec, config = checkpoint.recipe, checkpoint.spec, checkpoint.config
        assert recipe is not None
        self.device, self.latent, self.options = device, spec.latent_shape[0], recipe.options
        self.model: Generator = registry.family(spec.family).build(config)
        self.discriminator = ProjectionDiscriminator(
            config.image_channels, config.discriminator, spec.image_shape[0], spec.num_classes
        )
        self.modules: dict[str, nn.Module] = {"model": self.model, "discriminator": self.discriminator}
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            name: torch.optim.Adam(module.to(device).train().parameters(), recipe.learning_rate, betas=(0.0, 0.99))
            for name, module in self.modules.items()
        }

    def step(self, pixels: Tensor, class_ids: Tensor, progress: float) -> dict[str, Tensor]:
        with autocast(self.device):
            fakes = self.model.pixels(torch.randn(len(pixels), self.latent, device=self.device), class_ids)
        discriminator_loss = self._update_discriminator(pixels, fakes.detach(), class_ids)
        self.discriminator.requires_grad_(False)
        with autocast(self.device):
            loss = F.softplus(-self.discriminator(fakes, class_ids)).mean()
        self._update("model", loss)
        self.discriminator.requires_grad_(True)
        return {"generator": loss.detach(), "discriminator": discriminator_loss}

    def _update_discriminator(self, pixels: Tensor, fakes: Tensor, class_ids: Tensor) -> Tensor:
        with autocast(self.device):
            real, fake = self.discriminator(pixels, class_ids), self.discriminator(fakes, class_ids)
            loss = F.softplus(-real).mean() + F.softplus(fake).mean()
        total, interval = loss, int(self.options["r1_interval"])
        if torch.randint(interval, ()) == 0:  # drawn, so that a resumed run needs no counter
            penalty = gradient_penalty(self.discriminator, pixels, class_ids)
            total = loss + 0.5 * self.options["r1"] * interval * penalty
        self._update("discriminator", total)
        return loss.detach()

    def _update(self, name: str, loss: Tensor) -> None:
        self.optimizers[name].zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizers[name].step()


def objective(checkpoint: Checkpoint, device: torch.device) -> AdversarialObjective:
    return AdversarialObjective(checkpoint, device)
