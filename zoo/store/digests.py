"""Digests that let every byte be hashed once: BLAKE3 of each chunk, and the tree, a digest over their list.

A chunk's digest says that a mirror is honest. The tree says which file it is: who finds two lists with one tree, or two
chunks with one digest, has broken BLAKE3. So a file of which every chunk was verified is the file of that tree, without
being read again. SHA-256, which signatures, registries and the Hub name files by, is three to four times slower here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any


def blake3(data: bytes = b"", **options: Any) -> Any:
    """A hasher like hashlib's. Imported when it is needed: Triton's models serve without it."""
    from blake3 import blake3 as hasher

    return hasher(data, **options)


SHA256, BLAKE3 = "sha256", "blake3"
HASHERS: dict[str, Callable[..., Any]] = {SHA256: hashlib.sha256, BLAKE3: blake3}
MAX_SHIFT, MAX_CHUNKS = 26, 1 << 17
_CONTEXT = "genzoo 2026-11-25 tree of chunks"  # so that no tree is the digest of a chunk


def tree(size: int, chunk_bytes: int, chunks: Sequence[str]) -> str:
    """248 bits, in hex, over the BLAKE3 digests of a file's chunks, and the logarithm of `chunk_bytes`, a power of 2.

    With that last byte the blob can be read again and judged by its name alone.
    """
    head = b"%d bytes in chunks of %d\n" % (size, chunk_bytes)
    whole: str = blake3(head + bytes.fromhex("".join(chunks)), derive_key_context=_CONTEXT).hexdigest()
    return f"{whole[:62]}{chunk_bytes.bit_length() - 1:02x}"


def chunk_bytes_of(blob: str, size: int) -> int | None:
    """How large the chunks of a blob are if its name is a tree; None where it is none of a sane number of chunks."""
    shift = int(blob[62:], 16)
    return 1 << shift if shift <= MAX_SHIFT and size >> shift < MAX_CHUNKS else None
