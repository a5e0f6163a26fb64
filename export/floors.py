"""The releases below which a part of the stack must not be used, each with its reason and when it was looked up."""

from __future__ import annotations

import re
from dataclasses import dataclass

CONTAINER_FLOOR = "26.07"  # of NVIDIA's Triton, on a network


@dataclass(frozen=True)
class Floor:
    """`package` as pip names it, the `least` release that is safe, `reason`, and the month in which that was so."""

    package: str
    least: str
    reason: str
    seen: str

    def admits(self, version: str) -> bool:
        return parts(version) >= parts(self.least)


FLOORS = (
    Floor("torch", "2.6", "torch.load ran code of a file even with weights_only=True (CVE-2025-32434)", "2026-11"),
    Floor("onnx", "1.21", "external data of a model could be read from outside its folder, in four ways", "2026-11"),
    Floor("tritonserver", CONTAINER_FLOOR, "CVE-2026-24207 and CVE-2026-47627, both rated 9.8", "2026-11"),
)


def parts(version: str) -> tuple[int, ...]:
    """The numbers of a release, in which releases are compared: (2, 13, 0) of "2.13.0+cpu"."""
    return tuple(map(int, re.findall(r"\d+", version.partition("+")[0])[:3]))
