"""Artifacts of random bytes for the tests of the store, and the ways they get into it."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from zoo.artifact import File, Kind, Manifest, describe
from zoo.blobs import BlobStore, Ref

CHUNK = 1 << 16


def make_file(folder: Path, size: int, name: str = "model.safetensors", seed: int = 0) -> tuple[File, bytes]:
    data = random.Random(seed).randbytes(size)
    path = folder / f"source-{name}-{seed}"
    path.write_bytes(data)
    return describe(path, name, CHUNK), data


def put(store: BlobStore, file: File, data: bytes, order: list[int] | None = None) -> None:
    with store.receive(file) as partial:
        if partial is not None:
            for index in order or range(file.chunk_count):
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
