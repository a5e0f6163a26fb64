"""Progressive growing under R3GAN's objective: a stage's two networks play in pairs, with penalties on both sides.

Options are those of `progressive_growing` and of `relativistic`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.family import Checkpoint
from zoo.training.loop import Batch
from zoo.training.progressive_growing import GrowingObjective
from zoo.training.relativistic import Pairs


class RelativisticGrowing(GrowingObjective):
    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        super().__init__(checkpoint, device)
        self.pairs = Pairs(self.players)

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        real, fade = self.shown(batch, progress)
        return self.pairs.step(real, progress, fade)


def objective(checkpoint: Checkpoint, device: torch.device) -> RelativisticGrowing:
    return RelativisticGrowing(checkpoint, device)
