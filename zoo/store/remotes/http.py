"""Any HTTP(S) server of static files; one that takes PUT (nginx with dav, Apache, an object store) can be pushed to.

A user and password come from the address or from ~/.netrc ($NETRC), and are sent to that server only.
"""

from __future__ import annotations

import hashlib
import netrc
import os
import weakref
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from zoo.files import sha256
from zoo.store.artifact import CHUNK_BYTES, MANIFEST, MAX_MANIFEST_BYTES, SIGNATURE, ArtifactError, File, Manifest
from zoo.store.remotes import NotFoundError, Published, RemoteError
from zoo.store.remotes.layout import (
    MAX_LATEST_BYTES,
    MAX_SIGNATURE_BYTES,
    VersionTakenError,
    already_there,
    latest_file,
    version_folder,
    version_of_text,
)
from zoo.store.transfer.connections import public, split
from zoo.store.transfer.http import GONE, Client, HttpError
from zoo.store.transfer.http_source import HttpSource
from zoo.store.transfer.sources import Source, SourceError

REFUSED, TAKEN = (403, 405, 501), 412
ABSENT = {"if-none-match": "*"}  # a server that honours it lets one of two pushers win


def open_remote(url: str) -> HttpRemote:
    """The remote below an address. Raises RemoteError, and ValueError for what is no address."""
    split(url)
    return HttpRemote(url)


class HttpRemote:
    """Artifacts in the folder layout, behind a server of files."""

    def __init__(self, url: str) -> None:
        self.url = public(url).rstrip("/")
        self._given = url
        self._client = self._connect()
        weakref.finalize(self, self._client.close)

    def find(self, name: str, version: int | None = None) -> Published:
        if version is None:
            text = self._document(latest_file(name), MAX_LATEST_BYTES)
            if text is None:
                raise NotFoundError(
                    f"{self.url} has no artifact {name!r}: there is no {self._address(latest_file(name))}"
                )
            version = version_of_text(text, self._address(latest_file(name)))
        found = self._published(name, version)
        if found is None:
            raise NotFoundError(f"{self.url} has no version {version} of {name}")
        return found

    def source(self, manifest: Manifest) -> Source:
        folder = version_folder(manifest.name, manifest.version)
        return HttpSource(self.url, lambda file: self._address(f"{folder}/{file.path}"), self._connect())

    def push(self, manifest: Manifest, signature: bytes | None, path_of: Callable[[File], Path]) -> str:
        folder = version_folder(manifest.name, manifest.version)
        found = self._published(manifest.name, manifest.version)
        if already_there(self.url, manifest, found):
            if signature is not None and found is not None and found.signature != signature:
                self._put(f"{folder}/{SIGNATURE}", signature)
        else:
            self._put_files(manifest, path_of)
            if signature is not None:
                self._put(f"{folder}/{SIGNATURE}", signature)
            if not self._put(f"{folder}/{MANIFEST}", manifest.to_bytes(), ABSENT):
                already_there(self.url, manifest, self._published(manifest.name, manifest.version))
        self._point(manifest)
        return self._address(folder)

    def _put_files(self, manifest: Manifest, path_of: Callable[[File], Path]) -> None:
        """Send what the server cannot copy from the newest version; the smallest first, so that a refusal is cheap."""
        held, folder = self._held(manifest.name), version_folder(manifest.name, manifest.version)
        for file in sorted(manifest.files, key=lambda file: file.bytes):
            target = f"{folder}/{file.path}"
            if file.sha256 in held and self._copy(held[file.sha256], target):
                continue
            path = path_of(file)
            if sha256(path) != file.sha256:
                raise RemoteError(
                    f"{path} is not what its manifest says ({file.path}): it changed meanwhile, push again"
                )
            if not self._put(target, path, ABSENT) and not self._holds(manifest, file):
                raise VersionTakenError(self.url, manifest.name, manifest.version)

    def _point(self, manifest: Manifest) -> None:
        """Let `latest` name this version, unless it names a newer one."""
        latest = latest_file(manifest.name)
        text = self._document(latest, MAX_LATEST_BYTES)
        if text is None or version_of_text(text, self._address(latest)) < manifest.version:
            self._put(latest, f"{manifest.version}\n".encode())

    def _put(self, path: str, body: bytes | Path, headers: dict[str, str] | None = None) -> bool:
        """PUT a file; False where it was to be new and is not. Raises RemoteError."""
        try:
            self._client.send(
                "PUT", self._address(path), body, {"content-type": "application/octet-stream"} | (headers or {})
            )
        except HttpError as error:
            if error.status == TAKEN and headers:
                return False
            raise _refused(error, writing=True) from error
        return True

    def _copy(self, path: str, target: str) -> bool:
        """Whether the server copied a file of its own (WebDAV's COPY, RFC 4918)."""
        headers = {"destination": self._address(target), "overwrite": "F"}
        try:
            self._client.send("COPY", self._address(path), headers=headers)
        except HttpError:
            return False
        return True

    def _holds(self, manifest: Manifest, file: File) -> bool:
        """Whether the server has this very file already, as an interrupted push leaves it; its bytes are read."""
        digest, buffer, source = hashlib.sha256(), bytearray(CHUNK_BYTES), self.source(manifest)
        try:
            for offset in range(0, file.bytes, CHUNK_BYTES):
                piece = memoryview(buffer)[: min(CHUNK_BYTES, file.bytes - offset)]
                source.read(file, offset, piece)
                digest.update(piece)
        except SourceError:
            return False
        finally:
            source.close()
        return digest.hexdigest() == file.sha256

    def _held(self, name: str) -> dict[str, str]:
        """Where the newest version's files lie, by digest."""
        try:
            newest = Manifest.from_bytes(self.find(name).manifest)
        except (RemoteError, ArtifactError):
            return {}
        return {file.sha256: f"{version_folder(name, newest.version)}/{file.path}" for file in newest.files}

    def _published(self, name: str, version: int) -> Published | None:
        folder = version_folder(name, version)
        manifest = self._document(f"{folder}/{MANIFEST}", MAX_MANIFEST_BYTES)
        if manifest is None:
            return None
        return Published(manifest, self._document(f"{folder}/{SIGNATURE}", MAX_SIGNATURE_BYTES))

    def _document(self, path: str, limit: int) -> bytes | None:
        """A small file, None where there is none. Raises RemoteError."""
        try:
            return self._client.get(self._address(path), limit).body
        except HttpError as error:
            if error.status in GONE:
                return None
            raise _refused(error) from error

    def _address(self, path: str) -> str:
        return f"{self.url}/{quote(path)}"

    def _connect(self) -> Client:
        return Client(self._given, _from_netrc(self._given))


def _refused(error: HttpError, writing: bool = False) -> RemoteError:
    if error.status == 401 or (error.status == 403 and not writing):
        return RemoteError(f"{error}: it wants a user and password, which belong into ~/.netrc or the address")
    if writing and error.status in REFUSED:
        return RemoteError(
            f"{error}: this server takes no files; push to a folder (`genzoo push NAME FOLDER`) and let it serve that"
        )
    return RemoteError(str(error))


def _from_netrc(url: str) -> dict[str, str]:
    parts = split(url)
    path = os.environ.get("NETRC") or os.path.expanduser("~/.netrc")
    if parts.username is not None or not os.path.isfile(path):
        return {}
    try:
        found = netrc.netrc(path).authenticators(parts.hostname or "")
    except (netrc.NetrcParseError, OSError, UnicodeDecodeError) as error:
        raise RemoteError(f"{path} could not be read: {type(error).__name__}") from error
    return {"authorization": "Basic " + b64encode(f"{found[0]}:{found[2]}".encode()).decode()} if found else {}
