"""Distribution-matching distillation (Yin et al. 2024, DMD and DMD2): few steps, and no trajectories.

The student's pictures, made noisy, are scored twice: by the frozen teacher, and by a copy of it that keeps learning
what the student makes. The difference of the two is the gradient of the divergence of what is made from what is real.
The student learns at the levels of its own grids, on the states that its own sampling reaches there ("backward
simulation", DMD2, section 4.5). A discriminator of its pictures and real ones, made noisy alike, makes up for what the
teacher's score has wrong (DMD2, section 4.3); it is a third copy of the teacher, where DMD2 gives the second a branch.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from zoo import registry
from zoo.family import Checkpoint
from zoo.networks.discriminator import DenoiserDiscriminator
from zoo.networks.unet import UNet
from zoo.sampling import schedules
from zoo.training.adversarial import doubt, update_discriminator
from zoo.training.diffusion import Denoiser, levels, uniform_times
from zoo.training.distillation import Distillation
from zoo.training.halfway import Halfway
from zoo.training.loop import Batch, descend
from zoo.training.optimizers import adam

LOWEST, HIGHEST = 0.02, 0.98  # of the times at which the two scores are compared; DMD, appendix B
BETAS = (0.5, 0.9)  # of the discriminator's Adam


def matching_gradient(made: Tensor, real: Tensor, fake: Tensor) -> Tensor:
    """From the fake score's estimate to the real one's, at equal size for every picture; DMD, equations 7 and 8."""
    size = (made - real).abs().flatten(1).mean(1).clamp(min=1e-3)
    return (fake - real) / size[:, None, None, None]


class DistributionMatching(Distillation):
    """Options: `steps`, the numbers of steps of the student's grids; `start`, whose weights it begins with, if not the
    teacher's; `fake_updates` and `fake_learning_rate`, for the fake score to keep up; `adversary`, the weight of the
    discriminator's word, with `r1`, `r1_interval` and `discriminator_rate` as in adversarial training; `moved`, how
    far from where it began it is published. Without an adversary no real picture is seen."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        super().__init__(checkpoint, device)
        recipe, spec = checkpoint.recipe, checkpoint.spec
        assert recipe is not None
        assert spec.sampling is not None
        self.shape, self.schedule = spec.latent_shape, spec.sampling.schedule
        grids = (schedules.SCHEDULES[self.schedule](int(steps)) for steps in self.options["steps"])
        self.grids = [torch.from_numpy(grid).float().to(device) for grid in grids]
        self.fake_updates = int(self.options["fake_updates"])
        network = cast(UNet, copy.deepcopy(self.student.network))
        self.fake = Denoiser(network, spec.sampling.parameterization, device)
        if start := self.options.get("start"):
            self.model.load_state_dict(registry.load_module(registry.checkpoint(start)).state_dict())
        self.halfway = Halfway(self.model, self.options)
        fake_recipe = replace(recipe, learning_rate=float(self.options["fake_learning_rate"]))
        self.modules["fake"], self.optimizers["fake"] = network, adam(fake_recipe, network)
        self.adversary = float(self.options.get("adversary", 0.0))
        if self.adversary:
            self.discriminator = DenoiserDiscriminator(network, self.shape[0]).to(device).train()
            rate = float(self.options["discriminator_rate"])
            self.modules["discriminator"] = self.discriminator
            self.optimizers["discriminator"] = torch.optim.Adam(self.discriminator.parameters(), rate, betas=BETAS)

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        pixels, class_ids = batch.images, batch.class_ids
        made = self.student(*self.reached(class_ids), class_ids)
        loss = self.matching(made, class_ids)
        self.update(loss + self.adversary * self.doubt(made, class_ids) if self.adversary else loss)
        losses = [self.learn_fake(made.detach(), class_ids) for _ in range(self.fake_updates)]
        found = {"fake": torch.stack(losses).mean(), "matching": loss.detach()}
        if self.adversary:
            found["discriminator"] = self.learn_discriminator(self.encode(pixels), made.detach(), class_ids)
        return found

    def conclude(self, model: nn.Module, batch: Batch) -> None:
        self.halfway.settle(model)

    def matching(self, made: Tensor, class_ids: Tensor) -> Tensor:
        """A loss with the gradient of the divergence: half the square of the distance to a constant has it."""
        gradient = self.gradient(made.detach(), class_ids)
        return 0.5 * (made - (made.detach() - gradient)).square().mean()

    @torch.no_grad()
    def reached(self, class_ids: Tensor) -> tuple[Tensor, Tensor]:
        """(x, sigma): where the student's sampling gets to at one level of one grid."""
        grid = self.grids[int(torch.randint(len(self.grids), ()))]
        count = int(torch.randint(len(grid) - 1, ()))
        sigmas = grid[:, None].expand(-1, len(class_ids))
        x = grid[0] * torch.randn(len(class_ids), *self.shape, device=self.device)
        for now, following in zip(sigmas[:count], grid[1:], strict=False):
            x = self.student(x, now, class_ids)
            x = x + following * torch.randn_like(x)
        return x, sigmas[count]

    def noised(self, made: Tensor) -> tuple[Tensor, Tensor]:
        """(x, sigma): pictures at random levels."""
        times = LOWEST + (HIGHEST - LOWEST) * uniform_times(len(made), self.device)
        sigma = levels(self.schedule, times)
        return made + sigma[:, None, None, None] * torch.randn_like(made), sigma

    @torch.no_grad()
    def gradient(self, made: Tensor, class_ids: Tensor) -> Tensor:
        x, sigma = self.noised(made)
        return matching_gradient(made, self.teacher(x, sigma, class_ids), self.fake(x, sigma, class_ids))

    def shown(self, pictures: Tensor, class_ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the discriminator sees of pictures: they are made noisy, as for the scores."""
        return *self.teacher.inputs(*self.noised(pictures)), class_ids

    def doubt(self, made: Tensor, class_ids: Tensor) -> Tensor:
        return doubt(self.discriminator, *self.shown(made, class_ids))

    def learn_discriminator(self, real: Tensor, made: Tensor, class_ids: Tensor) -> Tensor:
        seen = (self.shown(each, class_ids) for each in (real, made))
        return update_discriminator(self.discriminator, self.optimizers["discriminator"], self.options, *seen, clip=1.0)

    def learn_fake(self, made: Tensor, class_ids: Tensor) -> Tensor:
        """One step of denoising what the student makes, with the weights of v-prediction."""
        x, sigma = self.noised(made)
        weight = (1.0 + sigma**-2)[:, None, None, None]
        loss = (weight * (self.fake(x, sigma, class_ids) - made).square()).mean()
        descend(self.optimizers["fake"], loss, clip=1.0)
        return loss.detach()


def objective(checkpoint: Checkpoint, device: torch.device) -> DistributionMatching:
    return DistributionMatching(checkpoint, device)
