"""Where and on what a record was measured, and whether the machine was quiet meanwhile."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

PACKAGES = (
    "genzoo", "numpy", "onnxruntime", "onnxruntime-gpu", "torch", "onnx", "tritonclient", "mlcommons_loadgen",
    "diffusers",
)  # fmt: skip
NOISE_LIMIT = 0.15  # of a fixed calculation's time, or of the cores' time that others took


@lru_cache
def describe() -> dict[str, Any]:
    """The machine and the software; `machine` identifies what latencies may be compared on."""
    return {"machine": machine(), "os": platform.platform(terse=True), "revision": _revision(), "versions": _versions()}


def machine() -> dict[str, Any]:
    return {"cpu": _cpu(), "cores": len(os.sched_getaffinity(0)), "memory_gb": round(_memory_bytes() / 2**30)}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name).split("+")[0]
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


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


@contextmanager
def guard() -> Iterator[dict[str, Any]]:
    """Around a measurement: fills a dict with the speed of a fixed calculation and with what other processes took."""
    found: dict[str, Any] = {}
    before, busy, own, began = _probe_ms(), _busy_seconds(), _own_seconds(), time.monotonic()
    yield found
    cores, wall = len(os.sched_getaffinity(0)), time.monotonic() - began
    others = max(0.0, (_busy_seconds() - busy) - (_own_seconds() - own)) / (cores * max(wall, 1e-3))
    after = _probe_ms()
    drift = abs(after / before - 1.0)
    found |= {"probe_ms": [round(before, 2), round(after, 2)], "others": round(others, 3)}
    found["noisy"] = bool(drift > NOISE_LIMIT or others > NOISE_LIMIT)


def _probe_ms() -> float:
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
    ours, ticks = {os.getpid()}, 0
    for _ in processes:  # a parent may be listed after its child
        found = {pid for pid, (parent, _) in processes.items() if parent in ours} - ours
        if not found:
            break
        ours |= found
        ticks += sum(processes[pid][1] for pid in found)
    return ticks / os.sysconf("SC_CLK_TCK")


def _processes() -> Iterator[tuple[int, tuple[int, int]]]:
    """(process, (its parent, its ticks and those of the children that it has waited for))."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except (OSError, IndexError):
            continue
        yield int(path.parent.name), (int(fields[1]), sum(map(int, fields[11:15])))
