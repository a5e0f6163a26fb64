"""Easy consistency tuning (Geng et al. 2024, arXiv:2406.14548): a diffusion model's weights, tuned into consistency.

As in consistency training a pair shares picture and noise, but its levels are continuous, t and r = t (1 - n(t) / q^s):
in the first phase r is nearly 0 everywhere, which is diffusion's own regression, and each phase s brings r closer to t.
The target is the network itself, no average of it. The weight is 1 / t + 1: their 1 / (t - r) leaves the levels from
which one step begins a hundredth of that of the others, too little for a run as short as this.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.family import Checkpoint
from zoo.sampling.schedules import SIGMA_MAX, SIGMA_MIN
from zoo.training.consistency_distillation import Huber
from zoo.training.consistency_training import two_noisy
from zoo.training.distillation import Distillation
from zoo.training.loop import Batch

WIDEN = 8.0  # k of their n(t) = 1 + k sigmoid(-t): low levels are the last to leave diffusion's regression


def nearer(sigma: Tensor, shrink: float, phase: int) -> Tensor:
    """r of t: (B,) levels, each below its own by a share that `shrink` divides with every phase; not below 0."""
    apart = (1.0 + WIDEN * torch.sigmoid(-sigma)) / shrink ** (phase + 1)
    return sigma * (1.0 - apart).clamp(min=0.0)


class ConsistencyTuning(Distillation):
    """Options: `levels`, mean and deviation of log t; `shrink`, the paper's q; `phases`, how often it is applied."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        super().__init__(checkpoint, device)
        self.distance = Huber(checkpoint.spec.latent_shape)

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        class_ids, (mean, deviation) = batch.class_ids, (float(each) for each in self.options["levels"])
        normal = torch.randn(len(batch), device=self.device)
        sigma = (mean + deviation * normal).exp().clamp(SIGMA_MIN, SIGMA_MAX)
        phase = int(progress * int(self.options["phases"]))
        following = nearer(sigma, float(self.options["shrink"]), phase)
        near, far = two_noisy(self.encode(batch.images), following, sigma)
        with torch.no_grad():
            target = self.student(near, following, class_ids)  # at 0 the picture itself
        found = self.distance(self.student(far, sigma, class_ids), target)
        self.update(((1.0 / sigma + 1.0) * found).mean())
        return {"loss": found.detach().mean()}


def objective(checkpoint: Checkpoint, device: torch.device) -> ConsistencyTuning:
    return ConsistencyTuning(checkpoint, device)
