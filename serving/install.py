"""The embedded Triton: NVIDIA's own `tritonserver`, from the wheel that holds it, in a private folder.

<root>/server/          the wheel, unpacked; its dependencies' pins touch nobody's environment
<root>/python/          the environment of the models: NumPy and ONNX Runtime
<root>/python_backend/  Triton's Python backend with the stub of this Python's version
<root>/installed.json   written last
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from zoo import files
from zoo.errors import GenzooError
from zoo.files import home

PYTRITON = "nvidia-pytriton==0.7.0"  # for the loopback address only
TRITONSERVER = "2.51.0"  # which is in it, the 24.10 release
# The stub of 2.51 sends empty outputs, silently, under NumPy 2; ONNX Runtime is the project's own, for equal bits.
MODEL_PACKAGES = ("numpy==1.26.4", "onnxruntime==1.31.1")
PYTHONS = ((3, 11), (3, 12))  # which have both a stub and that NumPy
CHECKOUT = Path(__file__).resolve().parents[1]


class InstallError(GenzooError):
    """The embedded server cannot be installed here; the message says what is missing."""


@dataclass(frozen=True)
class Installation:
    """Where the parts of an embedded Triton are."""

    root: Path

    @property
    def tritonserver(self) -> Path:
        return self.root / "server/pytriton/tritonserver/bin/tritonserver"

    @property
    def libraries(self) -> Path:
        return self.root / "server/nvidia_pytriton.libs"

    @property
    def python(self) -> Path:
        return self.root / "python/bin/python3"

    @property
    def python_backend(self) -> Path:
        return self.root / "python_backend"


def default_root() -> Path:
    """`.triton` in a checkout, else below the store."""
    tree = files.checkout()
    return tree / ".triton" if tree else home() / "triton"


def install(root: Path | None = None, report: Callable[[str], None] = lambda _: None) -> Installation:
    """The embedded Triton in `root`, installed if it is not there; quick where it is. Raises InstallError."""
    installation = Installation((root or default_root()).absolute())
    marker = installation.root / "installed.json"
    wanted = {"server": PYTRITON, "packages": list(MODEL_PACKAGES), "python": sys.version.split()[0]}
    with _lock(installation.root):
        if marker.is_file() and json.loads(marker.read_text()) == wanted:
            return installation
        marker.unlink(missing_ok=True)
        _check_host()
        report(f"installing the embedded Triton server into {installation.root} (55 MB to fetch, once)")
        _environment(installation)
        _server(installation)
        files.write_json(marker, wanted)
    return installation


def add(installation: Installation, packages: Sequence[str]) -> None:
    """Packages that some models need beside the usual ones, into the models' environment. Raises InstallError."""
    if missing := [each for each in packages if not has(installation, each)]:
        with _lock(installation.root):
            _pip(installation, *missing)


def has(installation: Installation, package: str) -> bool:
    """Whether NAME==VERSION, or any NAME, is there; a look at the files, for pip takes a second to say so."""
    name, _, version = package.partition("==")
    pattern = f"lib/python*/site-packages/{re.sub('[-_.]+', '_', name)}-{version or '*'}.dist-info"
    return any((installation.root / "python").glob(pattern))


@contextmanager
def _lock(root: Path) -> Iterator[None]:
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _check_host() -> None:
    if (sys.platform, os.uname().machine) != ("linux", "x86_64"):
        raise InstallError(
            "the embedded Triton server needs Linux on x86-64: use serving/deploy/compose.yaml elsewhere"
        )
    if sys.version_info[:2] not in PYTHONS:
        known = " or ".join(f"{major}.{minor}" for major, minor in PYTHONS)
        raise InstallError(
            f"the embedded Triton server runs models with Python {known}, not {sys.version.split()[0]}: "
            f"make genzoo's environment with one of those"
        )
    library = libpython()
    if not library.is_file():
        raise InstallError(f"{library} is missing: the Triton stub needs a Python built with --enable-shared")


def libpython() -> Path:
    return Path(sysconfig.get_config_var("LIBDIR")) / str(sysconfig.get_config_var("INSTSONAME"))


def _environment(installation: Installation) -> None:
    """The models' Python: the same interpreter as genzoo's, so that its shared library is at hand."""
    folder = installation.root / "python"
    shutil.rmtree(folder, ignore_errors=True)
    base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    _run(str(base), "-m", "venv", str(folder))
    _pip(installation, *MODEL_PACKAGES)


def _server(installation: Installation) -> None:
    folder, backend = installation.root / "server", installation.python_backend
    for old in (folder, backend):
        shutil.rmtree(old, ignore_errors=True)
    _pip(installation, "--no-deps", "--no-compile", "--target", str(folder), PYTRITON)
    triton = folder / "pytriton/tritonserver"
    stub = triton / f"python_backend_stubs/{sys.version_info.major}.{sys.version_info.minor}/triton_python_backend_stub"
    backend.mkdir()
    for source in (*(triton / "backends/python").glob("*.*"), stub):
        shutil.copy(source, backend)


def _pip(installation: Installation, *arguments: str) -> None:
    _run(str(installation.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["it printed nothing"]
        raise InstallError(
            f"`{' '.join(command[1:4])} …` failed while installing the embedded Triton server: {reason[0]}"
        )
