"""What several judges are made of, and how their training begins."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.training.loop import Batch


def conv(width_in: int, width: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(width_in, width, size, stride, padding=size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU())


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(width, width), conv(width, width))

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        return torch.add(x, self.body(x))


class AdamW:
    """What training a judge begins with: one network, one optimizer."""

    def __init__(self, model: nn.Module, learning_rate: float) -> None:
        self.model: nn.Module = model.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.modules = {"model": self.model}
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "model": torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.02)
        }

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        raise NotImplementedError

    def update(self, loss: Tensor) -> None:
        optimizer = self.optimizers["model"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
