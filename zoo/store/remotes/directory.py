"""A folder as a remote: a disk, a shared file system, or the root of any web server."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from zoo.files import atomic, copy, sha256, sync_folder
from zoo.store.artifact import MANIFEST, MAX_MANIFEST_BYTES, SIGNATURE, ArtifactError, File, Manifest, identifier
from zoo.store.remotes import NotFoundError, Published, RemoteError
from zoo.store.remotes.layout import (
    LATEST,
    MAX_SIGNATURE_BYTES,
    already_there,
    latest_file,
    version_folder,
    version_of_folder,
)
from zoo.store.transfer.sources import Source, SourceError
from zoo.untrusted import POINTER, POINTER_CURE, is_pointer

STALE_S = 24 * 3600


def open_remote(url: str) -> DirectoryRemote:
    """The remote in a folder, named by its path or as file://. Raises RemoteError."""
    if url.lower().startswith("file:"):
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost"):
            raise RemoteError(f"{url} names the host {parts.netloc}: write file:///path for a folder of this host")
        url = unquote(parts.path)
    if not url:
        raise RemoteError("the remote has no path: write a folder, http(s)://, hf:// or oci://")
    return DirectoryRemote(Path(url).expanduser())


class DirectoryRemote:
    """Artifacts in a folder; a version appears whole, by one rename."""

    def __init__(self, root: Path) -> None:
        self.root, self.url = root, str(root)

    def find(self, name: str, version: int | None = None) -> Published:
        if version is None:
            version = max(self._versions(name), default=None)
        found = self._published(name, version) if version else None
        if found is None:
            what = f"version {version} of {name}" if version else f"artifact {name!r}"
            raise NotFoundError(f"{self.url} has no {what}; it holds {self._described()}")
        return found

    def source(self, manifest: Manifest) -> Source:
        return DirectorySource(self.root / version_folder(manifest.name, manifest.version), self.url)

    def push(self, manifest: Manifest, signature: bytes | None, path_of: Callable[[File], Path]) -> str:
        if os.path.lexists(self.root) and not self.root.is_dir():
            raise RemoteError(f"{self.url} is no folder, or a link to nothing: name a folder, which is made if need be")
        folder = self.root / version_folder(manifest.name, manifest.version)
        if already_there(self.url, manifest, self._published(manifest.name, manifest.version)):
            if signature is not None:
                _write(folder / SIGNATURE, signature)
        else:
            self._publish(manifest, signature, path_of, folder)
        newest = max((manifest.version, *self._versions(manifest.name)))
        _write(self.root / latest_file(manifest.name), f"{newest}\n".encode())
        return str(folder)

    def _publish(
        self, manifest: Manifest, signature: bytes | None, path_of: Callable[[File], Path], folder: Path
    ) -> None:
        """Build the version in a private folder beside its place, make it durable, and give it its name."""
        held = self._held(manifest.name)
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder.parent)
        private = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            for file in manifest.files:
                target = private / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                if not _link(held.get(file.sha256), target, file):
                    _copy(path_of(file), target, file)
            if signature is not None:
                (private / SIGNATURE).write_bytes(signature)
            (private / MANIFEST).write_bytes(manifest.to_bytes())
            _make_durable(private)
            self._rename(private, folder, manifest)
        finally:
            shutil.rmtree(private, ignore_errors=True)

    def _rename(self, private: Path, folder: Path, manifest: Manifest) -> None:
        private.chmod(0o755)
        try:
            private.rename(folder)
        except OSError:  # ENOTEMPTY, EEXIST: somebody was quicker
            if not already_there(self.url, manifest, self._published(manifest.name, manifest.version)):
                raise
        sync_folder(folder.parent)

    def _versions(self, name: str) -> list[int]:
        """The versions that are there; `latest` is for readers who cannot list a folder."""
        try:
            entries = os.listdir(self.root / identifier(name))
        except (FileNotFoundError, NotADirectoryError):
            return []
        found = [version_of_folder(entry) for entry in entries]
        return [version for version in found if version]

    def _published(self, name: str, version: int) -> Published | None:
        folder = self.root / version_folder(name, version)
        try:
            manifest = _read(folder / MANIFEST, MAX_MANIFEST_BYTES)
        except FileNotFoundError:
            return None
        signature = None
        with suppress(FileNotFoundError):
            signature = _read(folder / SIGNATURE, MAX_SIGNATURE_BYTES)
        return Published(manifest, signature)

    def _held(self, name: str) -> dict[str, Path]:
        """The files of the newest version by digest, from which unchanged ones are linked."""
        newest = max(self._versions(name), default=None)
        found = self._published(name, newest) if newest else None
        if not newest or found is None:
            return {}
        try:
            files = Manifest.from_bytes(found.manifest).files
        except ArtifactError:
            return {}
        return {file.sha256: self.root / version_folder(name, newest) / file.path for file in files}

    def _described(self) -> str:
        if not self.root.is_dir():
            return "nothing, for there is no such folder"
        names = sorted(entry.name for entry in self.root.iterdir() if (entry / LATEST).is_file())
        return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") or "nothing yet"


class DirectorySource:
    """The files of one version in a folder."""

    def __init__(self, folder: Path, label: str) -> None:
        self.folder, self.label = folder, label

    def read(self, file: File, offset: int, into: memoryview) -> None:
        filled = 0
        try:
            descriptor = _open(self.folder / file.path)
            try:
                size = os.fstat(descriptor).st_size
                if size != file.bytes:
                    if is_pointer(os.pread(descriptor, len(POINTER), 0)):
                        raise SourceError(f"{file.path} {POINTER_CURE}", gone=True)
                    raise SourceError(f"{file.path} has {size} bytes, expected {file.bytes}", gone=True)
                while filled < len(into):
                    count = os.preadv(descriptor, [into[filled:]], offset + filled)
                    if count == 0:
                        raise SourceError(f"{file.path} ends early", filled=filled, gone=True)
                    filled += count
            finally:
                os.close(descriptor)
        except OSError as error:
            raise SourceError(f"{file.path}: {error.strerror}", filled=filled, gone=_is_final(error)) from error

    def close(self) -> None:
        """Nothing is kept open between reads."""


def _is_final(error: OSError) -> bool:
    """Not so for what a shared file system says in a bad moment: ESTALE, EIO, ETIMEDOUT."""
    return isinstance(error, FileNotFoundError | PermissionError | NotADirectoryError | IsADirectoryError)


def _open(path: Path) -> int:
    """Open a plain file for reading: no link, and nothing that blocks. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise IsADirectoryError(0, "not a plain file", str(path))
    return descriptor


def _read(path: Path, limit: int) -> bytes:
    """The bytes of a small file. Raises FileNotFoundError, RemoteError."""
    try:
        with os.fdopen(_open(path), "rb") as file:
            data = file.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(path) from error
    except OSError as error:
        raise RemoteError(f"{path} could not be read: {error.strerror}") from error
    if len(data) > limit:
        raise RemoteError(f"{path} has more than {limit} bytes: it is not what genzoo writes there")
    return data


def _write(path: Path, data: bytes) -> None:
    with atomic(path) as temporary:
        temporary.write_bytes(data)


def _link(held: Path | None, target: Path, file: File) -> bool:
    """Whether a file of an earlier version could stand for this one; its bytes are checked, not believed."""
    if held is None or target.exists():
        return False
    with suppress(OSError):
        if held.is_file() and not held.is_symlink() and held.stat().st_size == file.bytes:
            if sha256(held) != file.sha256:
                return False
            os.link(held, target)
            return True
    return False


def _copy(path: Path, target: Path, file: File) -> None:
    """Copy and verify in one pass. Raises RemoteError."""
    with target.open("wb") as sink:
        seen = copy(path, sink)
    if seen != file.sha256:
        raise RemoteError(f"{path} is not what its manifest says ({file.path}): it changed meanwhile, push again")


def _sweep(folder: Path) -> None:
    """Remove what killed pushes left long ago."""
    for path in folder.glob(".v*.*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > STALE_S and path.is_dir():
                shutil.rmtree(path, ignore_errors=True)


def _make_durable(folder: Path) -> None:
    """Sync every file and folder below, the innermost first."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            with (Path(parent) / name).open("rb") as file:
                os.fsync(file.fileno())
            (Path(parent) / name).chmod(0o644)
        sync_folder(Path(parent))
        Path(parent).chmod(0o755)
