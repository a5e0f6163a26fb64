"""torch modules made ready for an executor: their numbers, their memory format, and programs of one size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from export.runtimes.adapter import Executor
from export.variant import Precision

PROGRAMS = 256


class Plain(torch.nn.Module):
    """A module called with its inputs in their order, whatever it calls them."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.module(*inputs)
        return found


class InNumbers(torch.nn.Module):
    """A module under autocast to bfloat16, whose edges keep their types: what is not fit for 16 bits stays float32."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            found: torch.Tensor = self.module(*inputs)
        return found.float() if found.is_floating_point() else found


class ChannelsLast(torch.nn.Module):
    """A module whose convolutions see pixels before channels."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        form = torch.channels_last
        found: torch.Tensor = self.module(*(x.contiguous(memory_format=form) if x.ndim == 4 else x for x in inputs))
        return found.contiguous()


def in_numbers(module: torch.nn.Module, executor: Executor) -> torch.nn.Module:
    """The module in the precision and the memory format of an executor: the same where it asks for neither."""
    found = InNumbers(module) if executor.precision is Precision.BF16 else module
    return ChannelsLast(found) if executor.channels_last else found


class InRows:
    """A program that takes at most `rows` of a batch, called with any number.

    `fixed`: it takes exactly so many; the last part is filled up with its first row. What it is given is contiguous, as
    it was when it was compiled: native code reads a column of a table wrongly, and torch.compile compiles anew.
    """

    def __init__(self, program: Callable[..., Any], rows: int, *, fixed: bool = False) -> None:
        self.program, self.rows, self.fixed = program, rows, fixed

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        count = len(inputs[0])
        if count == self.rows or (count < self.rows and not self.fixed):
            return self._called(inputs)
        parts = [tuple(each[start : start + self.rows] for each in inputs) for start in range(0, count, self.rows)]
        return torch.cat([self._called(self._filled(part)) for part in parts])[:count]

    def _filled(self, part: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        lacking = self.rows - len(part[0]) if self.fixed else 0
        if not lacking:
            return part
        return tuple(torch.cat([each, each[:1].expand(lacking, *each.shape[1:])]) for each in part)

    def _called(self, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        found: torch.Tensor = self.program(*(side_by_side(each) for each in inputs))
        return found


def side_by_side(x: torch.Tensor) -> torch.Tensor:
    """The same values with the strides of its shape: of a single row any stride passes for contiguous."""
    return x.contiguous() if len(x) > 1 else x.clone(memory_format=torch.contiguous_format)


def compiling(*, frozen: bool) -> Any:
    """A block in which torch compiles what is called, `frozen` around its weights as constants."""
    import torch._dynamo.config as tracing
    import torch._inductor.config as lowering

    # It remembers 8 programs of a function, of whatever module, and runs the ninth uncompiled without an error.
    tracing.recompile_limit, tracing.fail_on_recompile_limit_hit = PROGRAMS, True
    return lowering.patch(freezing=frozen)
