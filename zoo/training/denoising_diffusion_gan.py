"""Adversarial training of the steps of a short diffusion (Xiao et al. 2022, equations 4 and 5).

A discriminator is shown the state before and after a step: real ones from the forward process, fakes from the posterior
around what the generator believes is the image. The generator's second input channel is its noise z.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import registry, schedules, store
from zoo.families.denoising_diffusion_gan import DenoisingDiffusionGAN, from_teacher
from zoo.family import Checkpoint
from zoo.networks.discriminator import ProjectionDiscriminator
from zoo.training.diffusion import Denoiser, adam
from zoo.training.loop import autocast

WIDTHS = (32, 64, 128)


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
        self.discriminator = StepDiscriminator(spec.image_shape[0], spec.num_classes, self.steps).to(device).train()
        self.modules: dict[str, nn.Module] = {"model": self.model, "discriminator": self.discriminator}
        rate = float(self.options["discriminator_rate"])
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "model": adam(self.model, recipe),
            "discriminator": torch.optim.Adam(self.discriminator.parameters(), rate, betas=(0.0, 0.99)),
        }
        self.sigmas = torch.from_numpy(schedules.SCHEDULES[spec.sampling.schedule](self.steps)).float().to(device)

    def step(self, pixels: Tensor, class_ids: Tensor, progress: float) -> dict[str, Tensor]:
        step = torch.randint(self.steps, (len(pixels),), device=self.device)
        sigma, following = self.sigmas[step], self.sigmas[step + 1]
        after = pixels + wide(following) * torch.randn_like(pixels)
        before = after + wide((sigma**2 - following**2).sqrt()) * torch.randn_like(pixels)
        seen = (scaled(before, sigma), step, class_ids)
        fake = scaled(self._drawn(before, sigma, following, class_ids), following)
        discriminator_loss = self._update_discriminator(scaled(after, following), fake.detach(), *seen)
        self.discriminator.requires_grad_(False)
        with autocast(self.device):
            loss = F.softplus(-self.discriminator(fake, *seen)).mean()
        self._update("model", loss)
        self.discriminator.requires_grad_(True)
        return {"generator": loss.detach(), "discriminator": discriminator_loss}

    def _drawn(self, before: Tensor, sigma: Tensor, following: Tensor, class_ids: Tensor) -> Tensor:
        """A draw of q(after | before, x0) at the generator's x0 (Ho et al. 2020, equations 6 and 7)."""
        x = torch.cat([before, wide(sigma) * torch.randn_like(before)], dim=1)
        denoised = self.generator(x, sigma, class_ids)[:, :1]
        kept = wide((following / sigma) ** 2)
        spread = wide(following) * (1.0 - kept).sqrt()
        return kept * before + (1.0 - kept) * denoised + spread * torch.randn_like(before)

    def _update_discriminator(
        self, real: Tensor, fake: Tensor, before: Tensor, step: Tensor, class_ids: Tensor
    ) -> Tensor:
        with autocast(self.device):
            on_real = self.discriminator(real, before, step, class_ids)
            on_fake = self.discriminator(fake, before, step, class_ids)
            loss = F.softplus(-on_real).mean() + F.softplus(on_fake).mean()
        total, interval = loss, int(self.options["r1_interval"])
        if torch.randint(interval, ()) == 0:  # drawn, so that a resumed run needs no counter
            inputs = real.detach().requires_grad_(True)
            logits = self.discriminator(inputs, before, step, class_ids)
            (gradient,) = torch.autograd.grad(logits.sum(), inputs, create_graph=True)
            total = loss + 0.5 * self.options["r1"] * interval * gradient.square().flatten(1).sum(1).mean()
        self._update("discriminator", total)
        return loss.detach()

    def _update(self, name: str, loss: Tensor) -> None:
        self.optimizers[name].zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizers[name].step()


def wide(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def scaled(x: Tensor, sigma: Tensor) -> Tensor:
    return x / wide((1.0 + sigma**2).sqrt())


def objective(checkpoint: Checkpoint, device: torch.device) -> StepwiseAdversarial:
    return StepwiseAdversarial(checkpoint, device)
