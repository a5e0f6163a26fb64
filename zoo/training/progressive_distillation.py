"""Progressive distillation (Salimans & Ho 2022): one step of the student is worth several DDIM steps of its teacher.

The paper halves; a recipe here names how many teacher steps (`substeps`) one of the student's `steps` replaces, so a
chain may begin with a larger stride. The loss is the paper's SNR + 1 weighting: a plain square in the space of v.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.family import Checkpoint
from zoo.sampling import schedules
from zoo.training.distillation import Distillation
from zoo.training.loop import Batch


class ProgressiveDistillation(Distillation):
    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        super().__init__(checkpoint, device)
        assert checkpoint.spec.sampling is not None
        self.steps, self.substeps = int(self.options["steps"]), int(self.options["substeps"])
        schedule = schedules.SCHEDULES[checkpoint.spec.sampling.schedule]
        self.sigmas = torch.from_numpy(schedule(self.steps * self.substeps)).float().to(device)

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        pixels, class_ids = batch.images, batch.class_ids
        start = self.substeps * torch.randint(self.steps, (len(pixels),), device=self.device)
        sigma, end = self.sigmas[start], self.sigmas[start + self.substeps]
        x = moving = self.noisy(pixels, sigma)
        for offset in range(self.substeps):
            moving = self.teacher_step(moving, self.sigmas[start + offset], self.sigmas[start + offset + 1], class_ids)
        ratio = (end / sigma)[:, None, None, None]
        target = (moving - ratio * x) / (1.0 - ratio)
        weight = (1.0 + sigma**-2)[:, None, None, None]
        loss = (weight * (self.student(x, sigma, class_ids) - target).square()).mean()
        self.update(loss)
        return {"loss": loss.detach()}


def objective(checkpoint: Checkpoint, device: torch.device) -> ProgressiveDistillation:
    return ProgressiveDistillation(checkpoint, device)
