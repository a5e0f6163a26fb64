"""The numbers in which a graph computes."""

from __future__ import annotations

from enum import StrEnum


class Precision(StrEnum):
    """fp32 everywhere, or 16 bits in the matrix products and convolutions and what lies between them."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
