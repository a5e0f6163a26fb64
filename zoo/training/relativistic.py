"""Relativistic pairing with penalties on both sides: the objective of R3GAN (Huang et al. 2025, arXiv:2501.05441).

Real and generated images are judged in pairs: the discriminator wants each real one above its partner, the generator
the opposite, so no mode can be dropped for free (equation 2). R1 and R2 (equations 3 and 4) hold the discriminator's
gradient down at real and at generated images; together they make the game converge (section 3). The players are those
of adversarial training.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.family import Checkpoint
from zoo.training.adversarial import AdversarialObjective, Players, frozen, gradient_penalty
from zoo.training.loop import Batch, autocast, descend


def above(first: Tensor, second: Tensor) -> Tensor:
    """The loss of who wants each first logit above its second one: f of the paper is the logistic one."""
    return F.softplus(second - first).mean()


class Pairs:
    """The game of two players; its options are those of `Relativistic`."""

    def __init__(self, players: Players) -> None:
        self.players, options = players, players.options
        self.first, self.last = (float(gamma) for gamma in options["penalty"])
        self.penalized = int(options["penalized"])

    def step(self, real: Tensor, progress: float, *told: Any) -> dict[str, Tensor]:
        """One update of the discriminator, then one of the generator against it; their losses."""
        players, few = self.players, slice(self.penalized)
        judge, optimizers = players.discriminator, players.optimizers
        of_few = [each[few] if isinstance(each, Tensor) else each for each in told]
        with autocast(players.device):
            noise = torch.randn(len(real), players.latent, device=players.device)
            made = players.generator.pixels(noise, *told)
            loss = above(judge(real, *told), judge(made.detach(), *told))
        gamma = self.first * (self.last / self.first) ** progress
        slopes = [gradient_penalty(judge, each[few], *of_few) for each in (real, made)]
        descend(optimizers["discriminator"], loss + 0.5 * gamma * torch.stack(slopes).sum())
        with frozen(judge), autocast(players.device):
            with torch.no_grad():
                partners = judge(real, *told)
            against = above(judge(made, *told), partners)
        descend(optimizers["generator"], against)
        return {"generator": against.detach(), "discriminator": loss.detach()}


class Relativistic(AdversarialObjective):
    """Options: `penalty`, gamma of R1 and R2 when training begins and when it ends; `penalized`, at how many pictures
    of a batch they are taken, in each step: what is left out of a mean saves a second derivative and adds no bias."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        super().__init__(checkpoint, device)
        self.pairs = Pairs(self.players)

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        return self.pairs.step(batch.images, progress, *((batch.class_ids,) if self.conditional else ()))


def objective(checkpoint: Checkpoint, device: torch.device) -> Relativistic:
    return Relativistic(checkpoint, device)
