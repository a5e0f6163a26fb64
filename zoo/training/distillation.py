"""What every distillation shares: a frozen teacher, a student that begins as its copy, one step of an ODE solver."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from zoo import registry
from zoo.contract.conditions import class_id
from zoo.family import Checkpoint
from zoo.training.diffusion import Denoiser, denoiser_module, encoder
from zoo.training.loop import descend
from zoo.training.optimizers import adam


def bend(x: Tensor, denoised: Tensor, sigma: Tensor, following: Tensor) -> Tensor:
    """One DDIM step from (B,) `sigma` to `following` (Song et al. 2021, equation 12)."""
    ratio = (following / sigma)[:, None, None, None]
    return ratio * x + (1.0 - ratio) * denoised


class Distillation:
    """The parts of an objective that distils `checkpoint.teacher`; a kind of distillation adds its `loss`."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        recipe, sampling = checkpoint.recipe, checkpoint.spec.sampling
        assert recipe is not None
        assert sampling is not None
        assert checkpoint.teacher is not None
        origin = registry.checkpoint(checkpoint.teacher)
        assert origin.spec.sampling is not None
        teacher = registry.load_module(origin).to(device)
        self.device, self.options = device, recipe.options
        self.num_classes = class_id.count(checkpoint.spec.conditions)
        self.encode = encoder(teacher)
        self.teacher = Denoiser(denoiser_module(origin, teacher), origin.spec.sampling.parameterization, device)
        self.model: nn.Module = copy.deepcopy(teacher).train()
        network = denoiser_module(checkpoint, self.model).requires_grad_(True)
        self.student = Denoiser(network, sampling.parameterization, device)
        self.modules: dict[str, nn.Module] = {"model": self.model}
        self.optimizers = {"model": adam(recipe, network)}

    def noisy(self, pixels: Tensor, sigma: Tensor) -> Tensor:
        x0 = self.encode(pixels)
        return x0 + sigma[:, None, None, None] * torch.randn_like(x0)

    @torch.no_grad()
    def teacher_step(self, x: Tensor, sigma: Tensor, following: Tensor, class_ids: Tensor) -> Tensor:
        """One DDIM step of the teacher, under the recipe's `guidance_scale` (1: none)."""
        denoised = self.teacher(x, sigma, class_ids)
        scale = float(self.options.get("guidance_scale", 1.0))
        if scale != 1.0:
            null = torch.full_like(class_ids, self.num_classes)
            denoised = torch.lerp(self.teacher(x, sigma, null), denoised, scale)
        return bend(x, denoised, sigma, following)

    def update(self, loss: Tensor) -> None:
        descend(self.optimizers["model"], loss, clip=1.0)
