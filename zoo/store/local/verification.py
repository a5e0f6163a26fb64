"""Every byte of the store read again. What is damaged is set aside, so that a pull fetches it again."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import StoreError
from zoo.files import Progress
from zoo.store.artifact import CHUNK_BYTES, File, contradiction, describe
from zoo.store.digests import chunk_bytes_of
from zoo.store.local import views
from zoo.store.local.garbage import blob_paths
from zoo.store.local.refs import Ref

if TYPE_CHECKING:
    from zoo.store.local.blobs import BlobStore


@dataclass(frozen=True)
class Damage:
    """A blob or a view that is not what it should be."""

    path: str
    expected: str  # the digest that it should have
    seen: str  # its sha256, "" where it is missing
    names: tuple[str, ...]  # the refs that need it
    moved_to: str = ""

    @property
    def sentence(self) -> str:
        found = f"was altered, it has sha256 {self.seen[:12]}" if self.seen else "is missing"
        cure = " && ".join(map(pull_command, self.names))
        return f"{self.path} {found}, expected {self.expected[:12]}; " + (
            f"`{cure}` fetches it again" if cure else "nothing needs it"
        )


def pull_command(identifier: str) -> str:
    """What fetches an artifact: `genzoo pull ddpm-pd4 --bundle --variant fp32` for `ddpm-pd4.bundle.fp32`."""
    name, _, rest = identifier.partition(".")
    kind, _, variant = rest.partition(".")
    options = {"bundle": f" --bundle --variant {variant}", "engine": f" --engine {variant}"}
    return f"genzoo pull {name}{options.get(kind, '')}"


@dataclass(frozen=True)
class Verification:
    """What was read, and what was wrong with it."""

    blobs: int
    bytes: int
    damaged: tuple[Damage, ...] = ()
    faults: tuple[str, ...] = ()  # refs that cannot be read, one sentence each


def verify(store: BlobStore, names: Iterable[str] | None = None, progress: Progress = lambda _: None) -> Verification:
    """Hash every blob that the named refs need; without names, every blob there is. Raises StoreError, no such ref."""
    refs, faults = _refs(store, names)
    needed: dict[str, list[str]] = {path.name: [] for path in blob_paths(store.root)} if names is None else {}
    listed: dict[str, list[tuple[str, File]]] = {}  # blob -> the refs whose manifests list it, and as what
    for ref in refs:
        try:
            files = store.manifest(ref).files
        except StoreError as error:
            files = ()
            faults.append(str(error))
        for file in files:
            listed.setdefault(file.blob, []).append((ref.name, file))
        for digest in {ref.manifest, ref.signature, *(file.blob for file in files)} - {""}:
            needed.setdefault(digest, []).append(ref.name)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        checks = pool.map(
            lambda digest: _check_blob(store, digest, tuple(needed[digest]), listed.get(digest, []), progress),
            sorted(needed),
        )
        results = list(checks)
        results += pool.map(lambda ref: _check_view(store, ref, progress), refs)
    damaged = tuple(found for _, found in results if isinstance(found, Damage))
    faults += [found for _, found in results if isinstance(found, str)]
    return Verification(len(needed), sum(size for size, _ in results), damaged, tuple(faults))


def _refs(store: BlobStore, names: Iterable[str] | None) -> tuple[list[Ref], list[str]]:
    """The refs to read, and a sentence for each that is damaged itself."""
    found, faults = [], []
    for name in store.names() if names is None else names:
        try:
            ref = store.ref(name)
        except StoreError as error:
            faults.append(str(error))
            continue
        if ref is None:
            raise StoreError(f"{name} is not in {store.root}; `genzoo pull {name}` fetches it")
        found.append(ref)
    return found, faults


def _check_blob(
    store: BlobStore, digest: str, names: tuple[str, ...], listed: Sequence[tuple[str, File]], progress: Progress
) -> tuple[int, Damage | str | None]:
    """The bytes that were read, and the damage, or the manifest that claims another sha256 of what is right."""
    path = store.root / "blobs" / digest[:2] / digest
    try:
        state = path.stat()
        known = listed[0][1].chunk_bytes if listed else chunk_bytes_of(digest, state.st_size)
        seen = describe(path, path.name, known or CHUNK_BYTES, progress)
    except FileNotFoundError:
        return 0, Damage(str(path), digest, "", names)
    if digest not in (seen.sha256, seen.blob):
        return seen.bytes, Damage(str(path), digest, seen.sha256, names, _quarantine(store.root, path, state.st_ino))
    wrong = [contradiction(name, file, seen.sha256) for name, file in listed if file.sha256 != seen.sha256]
    return seen.bytes, "; ".join(wrong) or None


def _quarantine(root: Path, path: Path, inode: int) -> str:
    """Set a damaged blob aside; "" where the store is read-only, or a whole one took its place."""
    target = root / "quarantine" / f"{path.name}.{secrets.token_hex(4)}"
    try:
        if path.stat().st_ino != inode:
            return ""
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
    except OSError:
        return ""
    return str(target)


def _check_view(store: BlobStore, ref: Ref, progress: Progress) -> tuple[int, Damage | str | None]:
    """Hash what a view has for itself; files that are its blobs under another name were hashed already."""
    folder = store.root / "views" / ref.manifest
    if not folder.is_dir():
        return 0, None
    total = 0
    try:
        expected = store.entries(store.manifest(ref))
    except StoreError:
        return 0, None  # its manifest is reported already
    for name, entry in expected.items():
        path = folder / name
        try:
            if entry.blob and _is_blob(store, path, entry.blob):
                continue
            found = describe(path, name, progress=progress)
            seen = found.sha256
            total += found.bytes
        except OSError:
            seen = ""
        if seen != entry.sha256:
            with suppress(OSError):
                views.discard(folder)  # made again from the blobs when it is wanted
            return total, Damage(str(path), entry.sha256, seen, (ref.name,))
    return total, None


def _is_blob(store: BlobStore, path: Path, digest: str) -> bool:
    """Whether a view's file is the blob under another name, not one that was set aside or replaced since."""
    with suppress(FileNotFoundError):
        return os.path.samestat(path.lstat(), (store.root / "blobs" / digest[:2] / digest).lstat())
    return False
