"""Adversarial training of the steps of a short diffusion (Xiao et al. 2022, equations 4 and 5).

A discriminator is shown the state before and after a step: real ones from the forward process, fakes from the posterior
around what the generator believes is the image. The generator's second input channel is its noise z.

The paper trains for days from nothing. Here both players begin with the weights of one denoiser. The discriminator
learns alone at first, and an anchor, the squared error of the image, holds the generator: firmly until the middle of
the run, and a little to the end, as without it pictures get worse again.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo import registry
from zoo.families.denoising_diffusion_gan import DenoisingDiffusionGAN
from zoo.family import Checkpoint
from zoo.networks.discriminator import DenoiserDiscriminator
from zoo.networks.unet import widen
from zoo.sampling import schedules
from zoo.training.adversarial import doubt, update_discriminator
from zoo.training.diffusion import Denoiser
from zoo.training.loop import Batch, descend

BETAS = (0.5, 0.9)  # of Adam; appendix C


class StepwiseAdversarial:
    """Options: `steps` of the grid; `r1`, `r1_interval`, `discriminator_rate` of the discriminator; `alone`, the share
    of the run in which only it learns; `anchor`, the weight of the squared error at first and from the middle on."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        recipe, spec = checkpoint.recipe, checkpoint.spec
        assert recipe is not None
        assert checkpoint.teacher is not None
        assert spec.sampling is not None
        self.device, self.options = device, recipe.options
        model: DenoisingDiffusionGAN = registry.family(spec.family).build(checkpoint.config)
        teacher = registry.load_module(registry.checkpoint(checkpoint.teacher))
        widen(model.denoiser.network, teacher)
        self.model = model.to(device).train().requires_grad_(True)
        self.generator = Denoiser(self.model.denoiser, spec.sampling.parameterization, device)
        self.steps = int(self.options["steps"])
        self.alone = float(self.options["alone"])
        self.first, self.last = (float(weight) for weight in self.options["anchor"])
        self.discriminator = DenoiserDiscriminator(teacher, channels=2).to(device).train().requires_grad_(True)
        self.modules: dict[str, nn.Module] = {"model": self.model, "discriminator": self.discriminator}
        rate = float(self.options["discriminator_rate"])
        rates = {"model": recipe.learning_rate, "discriminator": rate}
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            name: torch.optim.Adam(self.modules[name].parameters(), each, betas=BETAS) for name, each in rates.items()
        }
        self.sigmas = torch.from_numpy(schedules.SCHEDULES[spec.sampling.schedule](self.steps)).float().to(device)

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        pixels, class_ids = batch.images, batch.class_ids
        step = torch.arange(len(pixels), device=self.device) % self.steps
        sigma, following = self.sigmas[step], self.sigmas[step + 1]
        after = pixels + wide(following) * torch.randn_like(pixels)
        before = after + wide((sigma**2 - following**2).sqrt()) * torch.randn_like(pixels)
        condition, _ = self.generator.inputs(before, sigma)
        denoised = self._denoised(before, sigma, class_ids)
        made = drawn(before, denoised, sigma, following)
        real, fake = (self._shown(each, following, condition, class_ids) for each in (after, made))
        optimizer, unlearnt = self.optimizers["discriminator"], (fake[0].detach(), *fake[1:])
        discriminator_loss = update_discriminator(self.discriminator, optimizer, self.options, real, unlearnt)
        loss = doubt(self.discriminator, *fake)
        error = (denoised - pixels).square().mean()
        if progress >= self.alone:
            anchor = self.last + (self.first - self.last) * max(0.0, 1.0 - 2.0 * progress)
            descend(self.optimizers["model"], loss + anchor * error)
        return {"generator": loss.detach(), "discriminator": discriminator_loss, "error": error.detach()}

    def _denoised(self, before: Tensor, sigma: Tensor, class_ids: Tensor) -> Tensor:
        """The image that the generator believes in, under one z."""
        return self.generator(torch.cat([before, wide(sigma) * torch.randn_like(before)], dim=1), sigma, class_ids)[
            :, :1
        ]

    def _shown(self, x: Tensor, sigma: Tensor, condition: Tensor, class_ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the discriminator sees of a state after a step: beside it, as `condition`, the state before."""
        scaled, c_noise = self.generator.inputs(x, sigma)
        return torch.cat([scaled, condition], dim=1), c_noise, class_ids


def drawn(before: Tensor, denoised: Tensor, sigma: Tensor, following: Tensor) -> Tensor:
    """A draw of q(after | before, x0) (Ho et al. 2020, equations 6 and 7)."""
    kept = wide((following / sigma) ** 2)
    spread = wide(following) * (1.0 - kept).sqrt()
    return kept * before + (1.0 - kept) * denoised + spread * torch.randn_like(before)


def wide(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def objective(checkpoint: Checkpoint, device: torch.device) -> StepwiseAdversarial:
    return StepwiseAdversarial(checkpoint, device)
