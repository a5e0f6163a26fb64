"""Imported pixel diffusion: the UNet2DModel of a diffusers pipeline, built by diffusers itself.

The network keeps diffusers' names, so its file is taken as it is. Its timesteps arrive as `c_noise`. Where a scheduler
clips the estimate of the image, the denoiser does that itself and gives the image: a sampler's table is linear.

Sources: Ho et al. 2020 (DDPM); Nichol & Dhariwal 2021; von Platen et al. 2022 (diffusers).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from zoo.contract.graph import Graph
from zoo.family import Checkpoint, Family, denoiser_graph

MAX_WIDTH, MAX_LEVELS = 8192, 16
LIMITS = {"num_class_embeds": 65_536, "layers_per_block": 16, "num_train_timesteps": 10_000}


@dataclass(frozen=True)
class DiffusersUNetConfig:
    """`network` is the `config.json` of diffusers; with `clip`, `prediction` is what the network gives before it."""

    network: Mapping[str, Any] = field(default_factory=dict)
    prediction: str = "eps"  # of zoo.sampling.parameterization
    clip: float | None = None

    def __post_init__(self) -> None:
        for key, value in self.network.items():
            values = value if isinstance(value, list | tuple) else [value]
            limit = LIMITS.get(key, MAX_WIDTH)
            if len(values) > MAX_LEVELS or any(isinstance(each, list | tuple | Mapping) for each in values):
                raise ValueError(f"{key} has more than {MAX_LEVELS} values")
            if any(isinstance(each, int | float) and not -limit <= each <= limit for each in values):
                raise ValueError(f"{key} is {str(value)[:40]}, at most {limit} is built")


def build(config: DiffusersUNetConfig) -> Any:
    """The network with fresh weights."""
    from diffusers import UNet2DModel

    return UNet2DModel(**config.network)


class Denoiser(nn.Module):
    """`forward(x, c_noise, class_ids, c_next)` -> F, or the clipped estimate of the image.

    Each but the first two is there only where the spec declares it. With `c_next`, the timestep at which the step ends
    (below 0: without noise), the estimate is the one that takes diffusers' step, see `of_step`.
    """

    sigmas: Tensor

    def __init__(self, network: nn.Module, checkpoint: Checkpoint) -> None:
        super().__init__()
        sampling = checkpoint.spec.sampling
        assert sampling is not None
        assert sampling.timesteps is not None
        sigmas = torch.from_numpy(sampling.timesteps.sigmas()).float()
        self.network, self.config = network, checkpoint.config
        self.conditional = bool(checkpoint.spec.conditions)
        self.whole_times = self.config.network.get("time_embedding_type") == "learned"  # a row of a table each
        self.register_buffer("sigmas", sigmas, persistent=False)  # variance exploding

    def forward(self, x: Tensor, c_noise: Tensor, first: Tensor | None = None, second: Tensor | None = None) -> Tensor:
        class_ids, c_next = (first, second) if self.conditional else (None, first)
        times = c_noise.round().long() if self.whole_times else c_noise
        output: Tensor = self.network(x, times, class_labels=class_ids, return_dict=False)[0]
        if self.config.clip is None:
            return output
        estimate = self.image(x, output, c_noise)
        clipped = estimate.clamp(-self.config.clip, self.config.clip)
        return clipped if c_next is None else self.of_step(clipped, estimate, c_noise, c_next)

    def image(self, x: Tensor, output: Tensor, c_noise: Tensor) -> Tensor:
        """x0 from the variance-preserving x and what the network gave."""
        level = self.sigma(c_noise)
        alpha = torch.rsqrt(1.0 + level**2)
        sigma = level * alpha
        if self.config.prediction == "eps":
            return (x - sigma * output) / alpha
        return alpha * x - sigma * output if self.config.prediction == "v" else output

    def of_step(self, clipped: Tensor, estimate: Tensor, c_noise: Tensor, c_next: Tensor) -> Tensor:
        """What, in the place of the estimate D, makes of DDIM's step the one whose noise is the network's own.

        The step from sigma to r sigma is x' = r x + (1 - r) D. diffusers clips D and keeps the noise, which is
        x' = clip(D) + r (x - D): the same for (clip(D) - r D) / (1 - r). A step of no length has b = 1 in its row.
        """
        ends = torch.where(c_next < 0.0, 0.0, 1.0)[:, None, None, None] * self.sigma(c_next)
        ratio = ends / self.sigma(c_noise)
        return (clipped - ratio * estimate) / torch.where(ratio < 1.0, 1.0 - ratio, 1.0)

    def sigma(self, times: Tensor) -> Tensor:
        """Of the variance-exploding x: (B, 1, 1, 1)."""
        return self.sigmas[times.round().long().clamp(min=0)][:, None, None, None]


def graphs(module: nn.Module, checkpoint: Checkpoint) -> tuple[Graph, ...]:
    return (denoiser_graph(Denoiser(module, checkpoint), checkpoint.spec),)


FAMILY = Family(build=build, graphs=graphs, checkpoints=(), config=DiffusersUNetConfig)
