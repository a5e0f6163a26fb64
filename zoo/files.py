"""Files that are either whole or not there: atomic writes, digests, and names that cannot leave their folder."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from zoo.errors import GenzooError

HOME_VARIABLE = "GENZOO_HOME"
COPY_BYTES = 1 << 20
MAX_NAME_BYTES, MAX_PATH_BYTES = 255, 1024


class HomeError(GenzooError):
    """There is no folder for what genzoo keeps."""


Progress = Callable[[int], None]  # told of bytes as they are done; negative: they are lost again


def checkout() -> Path | None:
    """The source tree that this code runs from; None where it was installed without one."""
    root = Path(__file__).resolve().parents[1]
    return root if (root / "pyproject.toml").is_file() else None


def home() -> Path:
    """Where genzoo keeps what it derives: $GENZOO_HOME, or a folder in the user's cache. Raises HomeError."""
    try:
        found = Path(os.environ.get(HOME_VARIABLE) or _cache() / "genzoo")
        str(found).encode()
    except RuntimeError as error:
        raise HomeError(f"this user has no home directory: set ${HOME_VARIABLE} to a folder") from error
    except UnicodeEncodeError as error:
        raise HomeError(
            f"{found} is no text, so ONNX cannot open it: set ${HOME_VARIABLE} to another folder"
        ) from error
    return found


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


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
    """For people to read too: a list of numbers, and what is short and has no parts of its own, is a line."""
    text = re.sub(r"\[\n[\s\d.,eE+-]*\]|\{\n[^\]\[{}]{1,120}\}", _in_a_line, json.dumps(data, indent=2))
    with atomic(path) as temporary:
        temporary.write_text(text + "\n")


def _in_a_line(found: re.Match[str]) -> str:
    """A line break stands between parts only: in a string it is escaped."""
    return re.sub(r"\n *", " ", re.sub(r"(?<=[\[{])\n *|\n *(?=[\]}])", "", found[0]))


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical(data: Any) -> bytes:
    """Plain values as the one JSON text that digests of them are made of."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def identify(identity: Any) -> str:
    """A name for all that determines a thing, 16 hex digits."""
    return hashlib.sha256(canonical(identity)).hexdigest()[:16]


def check_writable(folder: Path) -> None:
    """Before long work: raise OSError where no file could be made in `folder`, which need not be there yet."""
    while not folder.exists() and not folder.is_symlink() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


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
