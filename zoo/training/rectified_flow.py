"""Rectification (Liu et al. 2023, section 2.2): flow matching on the pairs that a teacher's own paths connect.

Paths of flow matching on such pairs cross less, so they are straighter and need fewer steps. The pairs are made once,
when training begins: noise, and the picture to which the teacher's solver takes it.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from zoo import registry
from zoo.family import Checkpoint
from zoo.sampling import samplers
from zoo.training.diffusion import levels, uniform_times
from zoo.training.distillation import Distillation
from zoo.training.loop import Batch, autocast

BATCH = 256  # pairs made at a time


def straight_loss(denoised: Tensor, pictures: Tensor, sigma: Tensor) -> Tensor:
    """The mean squared error of the velocity: n - x0 is (z - x0) / t, so its error is that of the estimate over t."""
    t = (sigma / (1.0 + sigma))[:, None, None, None]
    return ((denoised - pictures) / t).square().mean()


class Rectification(Distillation):
    """Options: `pairs`, how many; `teacher_steps` and `teacher_sampler`, how the teacher makes them."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        super().__init__(checkpoint, device)
        assert checkpoint.teacher is not None
        assert checkpoint.spec.sampling is not None
        sampling = registry.checkpoint(checkpoint.teacher).spec.sampling
        assert sampling is not None
        self.schedule, count = checkpoint.spec.sampling.schedule, int(self.options["pairs"])
        table = sampling.table(int(self.options["teacher_steps"]), str(self.options["teacher_sampler"]))
        self.table = torch.from_numpy(table).float().to(device)
        self.class_ids = torch.arange(count, device=device) % self.num_classes
        self.noise = torch.randn(count, *checkpoint.spec.latent_shape, device=device)
        parts = zip(torch.split(self.noise, BATCH), torch.split(self.class_ids, BATCH), strict=True)
        self.pictures = torch.cat([self.transported(noise, class_ids) for noise, class_ids in parts])

    @torch.no_grad()
    def transported(self, noise: Tensor, class_ids: Tensor) -> Tensor:
        """Where the teacher's solver takes the noise."""

        def network(x: Tensor, c_noise: Tensor) -> Tensor:
            with autocast(self.device):
                return cast(Tensor, self.teacher.network(x, c_noise.expand(len(x)), class_ids)).float()

        return cast(Tensor, samplers.execute(self.table, noise[None], network))

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Only the size of the batch is used: what is learnt is the teacher's."""
        picked = torch.randint(len(self.noise), (len(batch),), device=self.device)
        sigma = levels(self.schedule, uniform_times(len(batch), self.device))
        pictures = self.pictures[picked]
        x = pictures + sigma[:, None, None, None] * self.noise[picked]
        loss = straight_loss(self.student(x, sigma, self.class_ids[picked]), pictures, sigma)
        self.update(loss)
        return {"loss": loss.detach()}


def objective(checkpoint: Checkpoint, device: torch.device) -> Rectification:
    return Rectification(checkpoint, device)
