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

from zoo.family import Checkpoint
from zoo.sampling import schedules
from zoo.training.diffusion import Denoiser
from zoo.training.distillation import Distillation
from zoo.training.loop import Batch

HUBER = 0.03  # times the square root of the dimension
TARGET_DECAY = 0.95  # a step; Song et al. 2023, table 1, for distances without a feature net


class Huber:
    """The pseudo-Huber distance of states of a shape: (B, *shape) twice -> (B,)."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.width = HUBER * math.sqrt(math.prod(shape))

    def __call__(self, found: Tensor, target: Tensor) -> Tensor:
        return ((found - target).flatten(1).square().sum(1) + self.width**2).sqrt() - self.width


class ConsistencyDistillation(Distillation):
    """Options: `grid`, the teacher's steps along a trajectory; `guidance_scale`, the teacher's."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        super().__init__(checkpoint, device)
        assert checkpoint.spec.sampling is not None
        self.schedule = schedules.SCHEDULES[checkpoint.spec.sampling.schedule]
        self.average = copy.deepcopy(self.student.network).requires_grad_(False)
        self.modules["target"] = self.average
        self.target = Denoiser(self.average, checkpoint.spec.sampling.parameterization, device)
        self.distance = Huber(checkpoint.spec.latent_shape)

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        pixels, class_ids = batch.images, batch.class_ids
        sigma, following = self.neighbours(int(self.options["grid"]), len(pixels))
        x = self.noisy(pixels, sigma)
        return self.agree(x, sigma, self.teacher_step(x, sigma, following, class_ids), following, class_ids)

    def neighbours(self, steps: int, batch: int) -> tuple[Tensor, Tensor]:
        """(sigma_i, sigma_i+1), (B,) each: steps of a grid, each as likely."""
        sigmas = torch.from_numpy(self.schedule(steps)).float().to(self.device)
        index = torch.randint(steps, (batch,), device=self.device)
        return sigmas[index], sigmas[index + 1]

    def agree(
        self, x: Tensor, sigma: Tensor, neighbour: Tensor, following: Tensor, class_ids: Tensor
    ) -> dict[str, Tensor]:
        """One update towards what the target makes of the neighbour, whose level is `following`."""
        with torch.no_grad():
            # At sigma = 0 the consistency function is the identity.
            ahead = self.target(neighbour, following.clamp(min=1e-3), class_ids)
            target = torch.where((following > 0)[:, None, None, None], ahead, neighbour)
        loss = self.distance(self.student(x, sigma, class_ids), target).mean()
        self.update(loss)
        self._follow()
        return {"loss": loss.detach()}

    @torch.no_grad()
    def _follow(self) -> None:
        for mean, online in zip(self.average.parameters(), self.student.network.parameters(), strict=True):
            mean.lerp_(online, 1.0 - TARGET_DECAY)


def objective(checkpoint: Checkpoint, device: torch.device) -> ConsistencyDistillation:
    return ConsistencyDistillation(checkpoint, device)
