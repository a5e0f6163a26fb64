"""What is distributed: an artifact is a folder of files under one manifest, and the manifest's sha256 is its identity.

A checkpoint, a bundle and an engine travel alike. The manifest lists every other file with its digest, and with the
digest of each chunk, so that a part can be verified as it arrives, from whichever mirror. It lies beside the files as
`genzoo.json`, with an OpenSSF signature over the whole folder in `model.sig` where its publisher signs.

What a manifest says is a claim. The store keeps a file under a name that its verified bytes have: the tree of its
chunks where they have BLAKE3 digests (zoo.store.digests), else its sha256. So no manifest can put other bytes under a
name that others use.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import cached_property
from io import RawIOBase
from pathlib import Path
from typing import Any

from zoo.errors import GenzooError
from zoo.files import fault_of_name
from zoo.store.digests import BLAKE3, HASHERS, MAX_CHUNKS, SHA256, tree

FORMAT_1, FORMAT_2 = "genzoo-artifact/1", "genzoo-artifact/2"  # the second knows `chunk_hash`
MANIFEST, SIGNATURE = "genzoo.json", "model.sig"
CHUNK_BYTES = 4 << 20
READ_BYTES = 256 << 10  # stays in the second-level cache between two hashes
MAX_CHUNK_BYTES = 64 << 20
MAX_MANIFEST_BYTES = 32 << 20
MAX_DEPTH = 64  # of a provenance

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,95}(\.[a-z0-9][a-z0-9_-]{0,63}){0,2}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class ArtifactError(GenzooError):
    """A manifest that cannot be trusted as it stands, or files that are not what it says."""


class Kind(StrEnum):
    CHECKPOINT = "checkpoint"
    BUNDLE = "bundle"
    ENGINE = "engine"


def identifier(name: str, kind: Kind = Kind.CHECKPOINT, variant: str = "") -> str:
    """What an artifact is called everywhere: `ddpm-pd4`, `ddpm-pd4.bundle.fp32`, `ddpm-pd4.engine.sm89`."""
    found = name if kind is Kind.CHECKPOINT else f"{name}.{kind.value}.{variant}"
    if not _NAME.fullmatch(found):
        raise ArtifactError(f"{found!r} is no artifact's name: lower-case letters, digits, '-' and '_', please")
    return found


@dataclass(frozen=True)
class File:
    """One file of an artifact. `chunks` are the digests of every `chunk_bytes`; empty where nobody recorded them.

    A file of one chunk has its sha256 there, larger ones have `chunk_hash` "blake3", or "sha256" in older manifests.
    """

    path: str
    bytes: int
    sha256: str
    chunks: tuple[str, ...] = ()
    chunk_bytes: int = CHUNK_BYTES
    chunk_hash: str = SHA256

    @property
    def is_tree(self) -> bool:
        """Whether its chunks alone say which file it is; its sha256 is then a claim that a pull does not check."""
        return self.chunk_hash == BLAKE3

    @cached_property
    def blob(self) -> str:
        """The name of its bytes in the store."""
        return tree(self.bytes, self.chunk_bytes, self.chunks) if self.is_tree else self.sha256

    @property
    def hasher(self) -> Callable[..., Any]:
        """What makes the hash of a chunk."""
        return HASHERS[self.chunk_hash]

    @property
    def chunk_count(self) -> int:
        return -(-self.bytes // self.chunk_bytes)

    def chunk_range(self, index: int) -> tuple[int, int]:
        """Where a chunk begins, and its length."""
        start = index * self.chunk_bytes
        return start, min(self.chunk_bytes, self.bytes - start)


@dataclass(frozen=True)
class Manifest:
    """All that is known of an artifact. `version` grows with every push of the same name; going back is noticed."""

    name: str
    kind: Kind
    version: int
    licence: str
    files: tuple[File, ...]
    created: str = ""  # ISO 8601, UTC
    restricted: bool = False  # the licence must be accepted before the first byte of weights
    provenance: Mapping[str, Any] = field(default_factory=dict)  # dataset, recipe, revision, parents, ...

    def to_bytes(self) -> bytes:
        """Canonical JSON: one manifest has one digest."""
        record = {"format": FORMAT_2, **asdict(self), "provenance": dict(self.provenance)}
        if not any(file.is_tree for file in self.files):
            record["format"] = FORMAT_1
            for entry in record["files"]:
                del entry["chunk_hash"]
        return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def size(self) -> int:
        return sum(file.bytes for file in self.files)

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """The manifest in `data`, every field checked. Raises ArtifactError."""
        if len(data) > MAX_MANIFEST_BYTES:
            raise ArtifactError(f"the manifest has {len(data)} bytes, at most {MAX_MANIFEST_BYTES} are read")
        try:
            record = json.loads(data)
            if record.pop("format") not in (FORMAT_1, FORMAT_2):
                raise ArtifactError(f"the manifest is not of format {FORMAT_2} or older; a newer genzoo may read it")
            files = tuple(File(**{**entry, "chunks": tuple(entry["chunks"])}) for entry in record.pop("files"))
            manifest = cls(**{**record, "kind": Kind(record["kind"]), "files": files})
            _check(manifest)
            canonical = manifest.to_bytes()
        except ArtifactError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ArtifactError(f"the manifest cannot be read ({type(error).__name__}: {str(error)[:200]})") from error
        if canonical != data:
            raise ArtifactError("the manifest is not in canonical form: it was written by something else, or altered")
        return manifest


def _check(manifest: Manifest) -> None:
    if not isinstance(manifest.name, str) or not _NAME.fullmatch(manifest.name):
        raise ArtifactError(f"the manifest names its artifact {manifest.name!r}, which is no artifact's name")
    if type(manifest.version) is not int or manifest.version < 1:
        raise ArtifactError(f"the manifest of {manifest.name} has version {manifest.version!r}, expected 1 or more")
    if not isinstance(manifest.licence, str) or type(manifest.restricted) is not bool:
        raise ArtifactError(f"the manifest of {manifest.name} has a licence that is not text")
    if not isinstance(manifest.provenance, Mapping) or not isinstance(manifest.created, str):
        raise ArtifactError(f"the manifest of {manifest.name} has a provenance or a date of the wrong type")
    if _deeper(manifest.provenance, MAX_DEPTH):
        raise ArtifactError(f"the manifest of {manifest.name} has a provenance that nests deeper than {MAX_DEPTH}")
    seen: set[str] = {MANIFEST, SIGNATURE}
    for file in manifest.files:
        _check_file(manifest.name, file)
        if file.path in seen:
            raise ArtifactError(f"the manifest of {manifest.name} lists {file.path!r} twice, or names itself")
        seen.add(file.path)


def _deeper(value: Any, levels: int) -> bool:
    """Whether plain values nest deeper than so many levels."""
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return levels < 0 or any(_deeper(each, levels - 1) for each in inner)


def _check_file(name: str, file: File) -> None:
    if fault := fault_of_name(file.path) if isinstance(file.path, str) else "is not text":
        raise ArtifactError(f"{name} lists the file {file.path!r}, which {fault}")
    if type(file.bytes) is not int or not 0 <= file.bytes < 1 << 50:
        raise ArtifactError(f"{name} lists {file.path} with {file.bytes!r} bytes")
    for digest in (file.sha256, *file.chunks):
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise ArtifactError(f"{name} lists {file.path} with the digest {digest!r}, which is none of 256 bits")
    if type(file.chunk_bytes) is not int or not 1 <= file.chunk_bytes <= MAX_CHUNK_BYTES:
        raise ArtifactError(f"{name} lists {file.path} in chunks of {file.chunk_bytes!r} bytes")
    if file.chunk_count > MAX_CHUNKS:
        raise ArtifactError(f"{name} lists {file.path} in {file.chunk_count} chunks, at most {MAX_CHUNKS} are fetched")
    if file.chunks and len(file.chunks) != file.chunk_count:
        raise ArtifactError(f"{name} lists {file.path} with {len(file.chunks)} chunks of {file.bytes} bytes")
    if file.chunk_hash not in (SHA256, BLAKE3) or (file.is_tree and len(file.chunks) < 2):
        raise ArtifactError(f"{name} lists {file.path} with {len(file.chunks)} chunks by {file.chunk_hash!r}")
    if file.is_tree and file.chunk_bytes & (file.chunk_bytes - 1):
        raise ArtifactError(f"{name} lists {file.path} in chunks of {file.chunk_bytes} bytes, which is no power of 2")


def contradiction(name: str, file: File, sha256: str) -> str:
    """What to say of an artifact whose file is right by its chunks, and not the one whose sha256 is claimed."""
    return (
        f"the manifest of {name} contradicts itself: {file.path} has the chunks that it lists, and sha256 "
        f"{sha256[:12]} where it lists {file.sha256[:12]}; do not use it, and ask its publisher"
    )


def describe(
    path: Path, name: str, chunk_bytes: int = CHUNK_BYTES, progress: Callable[[int], None] = lambda _: None
) -> File:
    """The entry of a file on disk: one pass over its bytes, of which `progress` hears. `chunk_bytes`: a power of 2."""
    whole, chunks, size = hashlib.sha256(), list[str](), 0
    buffer = memoryview(bytearray(min(READ_BYTES, chunk_bytes)))
    with path.open("rb", buffering=0) as stream:
        while chunk := _chunk(stream, chunk_bytes, buffer, whole, progress):
            chunks.append(chunk[0])
            size += chunk[1]
    if len(chunks) < 2:
        return File(name, size, whole.hexdigest(), (whole.hexdigest(),) * len(chunks), chunk_bytes)
    return File(name, size, whole.hexdigest(), tuple(chunks), chunk_bytes, BLAKE3)


def _chunk(
    stream: RawIOBase, length: int, buffer: memoryview, whole: Any, progress: Callable[[int], None]
) -> tuple[str, int] | None:
    """The digest and the length of the next chunk, put through the hash of the whole too; None at the end."""
    hasher, size = HASHERS[BLAKE3](), 0
    while size < length and (count := stream.readinto(buffer[: length - size])):
        hasher.update(buffer[:count])
        whole.update(buffer[:count])
        size += count
        progress(count)
    return (hasher.hexdigest(), size) if size else None
