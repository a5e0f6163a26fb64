"""Files that are either whole or not there: atomic writes, digests, and names that cannot leave their folder."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

HOME_VARIABLE = "GENZOO_HOME"
COPY_BYTES = 1 << 20
MAX_NAME_BYTES, MAX_PATH_BYTES = 255, 1024


def home() -> Path:
    """Where genzoo keeps what it derives: $GENZOO_HOME, or a folder in the user's cache."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "genzoo"
    return Path(os.environ.get(HOME_VARIABLE) or default)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its name once the block ends well, and is removed otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the file system has such a call."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def write_json(path: Path, data: Any) -> None:
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(data, indent=2) + "\n")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy(source: Path, sink: BinaryIO) -> str:
    """Copy a file's bytes and hash them in the same pass: their sha256."""
    digest = hashlib.sha256()
    with source.open("rb") as stream:
        while piece := stream.read(COPY_BYTES):
            digest.update(piece)
            sink.write(piece)
    return digest.hexdigest()


def fault_of_name(name: str) -> str | None:
    """Why a relative POSIX path must not be used below a folder, as a clause; None where it is plain."""
    pure = PurePosixPath(name)
    if not name or name != str(pure) or name == ".":
        return "is not a plain relative path"
    if pure.is_absolute() or (len(name) > 1 and name[1] == ":"):
        return "is absolute"
    if ".." in pure.parts:
        return "leaves its folder"
    if "\\" in name or any(ord(character) < 32 or "\ud800" <= character <= "\udfff" for character in name):
        return "has a character that paths here do not use"
    if len(name.encode()) > MAX_PATH_BYTES or any(len(part.encode()) > MAX_NAME_BYTES for part in pure.parts):
        return "is longer than file systems take"
    return None
