"""A repository that genzoo did not write becomes an artifact: a manifest made of what its host says of each file.

Large files carry a sha256 there, which is what a pull verifies; small ones are read once, held against their git
object's name, and digested. Pickles are left out: they are programs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from zoo.files import fault_of_name
from zoo.plain import printable
from zoo.store.artifact import MANIFEST, SIGNATURE, File, Kind, Manifest, identifier
from zoo.store.remotes import RemoteError
from zoo.store.transfer.http import HttpError
from zoo.untrusted import CONVERT, PICKLE_SUFFIXES

MAX_FILES = 20_000
MAX_SMALL_BYTES, MAX_SMALL_TOTAL = 16 << 20, 256 << 20
READERS = 8
NOT_FREE = re.compile(r"other|openrail|\bnc\b|non-?commercial|community")

Read = Callable[[str, int], bytes]  # a small file's bytes, of at most so many


@dataclass(frozen=True)
class Origin:
    """What the host says of the repository."""

    name: str
    url: str
    revision: str
    licence: str
    gated: bool
    modified: datetime | None


def manifest_of(origin: Origin, listed: Iterable[Any], read: Read) -> Manifest:
    """The manifest of a listing (`path`, `size`, `blob_id`, `lfs`); one commit gives one. Raises RemoteError."""
    taken: list[Any] = []
    skipped: list[str] = []
    small = 0
    for entry in listed:
        if len(taken) >= MAX_FILES or small > MAX_SMALL_TOTAL:
            raise RemoteError(
                f"{origin.url} has too many files: at most {MAX_FILES}, {MAX_SMALL_TOTAL} bytes outside LFS"
            )
        if entry.path in (MANIFEST, SIGNATURE) or PurePosixPath(entry.path).name.startswith(".git"):
            continue
        if fault := _fault(entry.path):
            skipped.append(f"{printable(entry.path[:200])} {fault}")
        else:
            taken.append(entry)
            small += 0 if entry.lfs else entry.size
    with ThreadPoolExecutor(READERS) as pool:
        files = tuple(pool.map(lambda entry: _file(origin, entry, read), taken))
    if not files:
        raise RemoteError(f"{origin.url} has nothing that can be taken: {'; '.join(skipped[:3]) or 'it is empty'}")
    modified = origin.modified or datetime.fromtimestamp(1, UTC)
    return Manifest(
        name=identifier(_slug(origin.name)),
        kind=Kind.CHECKPOINT,
        version=max(1, int(modified.timestamp())),  # grows with the commits, so that going back is noticed
        licence=origin.licence,
        files=files,
        created=modified.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        restricted=origin.gated or bool(NOT_FREE.search(origin.licence.lower())),
        provenance={"origin": origin.url, "revision": origin.revision, "signed": False, "skipped": skipped},
    )


def _fault(path: str) -> str | None:
    if path.lower().endswith(PICKLE_SUFFIXES):
        return f"is left out: {CONVERT}"
    return fault_of_name(path)


def _file(origin: Origin, entry: Any, read: Read) -> File:
    if entry.lfs:
        return File(entry.path, entry.lfs.size, entry.lfs.sha256)
    if entry.size > MAX_SMALL_BYTES:
        raise RemoteError(
            f"{origin.url} has {entry.path} of {entry.size} bytes without a sha256: it cannot be verified"
        )
    try:
        data = read(entry.path, MAX_SMALL_BYTES)
    except HttpError as error:
        raise RemoteError(f"{origin.url}: {error}") from error
    if hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest() != entry.blob_id:
        raise RemoteError(f"{origin.url} sent other bytes for {entry.path} than its git object {entry.blob_id[:12]}")
    return File(entry.path, len(data), hashlib.sha256(data).hexdigest())


def _slug(name: str) -> str:
    """The nearest name that an artifact may have."""
    plain = re.sub(r"[^a-z0-9_.-]", "-", name.lower())
    return (
        plain
        if plain.count(".") <= 2 and re.fullmatch(r"[a-z0-9][^.]*(\.[a-z0-9][^.]*)*", plain)
        else plain.replace(".", "-")
    )
