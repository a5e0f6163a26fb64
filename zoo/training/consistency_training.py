"""Consistency training (Song & Dhariwal 2024, "improved"): no teacher, two noisy versions of one picture must agree.

The pair shares its noise, so the straight line between its members stands in for the trajectory that a teacher would
give (Song et al. 2023, theorem 2), the better the finer the grid: it doubles as training goes on. The target is the
network itself, as it is (section 3.2). The start is `teacher`'s weights and nothing else of it (Geng et al. 2024).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from zoo import schedules
from zoo.family import Checkpoint
from zoo.training.distillation import Distillation

HUBER = 0.00054  # times the square root of the dimension; Song & Dhariwal 2024, section 3.3
LOG_MEAN, LOG_STD = -1.1, 2.0  # of the noise levels; section 3.5


def grid_size(first: int, last: int, progress: float) -> int:
    """Steps of the grid, doubling from `first` to `last` in phases of one length; section 3.4."""
    phases = int(math.log2(last / first)) + 1
    return int(min(first * 2 ** int(progress * phases), last))


def shares(sigmas: Tensor) -> Tensor:
    """How often each step (sigma_i, sigma_i+1) of a decreasing grid is seen: its mass of a log-normal; equation 10."""
    mass = torch.erf((sigmas.double().log() - LOG_MEAN) / (math.sqrt(2.0) * LOG_STD))
    found = mass[:-1] - mass[1:]
    return found / found.sum()


class ConsistencyTraining(Distillation):
    """Options: `grid`, the steps of the first and of the last grid; `huber`, in place of the paper's constant."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        super().__init__(checkpoint, device)
        self.first, self.last = (int(size) for size in self.options["grid"])
        scale = float(self.options.get("huber", HUBER))
        self.huber = scale * math.sqrt(math.prod(checkpoint.spec.latent_shape))

    def step(self, pixels: Tensor, class_ids: Tensor, progress: float) -> dict[str, Tensor]:
        size = grid_size(self.first, self.last, progress)
        sigmas = torch.from_numpy(schedules.karras(size)).float()
        index = torch.multinomial(shares(sigmas), len(pixels), replacement=True)
        sigma, following = sigmas[index].to(self.device), sigmas[index + 1].to(self.device)
        x0 = self.encode(pixels)
        noise = torch.randn_like(x0)
        with torch.no_grad():
            # At sigma = 0 the consistency function is the identity.
            near = self.student(x0 + following[:, None, None, None] * noise, following.clamp(min=1e-3), class_ids)
            target = torch.where((following > 0)[:, None, None, None], near, x0)
        estimate = self.student(x0 + sigma[:, None, None, None] * noise, sigma, class_ids)
        distance = (estimate - target).flatten(1).square().sum(1)
        distance = (distance + self.huber**2).sqrt() - self.huber
        loss = (distance / (sigma - following)).mean()
        self.update(loss)
        return {"loss": loss.detach(), "distance": distance.detach().mean()}


def objective(checkpoint: Checkpoint, device: torch.device) -> ConsistencyTraining:
    return ConsistencyTraining(checkpoint, device)
