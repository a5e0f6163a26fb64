"""Triton's view of this machine: links in a private folder whose path is plain.

Triton writes paths without quotes into a shell's command line, its stubs take their own arguments apart at spaces, and
their Python knows ASCII only. A home, a checkout or an installation may have any name behind such a link.
"""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from serving.install import CHECKOUT, Installation, libpython
from zoo.errors import GenzooError

BACKENDS = Path(__file__).parent / "backends"
PACKAGES = ("zoo", "export", "serving")
PLAIN = re.compile(r"[A-Za-z0-9_./-]+")
ALTERNATIVES = ("/tmp", "/var/tmp", "/dev/shm")  # to a $TMPDIR that is not plain


class PlaceError(GenzooError):
    """No folder for temporary files has a path that Triton can take."""


@dataclass(frozen=True)
class Places:
    """Links below `folder`, which is this user's alone, to all that Triton opens."""

    folder: Path

    @property
    def models(self) -> Path:
        return self.folder / "models"

    @property
    def backends(self) -> Path:
        return self.folder / "backends"

    @property
    def python(self) -> Path:
        """The packages alone: what is installed beside them must not reach the models."""
        return self.folder / "python"

    def environment(self) -> dict[str, str]:
        """This process's, with the installation's interpreter and libraries before all others."""
        dropped = ("PYTHONHOME", "VIRTUAL_ENV")
        inherited = {name: value for name, value in os.environ.items() if name not in dropped}
        libraries = (f"{self.folder}/libraries", f"{self.folder}/interpreter", inherited.get("LD_LIBRARY_PATH"))
        return inherited | {
            "PATH": os.pathsep.join([f"{self.folder}/environment/bin", inherited.get("PATH", os.defpath)]),
            "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
            "PYTHONUTF8": "1",  # messages name what lies behind the links
        }


def assemble(installation: Installation, repository: Path, engine_backend: str = "onnxruntime") -> Places:
    """A new private folder, for the caller to remove; plans run on `engine_backend` of ours. Raises PlaceError."""
    places = Places(Path(tempfile.mkdtemp(dir=_plain_folder(), prefix="genzoo-triton-")))
    for folder in (places.python, places.backends):
        folder.mkdir()
    links = {
        places.models: repository,
        places.folder / "environment": installation.python.parent.parent,
        places.folder / "libraries": installation.libraries,
        places.folder / "interpreter": libpython().parent,
        places.backends / "python": installation.python_backend,
        **{places.python / package: CHECKOUT / package for package in PACKAGES},
        places.backends / "onnxruntime": BACKENDS / "onnxruntime",
        **{places.backends / name: BACKENDS / engine_backend for name in ("tensorrt", "tensorrt_rtx")},
    }
    for link, target in links.items():
        link.symlink_to(target.absolute())
    return places


def _plain_folder() -> str:
    wanted = tempfile.gettempdir()
    for folder in (wanted, *ALTERNATIVES):
        if PLAIN.fullmatch(folder) and os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise PlaceError(
        f"Triton's models cannot be started below {wanted}, nor is one of {', '.join(ALTERNATIVES)} writable: set "
        f"TMPDIR to a folder whose path has only letters, digits and ./_-"
    )
