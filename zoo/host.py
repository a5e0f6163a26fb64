"""What this process runs on: the processor and the packages that are installed."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def installed(packages: Iterable[str]) -> dict[str, str]:
    """The versions of those that are installed, in their order."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def cpu() -> str:
    """The processor's model, or the kind of machine where nothing says."""
    return of_cpuinfo("model name") or platform.machine()


def peak_bytes(pid: int | str = "self") -> int:
    """The most memory that a process has held resident; 0 of one that has ended, and where nothing says.

    Not getrusage's, which starts with that of the parent.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def of_cpuinfo(field: str) -> str:
    """A field of the first processor; empty where nothing says."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith(field))
    except (OSError, StopIteration):
        return ""


def children(pid: int) -> list[int]:
    """The processes that a process of Linux has started and that are there; none of one that has gone."""
    found: list[int] = []
    for each in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that has just ended
            found += map(int, each.read_text().split())
    return found
