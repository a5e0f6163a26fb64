"""Two calls of Linux that Python lacks: room for a file before its first byte, and write-back that begins early.

Where they are missing nothing happens. `os.posix_fallocate` would not do: where a file system cannot, the C library
writes every block by itself, which over a network costs the file twice.
"""

from __future__ import annotations

import ctypes
import errno
import os
from functools import cache
from pathlib import Path
from typing import Any

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
