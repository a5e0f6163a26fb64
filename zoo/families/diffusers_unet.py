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
    """`forward(x, c_noise, class_ids)` -> F, or the clipped estimate of the image."""

    alphas: Tensor

    def __init__(self, network: nn.Module, checkpoint: Checkpoint) -> None:
        super().__init__()
        assert checkpoint.spec.sampling is not None
        assert checkpoint.spec.sampling.timesteps is not None
        sigmas = torch.from_numpy(checkpoint.spec.sampling.timesteps.sigmas())
        self.network, self.config = network, checkpoint.config
        self.register_buffer("alphas", torch.rsqrt(1.0 + sigmas**2).float(), persistent=False)

    def forward(self, x: Tensor, c_noise: Tensor, class_ids: Tensor | None = None) -> Tensor:
        output: Tensor = self.network(x, c_noise, class_labels=class_ids, return_dict=False)[0]
        if self.config.clip is None:
            return output
        return self.image(x, output, c_noise).clamp(-self.config.clip, self.config.clip)

    def image(self, x: Tensor, output: Tensor, c_noise: Tensor) -> Tensor:
        """x0 from the variance-preserving x and what the network gave."""
        alpha = self.alphas[c_noise.round().long()][:, None, None, None]
        sigma = (1.0 - alpha**2).sqrt()
        if self.config.prediction == "eps":
            return (x - sigma * output) / alpha
        return alpha * x - sigma * output if self.config.prediction == "v" else output


def graphs(module: nn.Module, checkpoint: Checkpoint) -> tuple[Graph, ...]:
    return (denoiser_graph(Denoiser(module, checkpoint), checkpoint.spec),)


FAMILY = Family(build=build, graphs=graphs, checkpoints=(), config=DiffusersUNetConfig)
