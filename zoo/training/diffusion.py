"""Denoising diffusion and flow matching: predict F at a random level; some classes are dropped, for guidance later.

The dialect says what F is and the schedule how often a level is seen: uniform in its own time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from zoo import registry
from zoo.contract.conditions import class_id
from zoo.family import Checkpoint
from zoo.sampling import schedules
from zoo.sampling.parameterization import PARAMETERIZATIONS, Parameterization
from zoo.training.loop import Batch, autocast, descend
from zoo.training.optimizers import adam


def columns(parameterization: Parameterization, sigma: Tensor) -> tuple[Tensor, ...]:
    """(c_in, c_skip, c_out, c_noise) of (B,) sigmas, float32, the first three shaped for (B, C, H, W)."""
    levels = parameterization(sigma.double().cpu().numpy())
    c_in, c_skip, c_out, c_noise = (torch.from_numpy(np.asarray(c)).float().to(sigma.device) for c in levels)
    return c_in[:, None, None, None], c_skip[:, None, None, None], c_out[:, None, None, None], c_noise


def denoiser_module(checkpoint: Checkpoint, model: nn.Module) -> nn.Module:
    """The part of a model that is its `denoiser` graph."""
    found = registry.family(checkpoint.spec.family).graphs(model, checkpoint)
    module: nn.Module = next(graph.module for graph in found if graph.name == "denoiser")
    return module


def encoder(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """Pixels to what is diffused: the model's own `encode` into latents, or the pixels themselves."""
    encode: Callable[[Tensor], Tensor] = getattr(model, "encode", lambda pixels: pixels)
    return encode


class Denoiser:
    """`D(x, sigma)` of a network and its dialect, under autocast."""

    def __init__(self, network: nn.Module, parameterization: str, device: torch.device) -> None:
        self.network, self.device = network, device
        self.parameterization = PARAMETERIZATIONS[parameterization]

    def inputs(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """(c_in x, c_noise): what the network is given."""
        c_in, _, _, c_noise = columns(self.parameterization, sigma)
        return c_in * x, c_noise

    def __call__(self, x: Tensor, sigma: Tensor, class_ids: Tensor) -> Tensor:
        c_in, c_skip, c_out, c_noise = columns(self.parameterization, sigma)
        with autocast(self.device):
            output = self.network(c_in * x, c_noise, class_ids)
        return cast(Tensor, c_skip * x + c_out * output.float())


def uniform_times(batch: int, device: torch.device) -> Tensor:
    """(B,) times that cover [0, 1] evenly: one random offset for a whole batch (Kingma et al. 2021)."""
    return (torch.rand(1, device=device) + torch.arange(batch, device=device) / batch) % 1.0


def levels(schedule: str, times: Tensor) -> Tensor:
    """(B,) sigmas of times in [0, 1], the share of the way to SIGMA_MAX on a schedule's own clock."""
    clock = schedules.CLOCKS[schedule]
    reached = float(clock.time(schedules.SIGMA_MAX)) * times.double().cpu().numpy()
    return torch.from_numpy(clock.sigma(reached)).float().clamp(min=1e-4).to(times.device)


class DiffusionObjective:
    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        recipe, sampling = checkpoint.recipe, checkpoint.spec.sampling
        assert recipe is not None
        assert sampling is not None
        self.device = device
        self.model = registry.family(checkpoint.spec.family).build(checkpoint.config).to(device).train()
        self.network, self.encode = denoiser_module(checkpoint, self.model), encoder(self.model)
        self.modules = {"model": self.model}
        self.optimizers = {"model": adam(recipe, self.network)}
        self.class_dropout = float(recipe.options["class_dropout"])
        self.num_classes = class_id.count(checkpoint.spec.conditions)
        self.parameterization, self.schedule = PARAMETERIZATIONS[sampling.parameterization], sampling.schedule

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        x0 = self.encode(batch.images)
        sigma = levels(self.schedule, uniform_times(len(x0), self.device))
        noise = torch.randn_like(x0)
        c_in, c_skip, c_out, c_noise = columns(self.parameterization, sigma)
        x = x0 + sigma[:, None, None, None] * noise
        target = (x0 - c_skip * x) / c_out
        dropped = torch.rand(len(x0), device=self.device) < self.class_dropout
        with autocast(self.device):
            output = self.network(c_in * x, c_noise, batch.class_ids.masked_fill(dropped, self.num_classes))
        loss = (output.float() - target).square().mean()
        descend(self.optimizers["model"], loss, clip=1.0)
        return {"loss": loss.detach()}


def objective(checkpoint: Checkpoint, device: torch.device) -> DiffusionObjective:
    return DiffusionObjective(checkpoint, device)
