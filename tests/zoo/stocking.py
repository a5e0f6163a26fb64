"""Artifacts of random bytes for the tests of the store, and the ways they get into it."""

from __future__ import annotations

import hashlib
import os
import random
import time
from dataclasses import replace
from pathlib import Path

from zoo.store.artifact import File, Kind, Manifest, describe
from zoo.store.digests import SHA256
from zoo.store.local.blobs import BlobStore, Ref

CHUNK = 1 << 16


def make_file(folder: Path, size: int, name: str = "model.safetensors", seed: int = 0) -> tuple[File, bytes]:
    data = random.Random(seed).randbytes(size)
    path = folder / f"source-{name}-{seed}"
    path.write_bytes(data)
    return describe(path, name, CHUNK), data


def older(file: File, data: bytes) -> File:
    """The same file as manifests described it before BLAKE3: by the sha256 of its chunks."""
    ranges = [file.chunk_range(index) for index in range(file.chunk_count)]
    chunks = tuple(hashlib.sha256(data[start : start + length]).hexdigest() for start, length in ranges)
    return replace(file, chunks=chunks, chunk_hash=SHA256)


def bare(file: File) -> File:
    """The same file as a host that knows nothing of chunks describes it: by its sha256 alone."""
    return replace(file, chunks=(), chunk_hash=SHA256)


def put(store: BlobStore, file: File, data: bytes, order: list[int] | None = None) -> None:
    with store.receive(file) as partial:
        if partial is not None:
            for index in range(file.chunk_count) if order is None else order:
                start, length = file.chunk_range(index)
                partial.write(index, data[start : start + length])


def publish(store: BlobStore, tmp_path: Path, name: str = "toy", version: int = 1, **more: object) -> Manifest:
    file, data = make_file(tmp_path, 3 * CHUNK + 5, seed=version)
    put(store, file, data)
    kind = Kind(str(more.get("kind", "checkpoint")))
    manifest = Manifest(name, kind, version, "MIT", (file,))
    store.set_ref(Ref(name, store.add_bytes(manifest.to_bytes()), version), bool(more.get("allow_rollback")))
    return manifest


def age(store: BlobStore, seconds: float) -> None:
    """Make everything in the store look as if it was used that long ago."""
    then = time.time() - seconds
    for path in store.root.rglob("*"):
        os.utime(path, (then, then))
