"""What decides, beside a bundle and the software, which executor is the fastest here."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from export.runners import cores

PACKAGES = ("numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "torch", "tensorrt", "tensorrt-rtx")
# What 16 and 8 bits are worth on a processor whose name may stand for several.
UNITS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8", "bf16", "i8mm", "sve")


def cpu() -> str:
    """The processor's model, or the kind of machine where nothing says."""
    return _of_cpuinfo("model name") or platform.machine()


def machine() -> dict[str, Any]:
    """Processor, its units for narrow numbers, and the cores that this process may use."""
    flags = (_of_cpuinfo("flags") or _of_cpuinfo("Features")).split()
    return {"cpu": cpu(), "units": [each for each in UNITS if each in flags], "cores": cores()}


def _of_cpuinfo(field: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith(field))
    except (OSError, StopIteration):
        return ""


def versions() -> dict[str, str]:
    """Of what is installed of `PACKAGES`."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
