"""Inductive moment matching (Zhou et al. 2025, IMM, arXiv:2503.07565): whole steps whose results are distributed alike.

f(x, t, s) goes from level t to s in one step. From t and from a little lower, r, on the same paths between picture and
noise, it must arrive at the same distribution; at r = s it is there already, so what is right near s spreads upwards by
induction. What is compared is not a pair but groups of particles, by a kernel (maximum mean discrepancy), so no member
needs to arrive where its partner does, and nothing is a teacher. The start is `teacher`'s weights, whose velocity is a
step of no length.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from zoo.family import Checkpoint
from zoo.training.loop import Batch, descend
from zoo.training.mean_flow import WholeSteps

SMALLEST = 1e-6  # of a squared distance whose root is taken


def laplace(first: Tensor, second: Tensor, width: Tensor) -> Tensor:
    """exp(-|a - b| / width) of all pairs in a group: (G, M, D) twice, (G,) -> (G, M, M)."""
    squares = (first[:, :, None] - second[:, None]).square().sum(-1)
    return torch.exp(-squares.clamp(min=SMALLEST).sqrt() / width[:, None, None])


def discrepancy(made: Tensor, target: Tensor, width: Tensor) -> Tensor:
    """The squared maximum mean discrepancy of each group's particles: (G, M, D) twice, (G,) -> (G,)."""
    own, other, across = (laplace(*pair, width) for pair in ((made, made), (target, target), (made, target)))
    return (own + other - 2.0 * across).mean((1, 2))


class MomentMatching(WholeSteps):
    """Options: `particles`, of a group, which has one pair of levels and, as far as a batch has them, one class;
    `gap`, how far r is below t in the time of flow matching, when training begins and when it ends."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        super().__init__(checkpoint, device)
        assert checkpoint.recipe is not None
        self.particles = int(checkpoint.recipe.options["particles"])
        self.first, self.last = (float(part) for part in checkpoint.recipe.options["gap"])
        self.modules: dict[str, nn.Module] = {"model": self.model}

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        class_ids, order = batch.class_ids.sort(stable=True)
        pixels, groups = batch.images[order], len(batch) // self.particles
        gap = self.first * (self.last / self.first) ** progress
        of_group = self.levels(groups)
        t, s = (level.repeat_interleave(self.particles) for level in of_group)
        r, noise = torch.maximum(s, t - gap), torch.randn_like(pixels)
        far, near = (torch.lerp(pixels, noise, level[:, None, None, None]) for level in (t, r))
        with torch.no_grad():
            target = self.stepped(self.network, near, r, (class_ids,), s)
        made = self.stepped(self.network, far, t, (class_ids,), s)
        shape = (groups, self.particles, math.prod(pixels.shape[1:]))
        # The width is as the step's length, so that a velocity counts alike over long and short ones.
        width = shape[-1] * (of_group[0] - of_group[1])
        loss = shape[-1] * discrepancy(made.reshape(shape), target.reshape(shape), width).mean()
        descend(self.optimizers["model"], loss, clip=1.0)
        return {"loss": loss.detach()}

    def levels(self, groups: int) -> tuple[Tensor, Tensor]:
        """(t, s) of each group, the latter lower; a quarter start at the highest, a quarter end at 0."""
        t = self.latest * torch.rand(groups, device=self.device).clamp(min=0.02)
        t[: groups // 4] = self.latest
        s = t * torch.rand(groups, device=self.device) * 0.98
        s[groups // 8 : groups // 8 + groups // 4] = 0.0
        return t, s


def objective(checkpoint: Checkpoint, device: torch.device) -> MomentMatching:
    return MomentMatching(checkpoint, device)
