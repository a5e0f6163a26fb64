"""Where a blob waits between being collected and being gone, and the way back."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

TRASH = "trash"


def rescue(root: Path, path: Path) -> bool:
    """Take a blob back that a collection is about to remove; whether it is there."""
    try:
        os.rename(f"{root}/{TRASH}/{path.name}", path)
    except OSError:
        return path.is_file()
    with suppress(OSError):
        os.utime(path)
    return True
