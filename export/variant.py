"""The choices that make one bundle of a checkpoint different from another."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Precision(StrEnum):
    """float32 everywhere, 16 bits where they are safe, 8 bits in the convolutions, or a mixture found by a search."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"
    MIXED = "mixed"


class LoopKind(StrEnum):
    """Who walks the sampler's table: an ONNX Loop, nobody because its rows are unrolled, or the host."""

    ONNX = "onnx"
    UNROLLED = "unrolled"
    HOST = "host"


@dataclass(frozen=True)
class Variant:
    """What is made of a checkpoint. `steps` is for an unrolled loop only; None takes the checkpoint's default.

    `tier` names the loss within which layers were chosen for the precision, one by one; None takes them as a whole.
    """

    loop: LoopKind = LoopKind.ONNX
    precision: Precision = Precision.FP32
    steps: int | None = None
    tier: str | None = None

    @property
    def name(self) -> str:
        numbers = f"{self.precision.value}-{self.tier.lower()}" if self.tier else self.precision.value
        if self.loop is LoopKind.ONNX:
            return numbers
        return f"{numbers}-{self.loop.value}{self.steps or ''}"
