"""What a host has, what works on it, and the one set of packages and the container that fit."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass
from typing import Any

from export import cuda
from export.engine import Target
from export.floors import CONTAINER_FLOOR, FLOORS, parts
from export.runners import CPU, CUDA, RTX, TENSORRT, cores
from zoo import files
from zoo.errors import GenzooError
from zoo.host import installed

PACKAGES = ("genzoo", "torch", "onnx", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx", "cuda-bindings")
NEEDED_DRIVER = "580"  # by CUDA 13, which the wheels bring
WITHOUT_RTX = ("sm90", "sm100", "sm103")  # of a data centre: TensorRT-RTX builds nothing for them
IN_CONTAINER = "NVIDIA_TRITON_SERVER_VERSION"  # set in NVIDIA's image


class DoctorError(GenzooError):
    """What is installed must not be used as it is; the message says what, and what to do."""


@dataclass(frozen=True)
class Examination:
    """`found`: versions by name, None where there is none; `gpu`: what it is, or why there is none; `faults`: what has
    to change; `works`: what can be done; `install`: the extras that fit; `container`: the tag of Triton's image."""

    host: dict[str, Any]
    found: dict[str, str | None]
    providers: tuple[str, ...]
    gpu: str
    faults: tuple[str, ...]
    works: tuple[str, ...]
    install: str
    container: str

    @property
    def lines(self) -> list[str]:
        """For a person."""
        told = [f"{name}: {value}" for name, value in self.host.items()]
        told += [f"{name}: {version or 'not installed'}" for name, version in self.found.items()]
        told += [f"ONNX Runtime's providers: {', '.join(self.providers) or 'none'}", f"GPU: {self.gpu}"]
        told += [f"floor: {each.package} {each.least} ({each.seen}): {each.reason}" for each in FLOORS]
        told += [f"works here: {each}" for each in self.works]
        told += [f"install: pip install '{self.install}'", f"container: {self.container}"]
        return [*told, *(f"to do: {each}" for each in self.faults)]


def examine() -> Examination:
    """What is here. Nothing is installed, loaded onto a GPU or changed."""
    found = dict.fromkeys(PACKAGES) | installed(PACKAGES) | {"tritonserver": _triton()}
    here, reason = _gpu()
    providers = _providers()
    return Examination(
        {"python": platform.python_version(), "system": platform.platform(), "cores": cores(), "driver": _driver(here)},
        found,
        providers,
        f"{here}, compute capability {here.capability}" if here else f"none: {reason}",
        tuple(_faults(found, here)),
        tuple(_works(found, providers, here)),
        _install(here),
        f"tritonserver:{CONTAINER_FLOOR}-py3 or later" + ("" if here else ", on a host with a GPU"),
    )


def _triton() -> str | None:
    """The release of NVIDIA's container that this runs in, or the embedded server that was installed."""
    if release := os.environ.get(IN_CONTAINER):
        return release
    tree = files.checkout()
    for root in ((tree / ".triton",) if tree else ()) + (files.home() / "triton",):
        try:
            return f"embedded, of {json.loads((root / 'installed.json').read_text())['server']}, for loopback only"
        except (OSError, ValueError, LookupError, TypeError):
            continue
    return None


def _gpu() -> tuple[cuda.Gpu | None, str]:
    try:
        return cuda.gpu(), ""
    except cuda.GpuError as error:
        return None, str(error)


def _driver(here: cuda.Gpu | None) -> str:
    if here:
        return here.driver
    return cuda.DRIVER.read_text().splitlines()[0] if cuda.DRIVER.is_file() else "none"


def _providers() -> tuple[str, ...]:
    try:
        import onnxruntime
    except ImportError:
        return ()
    return tuple(onnxruntime.get_available_providers())


def _faults(found: dict[str, str | None], here: cuda.Gpu | None) -> list[str]:
    """What must change, a sentence each."""
    told = [
        f"{floor.package} {version} is below {floor.least}, because {floor.reason}: install a newer one"
        for floor in FLOORS
        if (version := found[floor.package]) and version[0].isdigit() and not floor.admits(version)
    ]
    if found["onnxruntime"] and found["onnxruntime-gpu"]:
        told.append("onnxruntime and onnxruntime-gpu write over each other: uninstall both, then install one")
    if here and here.driver[0].isdigit() and parts(here.driver) < parts(NEEDED_DRIVER):
        told.append(f"the driver {here.driver} is older than CUDA 13 takes: install release {NEEDED_DRIVER} or later")
    return told


def _works(found: dict[str, str | None], providers: tuple[str, ...], here: cuda.Gpu | None) -> list[str]:
    """What can be done on this host as it is."""
    told = []
    if found["torch"] and found["onnx"]:
        told.append("export, and the gate against torch")
    if CPU in providers:
        told.append("sampling and serving on the CPU by ONNX Runtime")
    if found["tensorrt-rtx"]:
        generations = ", ".join(each for each in Target if each not in (Target.PORTABLE, Target.SM90))
        told.append(f"engines ahead of time by TensorRT-RTX, portable or for {generations}")
    if here:
        told += [
            f"sampling on {here.name} by ONNX Runtime's {each}" for each in (CUDA, TENSORRT, RTX) if each in providers
        ]
        told += [f"engines on {here.name} by {name}" for name in ("tensorrt", "tensorrt-rtx") if found[name]]
    return told


def _install(here: cuda.Gpu | None) -> str:
    """The extras that fit: on a GPU its own ONNX Runtime and TensorRT, and TensorRT-RTX where it has engines for it."""
    if here is None:
        return "genzoo[cpu,export,engines,serving]"
    return f"genzoo[gpu,export,{'' if here.generation in WITHOUT_RTX else 'engines,'}serving]"
