"""Where, on what and by which software a record was measured, and whether the machine was quiet meanwhile."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from zoo.host import cpu, installed, peak_bytes

PACKAGES = (
    "genzoo", "numpy", "onnxruntime", "onnxruntime-gpu", "torch", "onnx", "tritonclient", "mlcommons_loadgen",
    "diffusers",
)  # fmt: skip
NOISE_LIMIT = 0.15  # of a fixed calculation's time, or of the cores' time that others took


@lru_cache
def describe() -> dict[str, Any]:
    """The machine and the software; `machine` identifies what latencies may be compared on."""
    return {
        "machine": machine(),
        "os": platform.platform(terse=True),
        "revision": _revision(),
        "versions": _installed(),
    }


def machine() -> dict[str, Any]:
    """`host` tells two machines of a kind apart, and names neither."""
    size = {"cores": len(os.sched_getaffinity(0)), "memory_gb": round(_memory_bytes() / 2**30)}
    return {"cpu": cpu(), **size, "host": host()}


# What stays the same over reboots, the best first: systemd's, D-Bus's, the firmware's.
HOST_IDS = ("/etc/machine-id", "/var/lib/dbus/machine-id", "/sys/class/dmi/id/product_uuid")


def host(places: Iterable[str | Path] = HOST_IDS) -> str | None:
    """A digest of what the machine is known by to itself; None where it has no such thing."""
    for place in places:
        try:
            found = Path(place).read_text().strip()
        except OSError:
            continue
        if found and found != "uninitialized":
            return hashlib.sha256(f"genzoo {found}".encode()).hexdigest()[:12]
    return None


# By runtime, the packages that decide what a call of it takes, beside those that drive every one.
DECIDING = {
    "torch": ("torch",),
    "torch-compile": ("torch",),
    "aotinductor": ("torch",),
    "openvino": ("openvino",),
    "onnxruntime": ("onnxruntime",),
    "onnxruntime-cuda": ("onnxruntime-gpu",),
    "onnxruntime-tensorrt": ("onnxruntime-gpu", "tensorrt-cu13", "tensorrt-cu12"),
    "onnxruntime-rtx": ("onnxruntime-gpu", "onnxruntime-trt-rtx", "tensorrt-rtx"),
    "tensorrt": ("tensorrt-cu13", "tensorrt-cu12", "tensorrt", "tensorrt-rtx"),
    "triton": ("grpcio",),
    # What was tuned may be any of these; the executor itself is a part of the identity too.
    **{
        f"{who}{tier}": ("onnxruntime", "openvino", "torch")
        for who in ("tuned", "peer")
        for tier in ("", "-45dB", "-40dB")
    },
}
DRIVING = ("genzoo", "numpy", "mlcommons_loadgen")


@cache
def software(runtime: str) -> dict[str, Any]:
    """What decides the latency of a runtime beside the machine: versions, and threads; it is part of an identity."""
    found: dict[str, Any] = {"python": platform.python_version(), **_versions((*DRIVING, *DECIDING[runtime]))}
    if runtime == "triton":
        from serving.install import MODEL_PACKAGES, TRITONSERVER

        models = dict(package.split("==") for package in MODEL_PACKAGES)
        found |= {"tritonserver": TRITONSERVER, **{f"model_{name}": version for name, version in models.items()}}
    return {**found, "threads": _threads(runtime)}


def _threads(runtime: str) -> int:
    """At most, in one call."""
    if runtime.startswith("torch"):
        import torch

        return torch.get_num_threads()
    return len(os.sched_getaffinity(0))


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def available_bytes() -> int:
    """Memory that can be taken now without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return _memory_bytes() // 2


def _installed() -> dict[str, str]:
    return {"python": platform.python_version(), **_versions(PACKAGES)}


def _versions(packages: Iterable[str]) -> dict[str, str]:
    """Of those that are installed, without what a build adds."""
    return {name: found.split("+")[0] for name, found in installed(packages).items()}


def _revision() -> str | None:
    """The commit of the checkout, with "+" where files differ from it; None outside a checkout."""
    folder = Path(__file__).parent.parent
    try:
        commit = _git(folder, "rev-parse", "--short=12", "HEAD")
        return commit + ("+" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@dataclass(frozen=True)
class Watch:
    """Of other processes, from when it was begun."""

    wall: float
    busy: float
    own: float

    @classmethod
    def begin(cls) -> Watch:
        return cls(time.monotonic(), _busy_seconds(), _own_seconds())

    def others(self) -> float:
        """The share of the cores' time that others have taken, 0 to 1: not this process, nor what it started."""
        now = Watch.begin()
        taken = max(0.0, (now.busy - self.busy) - (now.own - self.own))
        return taken / (len(os.sched_getaffinity(0)) * max(now.wall - self.wall, 1e-3))


def noisy(probe_ms: float, usual_probe_ms: float, others: float) -> bool:
    """Whether a run was disturbed: the fixed calculation ran otherwise than usual, or others took the cores."""
    return abs(probe_ms / usual_probe_ms - 1.0) > NOISE_LIMIT or others > NOISE_LIMIT


def probe_ms() -> float:
    """The best of a few times of hashing 4 MB: moves with the clock and with neighbours on the core."""
    data, best = bytes(1 << 22), float("inf")
    for _ in range(5):
        began = time.perf_counter()
        hashlib.sha256(data).digest()
        best = min(best, time.perf_counter() - began)
    return 1000.0 * best


def _busy_seconds() -> float:
    """CPU time that the whole machine has spent, other than idle."""
    try:
        fields = [int(value) for value in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except OSError:
        return _own_seconds()
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    """CPU time of this process and of all that it started and that still runs: a server under test is not noise."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system + _descendants_seconds()


def _descendants_seconds() -> float:
    processes = dict(_processes())
    return sum(processes[pid][1] for pid in _descendants(processes)) / os.sysconf("SC_CLK_TCK")


def _descendants(processes: Mapping[int, tuple[int, int]]) -> set[int]:
    ours = {os.getpid()}
    for _ in processes:  # a parent may be listed after its child
        found = {pid for pid, (parent, _) in processes.items() if parent in ours} - ours
        if not found:
            break
        ours |= found
    return ours - {os.getpid()}


def descendants_peak_bytes() -> int:
    """The same, summed over all that this process started and that still runs; pages that they share count for each."""
    return sum(peak_bytes(pid) for pid in _descendants(dict(_processes())))


def _processes() -> Iterator[tuple[int, tuple[int, int]]]:
    """(process, (its parent, its ticks and those of the children that it has waited for))."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except (OSError, IndexError):
            continue
        yield int(path.parent.name), (int(fields[1]), sum(map(int, fields[11:15])))
