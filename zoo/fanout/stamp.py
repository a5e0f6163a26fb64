"""What a piece of work depends on beside itself: the source and the versions by which it is done."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from zoo.host import installed

PACKAGES = ("numpy", "onnxruntime", "onnxruntime-gpu", "torch", "onnx", "onnxscript", "safetensors", "tensorrt-rtx")
SOURCES = ("genzoo", "zoo", "export", "serving", "benchmarks")
INSTRUCTIONS = ("avx", "avx2", "fma", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "sve")


@lru_cache
def stamp() -> dict[str, str]:
    """The source and the versions by which a piece is done here."""
    found = {"genzoo's source": _source(), "python": ".".join(platform.python_version_tuple()[:2])}
    return found | dict.fromkeys(PACKAGES, "not installed") | installed(PACKAGES)


def _source() -> str:
    root, digest = Path(__file__).parents[2], hashlib.sha256()
    for path in sorted(path for name in SOURCES for path in (root / name).rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def instructions() -> str:
    """The instructions that decide in which order sums are added up, and so the last bit of a float."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return " ".join((platform.machine(), *(name for name in INSTRUCTIONS if name in flags)))


def difference(here: Mapping[str, str], there: Mapping[str, str]) -> str:
    """What differs of two stamps, as a clause; empty where nothing does."""
    wrong = [name for name in here if there.get(name) != here[name]]
    return ", ".join(f"{name} is {there.get(name, 'unknown')} there and {here[name]} here" for name in wrong)
