"""What the store needs of a disk: folders where they belong, on one file system; and two calls that Python lacks.

These give room to a file before its first byte, and begin its write-back early; where they are missing nothing happens.
`os.posix_fallocate` would not do: where a file system cannot, the C library writes every block by itself, which over a
network costs the file twice.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from zoo.errors import StoreError

_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV, errno.ESPIPE)
_SYNC_FILE_RANGE_WRITE = 2


@cache
def _call(name: str, *types: Any) -> Any:
    try:
        call = getattr(ctypes.CDLL(None, use_errno=True), name)
    except (AttributeError, OSError, TypeError):
        return None
    call.argtypes = types
    return call


def check_folders(folders: Iterable[Path]) -> None:
    """Raises StoreError where something else lies in a folder's place, as a file or a link to nothing does."""
    for folder in folders:
        if os.path.lexists(folder) and not folder.is_dir():
            what = "a link to nothing" if folder.is_symlink() and not folder.exists() else "no folder"
            raise StoreError(f"{folder} is {what}, where the store needs a folder: move it away, or name another one")


def check_one_disk(partials: Path, blobs: Path) -> None:
    """Raises StoreError where a file in `partials` cannot take a name in `blobs`, before it is fetched."""
    with suppress(FileNotFoundError):
        if partials.stat().st_dev != blobs.stat().st_dev:
            raise two_disks(partials, blobs)


def two_disks(partials: Path, blobs: Path) -> StoreError:
    """What to say where a rename cannot go from the one to the other."""
    return StoreError(
        f"{blobs} is on another file system than {partials}, and a blob takes its name by a rename: let both be links "
        "to folders of one disk, or move the whole of genzoo's home there"
    )


def allocate(descriptor: int, length: int, path: Path) -> None:
    """Reserve the blocks of a file's first `length` bytes. Raises OSError: ENOSPC, EDQUOT, EFBIG."""
    call = _call("fallocate", ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    while call and length and call(descriptor, 0, 0, length):
        error = ctypes.get_errno()
        if error == errno.EINTR:
            continue
        if error in _UNSUPPORTED:
            return
        raise OSError(error, os.strerror(error), str(path))


def begin_write_back(descriptor: int, start: int, length: int) -> None:
    """Have the kernel start to write a range, without waiting: the fsync at the end then has little left to do."""
    if call := _call("sync_file_range", ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint):
        call(descriptor, start, length, _SYNC_FILE_RANGE_WRITE)
