"""What decides, beside a bundle and the software, which executor is the fastest here."""

from __future__ import annotations

from typing import Any

from export.runners import cores
from zoo.host import cpu, installed, of_cpuinfo

PACKAGES = ("numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "torch", "tensorrt", "tensorrt-rtx")
# What 16 and 8 bits are worth on a processor whose name may stand for several.
UNITS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8", "bf16", "i8mm", "sve")


def machine() -> dict[str, Any]:
    """Processor, its units for narrow numbers, and the cores that this process may use."""
    flags = (of_cpuinfo("flags") or of_cpuinfo("Features")).split()
    return {"cpu": cpu(), "units": [each for each in UNITS if each in flags], "cores": cores()}


def versions() -> dict[str, str]:
    """Of what is installed of `PACKAGES`."""
    return installed(PACKAGES)
