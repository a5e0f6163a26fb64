"""Energy by the counters that a machine has: RAPL of its CPU packages, NVML of its GPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")
SECONDS = 2.0  # RAPL counts in steps of about a millisecond; the images are many


def per_image(call: Callable[[], Any], images: int, *, on_gpu: bool, powercap: Path = POWERCAP) -> dict[str, Any]:
    """`joules_per_image` of a call that makes so many images, again and again, all that the machine draws meanwhile.

    None where there is no counter; then `why` says so.
    """
    read = _nvml() if on_gpu else rapl(powercap)
    if read is None:
        missing = (
            "NVML has no energy counter here" if on_gpu else f"no counter that can be read: {powercap}/intel-rapl:*"
        )
        return {"joules_per_image": None, "why": missing}
    made, joules, began = 0, -read(), time.perf_counter()
    while time.perf_counter() - began < SECONDS or not made:
        call()
        made += images
    joules += read()
    return {"joules_per_image": joules / made, "why": "NVML" if on_gpu else "RAPL, all CPU packages"}


def rapl(powercap: Path = POWERCAP) -> Callable[[], float] | None:
    """Joules since some time, over all packages; a counter that wraps around is followed as it does."""
    zones = [zone for zone in sorted(powercap.glob("intel-rapl:*")) if zone.name.count(":") == 1]
    try:
        last = {zone: _microjoules(zone / "energy_uj") for zone in zones}
        ranges = {zone: _microjoules(zone / "max_energy_range_uj") for zone in zones}
    except (OSError, ValueError):  # since 2020 the kernel lets root alone read it (CVE-2020-8694)
        return None
    if not zones:
        return None
    total = 0

    def read() -> float:
        nonlocal total
        for zone in zones:
            now = _microjoules(zone / "energy_uj")
            total += (now - last[zone]) % (ranges[zone] + 1)
            last[zone] = now
        return total / 1e6

    return read


def _microjoules(path: Path) -> int:
    return int(path.read_text())


def _nvml() -> Callable[[], float] | None:
    try:
        import pynvml

        pynvml.nvmlInit()
        device = pynvml.nvmlDeviceGetHandleByIndex(0)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(device)
    except Exception:  # not installed, no driver, or a GPU without the counter: NVML's errors have no common root
        return None
    return lambda: float(pynvml.nvmlDeviceGetTotalEnergyConsumption(device)) / 1000.0  # it counts millijoules
