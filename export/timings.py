"""What TensorRT measured of kernels on GPUs of a generation, kept for its next build there.

A file is of one release of the library and one generation. It begins with the digest of what follows: the library
parses it, in native code, so a damaged one is not shown to it but measured anew.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from zoo import files
from zoo.exchange import derived

DIGEST_BYTES = hashlib.sha256().digest_size


def place(library: str, version: str, generation: str) -> Path:
    return derived.engines() / "timings" / f"{library}-{version}-{generation}.timings"


def give(config: Any, path: Path) -> None:
    """Give a builder what was kept; nothing where there is nothing, it is damaged, or the builder refuses it."""
    cache = config.create_timing_cache(_read(path))
    if cache is None or not config.set_timing_cache(cache, False):  # of another GPU
        config.set_timing_cache(config.create_timing_cache(b""), False)


def keep(config: Any, path: Path) -> None:
    """Keep what a builder was given and what it has measured since."""
    data = bytes(config.get_timing_cache().serialize())
    with files.atomic(path) as temporary:
        temporary.write_bytes(hashlib.sha256(data).digest() + data)


def _read(path: Path) -> bytes:
    try:
        kept = path.read_bytes()
    except OSError:
        return b""
    digest, data = kept[:DIGEST_BYTES], kept[DIGEST_BYTES:]
    return data if hashlib.sha256(data).digest() == digest else b""
