"""Score identity distillation (Zhou et al. 2024, SiD, arXiv:2404.04057; with an adversary: SiDA, arXiv:2410.14919).

As in distribution matching the student's pictures, made noisy, are scored by the teacher and by a copy of it that keeps
learning what the student makes. What is descended is another divergence, Fisher's: the squared distance of the two
scores themselves, so its gradient runs through both networks. An identity of scores turns the part of it that cannot be
had, how the fake score moves with the student, into a product with the picture's own error.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.family import Checkpoint
from zoo.training.adversarial import frozen
from zoo.training.distribution_matching import DistributionMatching


def fisher(made: Tensor, real: Tensor, fake: Tensor, alpha: float) -> Tensor:
    """(real - fake) (fake - made) + (1 - alpha) |real - fake|^2 of each picture at equal size: their final loss."""
    size = (made - real).detach().abs().flatten(1).mean(1).clamp(min=1e-3)
    apart = real - fake
    return (apart * ((fake - made) + (1.0 - alpha) * apart)).flatten(1).mean(1) / size


class ScoreIdentity(DistributionMatching):
    """Option `alpha`, besides those of distribution matching: how much of the biased part is taken off again."""

    def matching(self, made: Tensor, class_ids: Tensor) -> Tensor:
        x, sigma = self.noised(made)
        with frozen(self.fake.network):
            real, fake = self.teacher(x, sigma, class_ids), self.fake(x, sigma, class_ids)
            return fisher(made, real, fake, float(self.options["alpha"])).mean()


def objective(checkpoint: Checkpoint, device: torch.device) -> ScoreIdentity:
    return ScoreIdentity(checkpoint, device)
