"""The choices that make one bundle of a checkpoint different from another."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Precision(StrEnum):
    """float32 everywhere, 16 bits where they are safe, or 8 bits in the convolutions."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"


class LoopKind(StrEnum):
    """Who walks the sampler's table: an ONNX Loop, nobody because its rows are unrolled, or the host."""

    ONNX = "onnx"
    UNROLLED = "unrolled"
    HOST = "host"


@dataclass(frozen=True)
class Variant:
    """What is made of a checkpoint. `steps` is for an unrolled loop only; None takes the checkpoint's default."""

    loop: LoopKind = LoopKind.ONNX
    precision: Precision = Precision.FP32
    steps: int | None = None

    @property
    def name(self) -> str:
        if self.loop is LoopKind.ONNX:
            return self.precision.value
        return f"{self.precision.value}-{self.loop.value}{self.steps or ''}"
