"""Latent consistency as an adapter (Luo et al. 2023, arXiv:2311.05556): its teacher is the base, told no scale.

As in consistency_distillation.py, under guidance that becomes part of the adapter (Luo et al. 2023, arXiv:2310.04378,
equation 14). Options: `grid`, the teacher's steps along a trajectory; `guidance_scale`, the teacher's.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn

from zoo.families.text_to_image import TextToImage
from zoo.family import Checkpoint
from zoo.networks import low_rank
from zoo.sampling import schedules
from zoo.training.consistency_distillation import TARGET_DECAY, Huber
from zoo.training.diffusion import columns
from zoo.training.distillation import bend
from zoo.training.loop import Batch, autocast, descend
from zoo.training.text_to_image import captions_of
from zoo.training.tuning import Tuning

Told = tuple[Tensor, Tensor]  # what the text encoder says: context and bias


class LatentConsistency(Tuning):
    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        super().__init__(checkpoint, device)
        self.target = copy.deepcopy(cast(TextToImage, self.model).denoiser).requires_grad_(False)
        self.modules["target"] = self.target
        self.distance = Huber(checkpoint.spec.latent_shape)
        grid = schedules.SCHEDULES[self.schedule](int(self.options["grid"]))
        self.sigmas = torch.from_numpy(grid).float().to(device)

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        model, count = cast(TextToImage, self.model), len(batch)
        index = torch.randint(len(self.sigmas) - 1, (count,), device=self.device)
        sigma, following = self.sigmas[index], self.sigmas[index + 1]
        with torch.no_grad(), autocast(self.device):
            x0 = model.encode(batch.images).float()
            told, untold = (
                model.text_encoder(*self.captions.tokens(captions)) for captions in (captions_of(batch), [""] * count)
            )
        x = x0 + sigma[:, None, None, None] * torch.randn_like(x0)
        scales = self.scales(count)
        with torch.no_grad():
            denoised, without = (self.denoised(model.denoiser, x, sigma, each) for each in (told, untold))
            guided = torch.lerp(without, denoised, float(self.options["guidance_scale"]))
            neighbour = bend(x, guided, sigma, following)
            with low_rank.told(scales):
                ahead = self.denoised(self.target, neighbour, following.clamp(min=1e-3), told)
            aim = torch.where((following > 0)[:, None, None, None], ahead, neighbour)
        with low_rank.told(scales):
            found = self.denoised(model.denoiser, x, sigma, told)
        loss = self.distance(found, aim).mean()
        descend(self.optimizers["model"], loss, clip=1.0)
        self._follow(model.denoiser)
        return {"loss": loss.detach()}

    def denoised(self, network: nn.Module, x: Tensor, sigma: Tensor, told: Told) -> Tensor:
        """D(x, sigma) by what is told."""
        c_in, c_skip, c_out, c_noise = columns(self.parameterization, sigma)
        with autocast(self.device):
            output = network(c_in * x, c_noise, *told)
        return cast(Tensor, c_skip * x + c_out * output.float())

    @torch.no_grad()
    def _follow(self, network: nn.Module) -> None:
        for mean, online in zip(self.target.parameters(), network.parameters(), strict=True):
            if online.requires_grad:
                mean.lerp_(online, 1.0 - TARGET_DECAY)


def objective(checkpoint: Checkpoint, device: torch.device) -> LatentConsistency:
    return LatentConsistency(checkpoint, device)
