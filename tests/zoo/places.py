"""Somewhere of each kind to push to and find in: a folder, and real servers on the loopback address."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers.hub import Hub
from tests.servers.registry import Registry, tool
from tests.servers.static import StaticServer
from zoo.store.artifact import CHUNK_BYTES, MANIFEST, File, Kind, Manifest, describe
from zoo.store.remotes import Remote, open_remote

KINDS = ("directory", "http", "hf", "oci")
CARD = b"---\nlicense: apache-2.0\n---\n# A card\n"
BIG = random.Random(0).randbytes(CHUNK_BYTES + 12345)
CONTENTS = {
    "README.md": CARD,
    "config.json": b'{"family": "toy"}',
    "model.safetensors": BIG,
    "parts/a name, 100% #1 \u00e4.txt": b"quoted",
    "parts/empty.txt": b"",
}


@dataclass(frozen=True)
class Place:
    """A remote's address, the bytes of files that it took so far, and how to find where it keeps a manifest."""

    kind: str
    url: str
    sent: Callable[[], int]
    stored: Callable[[Manifest], Path]

    @property
    def remote(self) -> Remote:
        """A new one each time: nothing may depend on what an object remembers."""
        return open_remote(self.url)


@contextmanager
def place(kind: str, folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Place]:
    """An empty place of one kind."""
    patch.setenv("NETRC", str(folder / "netrc"))
    patch.setenv("DOCKER_CONFIG", str(folder / "docker"))
    root = folder / "root"
    if kind == "directory":
        yield Place(kind, str(root), lambda: _occupied(root), lambda manifest: _in_layout(root, manifest))
    elif kind == "http":
        root.mkdir(parents=True)
        with StaticServer(root) as server:
            yield Place(kind, f"{server.url}", lambda: server.received, lambda manifest: _in_layout(root, manifest))
    elif kind == "hf":
        with Hub(root) as hub:
            patch.setenv("HF_ENDPOINT", hub.url)
            patch.setenv("HF_TOKEN", "hf_token")
            patch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
            patch.setenv("HF_HOME", str(folder / "hf"))
            yield Place(kind, "hf://zoo", lambda: hub.received, lambda manifest: hub.blob(manifest.digest))
    else:
        if tool("docker-registry") is None:
            pytest.skip("docker-registry could not be had: see tests/servers/fetch_tools.sh")
        with Registry(root) as registry:
            blobs = root / "data/docker/registry/v2/blobs/sha256"
            yield Place(
                kind,
                f"oci://{registry.host}/zoo",
                lambda: _occupied(blobs),
                lambda manifest: blobs / manifest.digest[:2] / manifest.digest / "data",
            )


def _in_layout(root: Path, manifest: Manifest) -> Path:
    return root / manifest.name / f"v{manifest.version}" / MANIFEST


def _occupied(root: Path) -> int:
    """Bytes below a folder, those of hard links once."""
    found = {(status.st_dev, status.st_ino): status.st_size for path in root.rglob("*") if (status := path.stat())}
    return sum(found.values())


@dataclass(frozen=True)
class Made:
    """An artifact of files in a folder."""

    manifest: Manifest
    folder: Path

    def path_of(self, file: File) -> Path:
        return self.folder / file.path


def make(folder: Path, version: int = 1, contents: Mapping[str, bytes] = CONTENTS, name: str = "toy") -> Made:
    digests = [hashlib.sha256(path.encode() + data).digest() for path, data in sorted(contents.items())]
    folder = folder / f"{name}-{version}-{hashlib.sha256(b''.join(digests)).hexdigest()[:8]}"
    for path, data in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    files = tuple(describe(folder / path, path) for path in contents)
    manifest = Manifest(name, Kind.CHECKPOINT, version, "apache-2.0", files, "2026-01-01T00:00:00Z")
    return Made(manifest, folder)


def read(remote: Remote, manifest: Manifest) -> dict[str, bytes]:
    """Every file of an artifact, read in pieces that fit no boundary."""
    source, found = remote.source(manifest), {}
    try:
        for file in manifest.files:
            buffer = bytearray(file.bytes)
            for start in range(0, file.bytes, 3_000_001):
                source.read(file, start, memoryview(buffer)[start : start + 3_000_001])
            found[file.path] = bytes(buffer)
    finally:
        source.close()
    return found
