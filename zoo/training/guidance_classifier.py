"""The classifier of noisy images that steers an unconditional denoiser; the denoiser is the teacher's, as it is.

Dhariwal & Nichol 2021, section 4: cross entropy over all levels of noise.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import registry
from zoo.families.guided_diffusion import GuidedDenoiser
from zoo.family import Checkpoint
from zoo.sampling import schedules
from zoo.sampling.parameterization import PARAMETERIZATIONS
from zoo.training.diffusion import columns, uniform_times
from zoo.training.loop import Batch, autocast, descend
from zoo.training.optimizers import adam

LEVELS = (0.2, 0.4, 0.6, 0.8)  # times at which the held-out accuracy is told
EVALUATED = 2000


class GuidanceObjective:
    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        assert checkpoint.recipe is not None
        assert checkpoint.teacher is not None
        model: GuidedDenoiser = registry.family(checkpoint.spec.family).build(checkpoint.config)
        teacher = registry.load_module(registry.checkpoint(checkpoint.teacher))
        model.denoiser.load_state_dict(teacher.state_dict())
        model.denoiser.requires_grad_(False)
        self.model, self.device = model.to(device).train(), device
        self.modules: dict[str, nn.Module] = {"model": self.model}
        self.optimizers = {"classifier": adam(checkpoint.recipe, self.model.classifier)}
        self.parameterization = PARAMETERIZATIONS["v"]

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        pixels, class_ids = batch.images, batch.class_ids
        logits = self._logits(self.model, pixels, uniform_times(len(pixels), self.device))
        loss = F.cross_entropy(logits, class_ids)
        descend(self.optimizers["classifier"], loss)
        accuracy = (logits.argmax(1) == class_ids).float().mean()
        return {"loss": loss.detach(), "accuracy": accuracy}

    def _logits(self, model: GuidedDenoiser, pixels: Tensor, times: Tensor) -> Tensor:
        sigma = torch.from_numpy(schedules.cosine_sigma(times.double().cpu().numpy())).float().to(self.device)
        c_in, _, _, c_noise = columns(self.parameterization, sigma)
        x = pixels + sigma[:, None, None, None] * torch.randn_like(pixels)
        with autocast(self.device):
            logits: Tensor = model.classifier(c_in * x, c_noise)
        return logits.float()

    @torch.no_grad()
    def evaluate(self, model: Any, batch: Batch) -> dict[str, float]:
        """Accuracy on unseen images at some times of the cosine schedule, 0 clean, 1 noise."""
        pixels, class_ids = batch.images[:EVALUATED], batch.class_ids[:EVALUATED]
        found = {}
        for level in LEVELS:
            times = torch.full((len(pixels),), level, device=self.device)
            right = self._logits(model, pixels, times).argmax(1) == class_ids
            found[f"accuracy_at_time_{level}"] = float(right.float().mean())
        return found


def objective(checkpoint: Checkpoint, device: torch.device) -> GuidanceObjective:
    return GuidanceObjective(checkpoint, device)
