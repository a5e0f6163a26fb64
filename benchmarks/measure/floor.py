"""The least time that a device could need: its own measured ceilings, and what a network must move and calculate.

Everything here runs on any torch device; torch is imported where it is used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

WARM_UP, LEAST_CALLS, LEAST_SECONDS = 3, 10, 0.3


@dataclass(frozen=True)
class Ceilings:
    """What a device was seen to do: bytes read and written by a copy, operations of a float32 matrix product."""

    bytes_per_second: float
    operations_per_second: float

    @classmethod
    def of(cls, moved: int, copying_ms: np.ndarray, operations: int, multiplying_ms: np.ndarray) -> Ceilings:
        """By the fastest of some runs: what slowed the others is no limit of the device."""
        return cls(1e3 * moved / float(copying_ms.min()), 1e3 * operations / float(multiplying_ms.min()))

    def floor_ms(self, work: Work) -> float:
        """Neither faster than its bytes arrive, nor than its operations are done."""
        seconds = max(work.bytes / self.bytes_per_second, work.operations / self.operations_per_second)
        return 1000.0 * seconds * work.calls


@dataclass(frozen=True)
class Work:
    """Of one network call: weights, inputs and outputs, once each, and products; and how many calls there are."""

    bytes: int
    operations: int
    calls: int


def wait(device: str) -> None:
    """Until the device has done what it was asked."""
    if device != "cpu":
        import torch

        torch.cuda.synchronize()


def milliseconds(call: Callable[[], Any], device: str, calls: int = LEAST_CALLS) -> np.ndarray:
    """The time of each of some calls, the device idle before and after; ends of itself after enough of them."""
    for _ in range(WARM_UP):
        call()
    wait(device)
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < calls or time.perf_counter() - began < LEAST_SECONDS:
        start = time.perf_counter()
        call()
        wait(device)
        times.append(1000.0 * (time.perf_counter() - start))
    return np.array(times)


def ceilings(device: str) -> Ceilings:
    """Measured now: a copy of many megabytes, and a square product in float32, not cut to TF32."""
    import torch

    size, side = (1 << 28, 8192) if device != "cpu" else (1 << 24, 512)
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copying = milliseconds(lambda: target.copy_(source), device)
    a, b = (torch.randn(side, side, device=device) for _ in range(2))
    multiplying = milliseconds(lambda: a @ b, device)
    return Ceilings.of(2 * size, copying, 2 * side**3, multiplying)


def work_of(module: Any, inputs: Sequence[Any], calls: int) -> Work:
    """What one call of a network takes on these inputs, torch tensors."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        outputs = module(*inputs)
    tensors = [*module.parameters(), *module.buffers(), *inputs, outputs]
    return Work(sum(each.numel() * each.element_size() for each in tensors), counter.get_total_flops(), calls)
