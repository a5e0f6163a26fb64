"""Consistency distillation (Song et al. 2023, algorithm 2), in pixels or latents (Luo et al. 2023: under guidance).

Two neighbours on one trajectory of the teacher must denoise to the same image. The target is a moving average of the
student: with the student itself as its target, small batches diverged on pixels. The distance is pseudo-Huber, which
needs no feature net (Song & Dhariwal 2024), wide enough that its gradient shrinks with the error.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor

from zoo import schedules
from zoo.family import Checkpoint
from zoo.training.diffusion import Denoiser
from zoo.training.distillation import Distillation

HUBER = 0.03  # times the square root of the dimension
TARGET_DECAY = 0.95  # a step; Song et al. 2023, table 1, for distances without a feature net


class ConsistencyDistillation(Distillation):
    """Options: `grid`, the teacher's steps along a trajectory; `guidance_scale`, the teacher's."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        super().__init__(checkpoint, device)
        assert checkpoint.spec.sampling is not None
        schedule = schedules.SCHEDULES[checkpoint.spec.sampling.schedule]
        self.sigmas = torch.from_numpy(schedule(int(self.options["grid"]))).float().to(device)
        self.average = copy.deepcopy(self.student.network).requires_grad_(False)
        self.modules["target"] = self.average
        self.target = Denoiser(self.average, checkpoint.spec.sampling.parameterization, device)
        self.huber = HUBER * math.sqrt(math.prod(checkpoint.spec.latent_shape))

    def step(self, pixels: Tensor, class_ids: Tensor, progress: float) -> dict[str, Tensor]:
        index = torch.randint(len(self.sigmas) - 1, (len(pixels),), device=self.device)
        sigma, following = self.sigmas[index], self.sigmas[index + 1]
        x = self.noisy(pixels, sigma)
        neighbour = self.teacher_step(x, sigma, following, class_ids)
        with torch.no_grad():
            # At sigma = 0 the consistency function is the identity.
            ahead = self.target(neighbour, following.clamp(min=1e-3), class_ids)
            target = torch.where((following > 0)[:, None, None, None], ahead, neighbour)
        distance = (self.student(x, sigma, class_ids) - target).flatten(1).square().sum(1)
        loss = ((distance + self.huber**2).sqrt() - self.huber).mean()
        self.update(loss)
        self._follow()
        return {"loss": loss.detach()}

    @torch.no_grad()
    def _follow(self) -> None:
        for mean, online in zip(self.average.parameters(), self.student.network.parameters(), strict=True):
            mean.lerp_(online, 1.0 - TARGET_DECAY)


def objective(checkpoint: Checkpoint, device: torch.device) -> ConsistencyDistillation:
    return ConsistencyDistillation(checkpoint, device)
