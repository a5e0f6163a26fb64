"""Consistency distillation (Song et al. 2023, algorithm 2), in pixels or latents (Luo et al. 2023: under guidance).

Two neighbours on one trajectory of the teacher must denoise to the same image. The target is the student itself
without gradient, and the distance is pseudo-Huber, which needs no feature net; both are from Song & Dhariwal 2024.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from zoo import schedules
from zoo.family import Checkpoint
from zoo.training.distillation import Distillation

HUBER = 0.00054  # times the square root of the dimension (Song & Dhariwal 2024, section 3.3)


class ConsistencyDistillation(Distillation):
    """Options: `grid`, the teacher's steps along a trajectory; `guidance_scale`, the teacher's."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        super().__init__(checkpoint, device)
        assert checkpoint.spec.sampling is not None
        schedule = schedules.SCHEDULES[checkpoint.spec.sampling.schedule]
        self.sigmas = torch.from_numpy(schedule(int(self.options["grid"]))).float().to(device)
        self.huber = HUBER * math.sqrt(math.prod(checkpoint.spec.latent_shape))

    def step(self, pixels: Tensor, class_ids: Tensor, progress: float) -> dict[str, Tensor]:
        index = torch.randint(len(self.sigmas) - 1, (len(pixels),), device=self.device)
        sigma, following = self.sigmas[index], self.sigmas[index + 1]
        x = self.noisy(pixels, sigma)
        neighbour = self.teacher_step(x, sigma, following, class_ids)
        with torch.no_grad():
            # At sigma = 0 the consistency function is the identity.
            ahead = self.student(neighbour, following.clamp(min=1e-3), class_ids)
            target = torch.where((following > 0)[:, None, None, None], ahead, neighbour)
        distance = (self.student(x, sigma, class_ids) - target).flatten(1).square().sum(1)
        loss = ((distance + self.huber**2).sqrt() - self.huber).mean()
        self.update(loss)
        return {"loss": loss.detach()}


def objective(checkpoint: Checkpoint, device: torch.device) -> ConsistencyDistillation:
    return ConsistencyDistillation(checkpoint, device)
