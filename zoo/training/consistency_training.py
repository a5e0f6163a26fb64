"""Consistency training (Song et al. 2023, algorithm 3): no teacher, two noisy versions of one picture must agree.

The pair shares its noise, so the straight line between its members stands in for the trajectory that a teacher would
give (theorem 2), the better the finer the grid: it doubles as training goes on (Song & Dhariwal 2024, section 3.4). All
else is as in distillation, with which it is to be compared: its grids, distance and moving target are kept. Their
log-normal noise levels are not: one in 300 falls between the first two levels of ten, too few for a run as short as
this to learn one step. The start is `teacher`'s weights and nothing else of it (Geng et al. 2024, arXiv:2406.14548).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from zoo.family import Checkpoint
from zoo.training.consistency_distillation import ConsistencyDistillation
from zoo.training.loop import Batch


def grid_size(first: int, last: int, progress: float) -> int:
    """Steps of the grid, doubling from `first` to `last` in phases of one length."""
    phases = int(math.log2(last / first)) + 1
    return int(min(first * 2 ** int(progress * phases), last))


def two_noisy(x0: Tensor, near: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures under one noise at two levels, (B,) each."""
    noise = torch.randn_like(x0)
    return x0 + near[:, None, None, None] * noise, x0 + far[:, None, None, None] * noise


class ConsistencyTraining(ConsistencyDistillation):
    """Option `grid`: the steps of the first and of the last grid."""

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        first, last = (int(steps) for steps in self.options["grid"])
        sigma, following = self.neighbours(grid_size(first, last, progress), len(batch))
        near, far = two_noisy(self.encode(batch.images), following, sigma)
        return self.agree(far, sigma, near, following, batch.class_ids)


def objective(checkpoint: Checkpoint, device: torch.device) -> ConsistencyTraining:
    return ConsistencyTraining(checkpoint, device)
