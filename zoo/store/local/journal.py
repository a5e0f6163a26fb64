"""The finished chunks of a file on its way, noted behind its own last byte: one file, so that one rename claims both.

Of a chunk that is not finished the length of what arrived is noted, which nothing can verify before the rest is there.
Records have a fixed size. A record comes after its chunk was written, yet a power cut may keep the one and lose the
other: what a journal says is a claim, `verified` is what the bytes say. A torn record is overwritten by the next.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from zoo.store.artifact import READ_BYTES, File

RECORD_BYTES = 80
WRITE_BYTES = 256 << 10  # of one call: for more, Linux takes large pages, and in a virtual machine waits for its host
MAX_PREFIXES = 4096  # records of chunks that are not complete
_PREFIX = "0" * 48  # and a length: what no digest begins with
_RECORD = re.compile(rb"([0-9]{14}) ([0-9a-f]{64})\n")


class Journal:
    """The journal behind `file.bytes` of an open file. `claims` are the chunks that it lists, with their digests."""

    def __init__(self, descriptor: int, file: File) -> None:
        self._descriptor, self._file = descriptor, file
        self._head = (b"genzoo-part/1 %d" % file.chunk_bytes).ljust(RECORD_BYTES - 1) + b"\n"
        written = max(0, os.fstat(descriptor).st_size - file.bytes)
        tail = os.pread(descriptor, min(written, RECORD_BYTES * (MAX_PREFIXES + 4 * file.chunk_count)), file.bytes)
        self.started = tail[:RECORD_BYTES] == self._head
        self._end = len(tail) // RECORD_BYTES * RECORD_BYTES
        self.claims, self.prefixes = self._parse(tail) if self.started else ({}, {})
        if not tail and os.fstat(descriptor).st_size == file.bytes:
            # cut off to be published, and then it was not
            self.claims = dict(enumerate(file.chunks or ("",) * file.chunk_count))

    @property
    def is_empty(self) -> bool:
        """Whether nothing is worth keeping."""
        return not (self.claims or self.prefixes)

    def _parse(self, tail: bytes) -> tuple[dict[int, str], dict[int, int]]:
        records = (tail[at : at + RECORD_BYTES] for at in range(RECORD_BYTES, self._end, RECORD_BYTES))
        matches = (_RECORD.fullmatch(record) for record in records)
        found = [(int(match[1]), match[2].decode()) for match in matches if match]
        listed = [each for each in found if each[0] < self._file.chunk_count]
        prefixes = {index: int(value, 16) for index, value in listed if value.startswith(_PREFIX)}
        return {index: value for index, value in listed if not value.startswith(_PREFIX)}, prefixes

    def start(self, chunks: Mapping[int, str]) -> None:
        """Begin it anew with these chunks, in one write."""
        records = b"".join(b"%014d %s\n" % (index, digest.encode()) for index, digest in chunks.items())
        os.ftruncate(self._descriptor, self._file.bytes)
        write_all(self._descriptor, memoryview(self._head + records), self._file.bytes)
        self._end = RECORD_BYTES * (1 + len(chunks))

    def append(self, index: int, digest: str) -> None:
        record = b"%014d %s\n" % (index, digest.encode())
        write_all(self._descriptor, memoryview(record), self._file.bytes + self._end)
        self._end += RECORD_BYTES

    def append_prefix(self, index: int, length: int) -> None:
        """Note that the first bytes of a chunk are there, unverified; to an older reader a digest that differs."""
        self.append(index, f"{length:064x}")

    def verified(self) -> dict[int, str]:
        """What it claims and the bytes confirm: every claimed chunk is read again, on several cores."""
        claims = self.claims
        if "" in claims.values():
            whole = digest_of(hashlib.sha256(), self._descriptor, 0, self._file.bytes)
            claims = dict.fromkeys(claims, "") if whole == self._file.sha256 else {}

        def is_true(index: int) -> bool:
            expected = self._file.chunks[index] if self._file.chunks else claims[index]
            if not expected:
                return True
            return digest_of(self._file.hasher(), self._descriptor, *self._file.chunk_range(index)) == expected

        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            return {index: claims[index] for index, true in zip(claims, pool.map(is_true, claims), strict=True) if true}


def digest_of(hasher: Any, descriptor: int, start: int, length: int) -> str:
    """The digest of a part of a file; of what there is, where the file ends early."""
    feed(hasher, descriptor, start, length)
    return str(hasher.hexdigest())


def feed(hasher: Any, descriptor: int, start: int, length: int) -> None:
    """Put a part of a file through a running hash, in memory that does not grow with it."""
    buffer = memoryview(bytearray(min(READ_BYTES, length)))
    end = start + length
    while start < end:
        count = os.preadv(descriptor, [buffer[: end - start]], start)
        if count == 0:
            return
        hasher.update(buffer[:count])
        start += count


def write_all(descriptor: int, data: memoryview, start: int) -> None:
    while data.nbytes:
        count = os.pwrite(descriptor, data[:WRITE_BYTES], start)
        data, start = data[count:], start + count
