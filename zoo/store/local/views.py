"""An artifact laid out as a folder of its files, for everything that reads files rather than blobs."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from zoo.errors import StoreError
from zoo.files import copy, fault_of_name, sync_folder
from zoo.store.artifact import MANIFEST, SIGNATURE, Kind, Manifest


@dataclass(frozen=True)
class Entry:
    """One file of a view: the name of the blob that it is, or the bytes themselves."""

    size: int
    sha256: str
    blob: str = ""
    content: bytes | None = None


def entries(manifest: Manifest, signature: bytes | None) -> dict[str, Entry]:
    """Every file of an artifact's folder, by path. Raises StoreError for a path that leaves it."""
    found = {file.path: Entry(file.bytes, file.sha256, file.blob) for file in manifest.files}
    for name, content in ((MANIFEST, manifest.to_bytes()), (SIGNATURE, signature)):
        if content is not None:
            found[name] = Entry(len(content), hashlib.sha256(content).hexdigest(), content=content)
    for path in found:
        clash = any(str(parent) in found for parent in PurePosixPath(path).parents)
        if fault := "lies below another file" if clash else fault_of_name(path):
            raise StoreError(f"{manifest.name} lists the file {path!r}, which {fault}; its publisher must mend it")
    return found


def matches(folder: Path, expected: Mapping[str, Entry]) -> bool:
    """Whether a view has its files, plain ones of the right size. Bytes are for `verify` to judge."""
    for path, entry in expected.items():
        try:
            state = (folder / path).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        if not stat.S_ISREG(state.st_mode) or state.st_size != entry.size:
            return False
    return True


def build(folder: Path, expected: Mapping[str, Entry], blobs: Mapping[str, Path], kind: Kind) -> None:
    """Make a view under a private name, then give it its own. Raises StoreError for an altered blob, OSError."""
    private = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}")
    try:
        private.mkdir(parents=True)
        for path, entry in expected.items():
            target = private / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if entry.content is not None:
                _write(target, entry.content)
            # ONNX Runtime refuses external data in a file that has more than one name
            elif kind is not Kind.CHECKPOINT or not _link(blobs[path], target):
                _copy(blobs[path], target, entry.sha256)
        for inner in {target.parent for target in private.rglob("*")} | {private}:
            sync_folder(inner)
        _replace(private, folder, expected)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(private, ignore_errors=True)


def _replace(private: Path, folder: Path, expected: Mapping[str, Entry]) -> None:
    """Give a folder its name; one that is there already, whole, is as good."""
    for _ in range(3):
        try:
            os.rename(private, folder)
            return
        except OSError:
            if matches(folder, expected):
                return
            if not folder.is_dir():
                raise
        with suppress(FileNotFoundError):
            discard(folder)
    raise StoreError(f"{folder} is damaged and comes back as it was; remove it")


def discard(folder: Path) -> None:
    """Take a view's name away at once, then its files. Raises OSError."""
    private = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}")
    folder.rename(private)
    shutil.rmtree(private, ignore_errors=True)


def _link(blob: Path, target: Path) -> bool:
    try:
        os.link(blob, target, follow_symlinks=False)
    except FileNotFoundError:
        raise
    except (OSError, NotImplementedError):
        return False
    return True


def _write(target: Path, content: bytes) -> None:
    with target.open("xb") as file:
        file.write(content)
        file.flush()
        os.fchmod(file.fileno(), 0o444)
        os.fsync(file.fileno())


def _copy(blob: Path, target: Path, sha256: str) -> None:
    with target.open("xb") as file:
        seen = copy(blob, file)
        file.flush()
        os.fchmod(file.fileno(), 0o444)
        os.fsync(file.fileno())
    if seen != sha256:
        raise StoreError(f"{blob} was altered, it has sha256 {seen[:12]}; `genzoo verify` sets it aside")
