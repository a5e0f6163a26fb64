"""The OCI distribution API of one repository: blobs, manifests, referrers, and the ways a registry asks who is there.

What is read is checked against the digest that names it. Credentials come from $GENZOO_OCI_USER and
$GENZOO_OCI_PASSWORD, or from where `docker login` and `skopeo login` keep them.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import os
import re
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from zoo.files import sha256
from zoo.store.remotes import RemoteError
from zoo.store.transfer.challenges import challenges
from zoo.store.transfer.http import GONE, Client, HttpError, Reply

IMAGE_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
IMAGE_INDEX = "application/vnd.oci.image.index.v1+json"
MAX_DOCUMENT_BYTES = 4 << 20  # what registries take at least, by the specification
UPLOAD_BYTES = 16 << 20  # of one piece
UPLOAD_ATTEMPTS = 5


@dataclass(frozen=True)
class Document:
    """A manifest or an index, and the digest that names it."""

    data: bytes
    digest: str

    def parsed(self) -> dict[str, Any]:
        try:
            found = json.loads(self.data)
        except (ValueError, RecursionError) as error:
            raise RemoteError(f"the manifest {self.digest[:19]} is not JSON") from error
        if not isinstance(found, dict):
            raise RemoteError(f"the manifest {self.digest[:19]} is not an object")
        return found


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Registry:
    """One repository of a registry. Methods raise RemoteError."""

    def __init__(self, host: str, repository: str) -> None:
        self.host, self.repository = host, repository
        self._root = f"{'http' if is_loopback(host) else 'https'}://{host}"
        self.base = f"{self._root}/v2/{repository}"
        self.client = Client(self._root)
        weakref.finalize(self, self.client.close)
        self._actions = "pull"
        self._challenge = ""

    def blob_address(self, digest: str) -> str:
        return f"{self.base}/blobs/{digest}"

    def manifest(self, reference: str) -> Document | None:
        """The manifest or index of a tag or digest, None where there is none."""
        headers = {"accept": f"{IMAGE_MANIFEST}, {IMAGE_INDEX}"}
        reply = self._get(f"{self.base}/manifests/{reference}", MAX_DOCUMENT_BYTES, headers)
        if reply is None:
            return None
        digest = digest_of(reply.body)
        for given in (reference if ":" in reference else "", reply.headers.get("docker-content-digest", "")):
            if given.startswith("sha256:") and given != digest:
                raise RemoteError(
                    f"{self.host} sent a manifest of digest {digest[:19]} as {given[:19]}: it was altered"
                )
        return Document(reply.body, digest)

    def blob(self, digest: str, limit: int) -> bytes:
        reply = self._get(self.blob_address(digest), limit, {})
        if reply is None:
            raise RemoteError(f"{self.host}/{self.repository} lacks the blob {digest[:19]} that its manifest names")
        if digest_of(reply.body) != digest:
            raise RemoteError(f"{self.host} sent other bytes than the blob {digest[:19]} has: it was altered")
        return reply.body

    def put_manifest(self, reference: str, data: bytes, media_type: str = IMAGE_MANIFEST) -> Reply:
        address = f"{self.base}/manifests/{reference}"
        return self._write("PUT", address, data, {"content-type": media_type})

    def put_blob(self, digest: str, body: bytes | Path) -> bool:
        """Whether a blob had to be sent: not where the registry holds it."""
        self._actions = "pull,push"
        if self._holds(digest):
            return False
        size = body.stat().st_size if isinstance(body, Path) else len(body)
        if isinstance(body, Path) and f"sha256:{sha256(body)}" != digest:
            raise RemoteError(f"{body} is not what its manifest says: it changed meanwhile, push again")
        location = self._begin()
        if isinstance(body, Path) and size > UPLOAD_BYTES:
            location, body = self._send_pieces(location, body, size), b""
        end = "&" if urlsplit(location).query else "?"
        headers = {"content-type": "application/octet-stream"}
        self._write("PUT", f"{location}{end}{urlencode({'digest': digest})}", body, headers)
        return True

    def referrers(self, digest: str) -> list[dict[str, Any]]:
        """The descriptors of what refers to a manifest: by the API, or by the tag that stands in for it."""
        reply = self._get(f"{self.base}/referrers/{digest}", MAX_DOCUMENT_BYTES, {"accept": IMAGE_INDEX})
        document = Document(reply.body, "") if reply else self.manifest(fallback_tag(digest))
        entries = document.parsed().get("manifests") if document else None
        return [entry for entry in entries or () if isinstance(entry, dict)]

    def add_referrer(self, subject: str, descriptor: dict[str, Any], manifest: bytes) -> None:
        """Publish a manifest that refers to `subject`; on a registry before OCI 1.1 it is listed under a tag."""
        reply = self.put_manifest(descriptor["digest"], manifest)
        if "oci-subject" in reply.headers:
            return
        found = self.manifest(fallback_tag(subject))
        known = found.parsed().get("manifests", []) if found else []
        entries = [entry for entry in known if entry.get("digest") != descriptor["digest"]] + [descriptor]
        index = {"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": entries}
        self.put_manifest(fallback_tag(subject), json.dumps(index).encode(), IMAGE_INDEX)

    def renew(self) -> dict[str, str]:
        """Headers that the registry accepts, by its last challenge."""
        if not self._challenge:
            try:
                self.client.get(f"{self._root}/v2/", 1 << 16)
            except HttpError as error:
                self._challenge = error.headers.get("www-authenticate", "")
        return self._authorization(self._challenge) if self._challenge else {}

    def _get(self, url: str, limit: int, headers: dict[str, str]) -> Reply | None:
        try:
            return self._authorized(lambda: self.client.get(url, limit, headers))
        except HttpError as error:
            if error.status in GONE:
                return None
            raise self._refused(error) from error

    def _holds(self, digest: str) -> bool:
        try:
            self._authorized(lambda: self.client.head(self.blob_address(digest)))
        except HttpError as error:
            if error.status in GONE:
                return False
            raise self._refused(error) from error
        return True

    def _write(self, method: str, url: str, body: bytes | Path = b"", headers: dict[str, str] | None = None) -> Reply:
        self._actions = "pull,push"
        try:
            return self._authorized(lambda: self.client.send(method, url, body, headers))
        except HttpError as error:
            raise self._refused(error) from error

    def _begin(self) -> str:
        return self._location(self._write("POST", f"{self.base}/blobs/uploads/"))

    def _send_pieces(self, location: str, path: Path, size: int) -> str:
        """A large blob by PATCH, going on after a fault from where the registry is. The location to finish at."""
        sent, faults = 0, 0
        with path.open("rb") as file:
            while sent < size:
                file.seek(sent)
                piece = file.read(UPLOAD_BYTES)
                headers = {"content-type": "application/octet-stream"}
                headers["content-range"] = f"{sent}-{sent + len(piece) - 1}"
                try:
                    reply = self._authorized(lambda: self.client.send("PATCH", location, piece, headers))  # noqa: B023
                    location, sent = self._location(reply), sent + len(piece)
                except HttpError as error:
                    faults += 1
                    if faults > UPLOAD_ATTEMPTS or error.status in (401, 403, 413):
                        raise self._refused(error) from error
                    location, sent = self._resumed(location)
        return location

    def _resumed(self, location: str) -> tuple[str, int]:
        """Where an upload goes on, and at which byte; one that the registry has lost begins again.

        Debian's docker-registry loses every upload that was cut within a piece: its location holds the old offset.
        """
        try:
            reply = self._authorized(lambda: self.client.get(location))
        except HttpError:
            return self._begin(), 0
        end = reply.headers.get("range", "0-0").rpartition("-")[2]
        return self._location(reply), int(end) + 1 if end.isdecimal() and end != "0" else 0

    def _location(self, reply: Reply) -> str:
        location = reply.headers.get("location", "")
        if not location:
            raise RemoteError(f"{self.host} accepted an upload and did not say where to: is it a registry?")
        return urljoin(reply.url, location)

    def _authorized(self, ask: Any) -> Reply:
        """A request; once more with a token or a password where the registry asks for one."""
        try:
            reply: Reply = ask()
        except HttpError as error:
            challenge = error.headers.get("www-authenticate", "")
            if error.status != 401 or not challenge:
                raise
            self._challenge = challenge
            self.client.headers = {**self.client.headers, **self._authorization(challenge)}
            reply = ask()
        return reply

    def _authorization(self, challenge: str) -> dict[str, str]:
        """The header that answers a challenge. Raises RemoteError."""
        asked = {each.scheme: each.parameters for each in challenges(challenge)}
        basic = credentials(self.host)
        if "bearer" not in asked and "basic" in asked:
            return {"authorization": f"Basic {basic}"} if basic else {}
        if "bearer" not in asked:
            raise RemoteError(f"{self.host} asks who is there by {', '.join(asked) or 'nothing'}: not Basic or Bearer")
        wanted = asked["bearer"]
        realm = wanted.get("realm", "")
        parts = urlsplit(realm)
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.netloc)):
            raise RemoteError(f"{self.host} asks to fetch a token where nobody should: its realm is not https")
        scope = wanted.get("scope") or f"repository:{self.repository}:{self._actions}"
        query = urlencode({"service": wanted.get("service", ""), "scope": scope})
        tokens = Client(realm, {"authorization": f"Basic {basic}"} if basic else {})
        try:
            answer = json.loads(tokens.get(f"{realm}{'&' if parts.query else '?'}{query}", 1 << 20).body)
            return {"authorization": f"Bearer {answer.get('token') or answer['access_token']}"}
        except HttpError as error:
            raise self._refused(error) from error
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise RemoteError(f"{self.host}: its token server answers nothing that holds a token") from error
        finally:
            tokens.close()

    def _refused(self, error: HttpError) -> RemoteError:
        cure = "; log in with `docker login` or `skopeo login`, or set $GENZOO_OCI_USER and $GENZOO_OCI_PASSWORD"
        return RemoteError(f"{error}{cure if error.status in (401, 403) else ''}")


def fallback_tag(digest: str) -> str:
    return digest.replace(":", "-")


def is_loopback(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def credentials(host: str) -> str:
    """`user:password` for a registry in base64, "" where none are known."""
    if user := os.environ.get("GENZOO_OCI_USER"):
        return base64.b64encode(f"{user}:{os.environ.get('GENZOO_OCI_PASSWORD', '')}".encode()).decode()
    for path in _login_files():
        try:
            found = json.loads(path.read_text())["auths"][host]["auth"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if isinstance(found, str) and re.fullmatch(r"[A-Za-z0-9+/=]+", found):
            return found
    return ""


def _login_files() -> Iterator[Path]:
    if given := os.environ.get("REGISTRY_AUTH_FILE"):
        yield Path(given)
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        yield Path(runtime) / "containers" / "auth.json"
    yield Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
