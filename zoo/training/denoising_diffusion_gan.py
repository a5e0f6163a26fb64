"""Adversarial training of the steps of a short diffusion (Xiao et al. 2022, equations 4 and 5).

A discriminator is shown the state before and after a step: real ones from the forward process, fakes from the posterior
around what the generator believes is the image. The generator's second input channel is its noise z.

The paper trains for days from nothing. Here the generator begins as a denoiser, which a discriminator that knows
nothing yet would only ruin: at first it learns alone, and an anchor, the squared error of the image, holds the
generator and fades away by the middle of the run.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import registry, schedules, store
from zoo.families.denoising_diffusion_gan import DenoisingDiffusionGAN, from_teacher
from zoo.family import Checkpoint
from zoo.networks.discriminator import ProjectionDiscriminator
from zoo.training.adversarial import discriminator_cross_entropy, with_penalty
from zoo.training.diffusion import Denoiser
from zoo.training.loop import autocast

WIDTHS = (32, 64, 128)
BETAS = (0.5, 0.9)  # of Adam; appendix C


class StepDiscriminator(nn.Module):
    """Logits (B,) for the pair (after, before), each (B, 1, H, W) scaled to unit variance, at a step of the grid."""

    def __init__(self, size: int, num_classes: int, steps: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.network = ProjectionDiscriminator(2, WIDTHS, size, num_classes * steps)

    def forward(self, after: Tensor, before: Tensor, step: Tensor, class_ids: Tensor) -> Tensor:
        logits: Tensor = self.network(torch.cat([after, before], dim=1), step * self.num_classes + class_ids)
        return logits


class StepwiseAdversarial:
    """Options: `steps` of the grid; `r1`, `r1_interval`, `discriminator_rate` of the discriminator; `alone`, the share
    of the run in which only it learns; `anchor`, the first weight of the squared error."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        recipe, spec = checkpoint.recipe, checkpoint.spec
        assert recipe is not None
        assert checkpoint.teacher is not None
        assert spec.sampling is not None
        self.device, self.options = device, recipe.options
        model: DenoisingDiffusionGAN = registry.family(spec.family).build(checkpoint.config)
        from_teacher(model, store.load_module(registry.checkpoint(checkpoint.teacher)))
        self.model = model.to(device).train().requires_grad_(True)
        self.generator = Denoiser(self.model.denoiser, spec.sampling.parameterization, device)
        self.steps = int(self.options["steps"])
        self.alone, self.anchor = float(self.options["alone"]), float(self.options["anchor"])
        self.discriminator = StepDiscriminator(spec.image_shape[0], spec.num_classes, self.steps).to(device).train()
        self.modules: dict[str, nn.Module] = {"model": self.model, "discriminator": self.discriminator}
        rate = float(self.options["discriminator_rate"])
        rates = {"model": recipe.learning_rate, "discriminator": rate}
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            name: torch.optim.Adam(self.modules[name].parameters(), each, betas=BETAS) for name, each in rates.items()
        }
        self.sigmas = torch.from_numpy(schedules.SCHEDULES[spec.sampling.schedule](self.steps)).float().to(device)

    def step(self, pixels: Tensor, class_ids: Tensor, progress: float) -> dict[str, Tensor]:
        # Steps in turn: the images that the discriminator's deviation compares are then all at one step.
        step = torch.arange(len(pixels), device=self.device) % self.steps
        sigma, following = self.sigmas[step], self.sigmas[step + 1]
        after = pixels + wide(following) * torch.randn_like(pixels)
        before = after + wide((sigma**2 - following**2).sqrt()) * torch.randn_like(pixels)
        seen = (scaled(before, sigma), step, class_ids)
        denoised = self._denoised(before, sigma, class_ids)
        fake = scaled(drawn(before, denoised, sigma, following), following)
        discriminator_loss = self._update_discriminator(scaled(after, following), fake.detach(), *seen)
        self.discriminator.requires_grad_(False)
        with autocast(self.device):
            loss = F.softplus(-self.discriminator(fake, *seen)).mean()
        self.discriminator.requires_grad_(True)
        error = (denoised - pixels).square().mean()
        if progress >= self.alone:
            self._update("model", loss + self.anchor * max(0.0, 1.0 - 2.0 * progress) * error)
        return {"generator": loss.detach(), "discriminator": discriminator_loss, "error": error.detach()}

    def _denoised(self, before: Tensor, sigma: Tensor, class_ids: Tensor) -> Tensor:
        """The image that the generator believes in, under one z."""
        return self.generator(torch.cat([before, wide(sigma) * torch.randn_like(before)], dim=1), sigma, class_ids)[
            :, :1
        ]

    def _update_discriminator(self, real: Tensor, fake: Tensor, *seen: Tensor) -> Tensor:
        with autocast(self.device):
            loss = discriminator_cross_entropy(self.discriminator(real, *seen), self.discriminator(fake, *seen))
        total = with_penalty(loss, self.discriminator, self.options, real, *seen)
        self._update("discriminator", total)
        return loss.detach()

    def _update(self, name: str, loss: Tensor) -> None:
        self.optimizers[name].zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizers[name].step()


def drawn(before: Tensor, denoised: Tensor, sigma: Tensor, following: Tensor) -> Tensor:
    """A draw of q(after | before, x0) (Ho et al. 2020, equations 6 and 7)."""
    kept = wide((following / sigma) ** 2)
    spread = wide(following) * (1.0 - kept).sqrt()
    return kept * before + (1.0 - kept) * denoised + spread * torch.randn_like(before)


def wide(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def scaled(x: Tensor, sigma: Tensor) -> Tensor:
    return x / wide((1.0 + sigma**2).sqrt())


def objective(checkpoint: Checkpoint, device: torch.device) -> StepwiseAdversarial:
    return StepwiseAdversarial(checkpoint, device)
