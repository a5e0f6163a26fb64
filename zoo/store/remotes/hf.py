"""The Hugging Face Hub, and what speaks its API ($HF_ENDPOINT): `hf://owner` or `hf://owner/prefix`.

An artifact is the repository owner/name, a version one commit and its tag v<version>. `huggingface_hub` knows the API
and the user's token; bytes are read by our own transfer from addresses pinned to the commit. Repositories that
somebody else made are read too (zoo/store/remotes/foreign.py).
"""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from zoo.store.artifact import MANIFEST, MAX_MANIFEST_BYTES, SIGNATURE, File, Manifest
from zoo.store.remotes import NotFoundError, Published, RemoteError
from zoo.store.remotes.foreign import Origin, manifest_of
from zoo.store.remotes.layout import MAX_SIGNATURE_BYTES, already_there
from zoo.store.transfer.connections import public, split
from zoo.store.transfer.http import DENIED, GONE, TLS_CURE, Client, HttpError
from zoo.store.transfer.http_source import HttpSource
from zoo.store.transfer.sources import Source

LOGIN = "`hf auth login` or $HF_TOKEN"
OURS = {".gitattributes", "README.md"}  # what a repository may hold before the first push


def open_remote(url: str) -> HubRemote:
    """The remote of one owner. Raises RemoteError."""
    owner, _, prefix = url.partition("://")[2].strip("/").partition("/")
    if not owner or "/" in prefix or "@" in owner:
        raise RemoteError("a remote on the Hub is written hf://owner or hf://owner/prefix")
    return HubRemote(owner, prefix)


class HubRemote:
    """Artifacts as model repositories of one owner."""

    def __init__(self, owner: str, prefix: str = "") -> None:
        from huggingface_hub import HfApi, constants

        self.url = f"hf://{owner}/{prefix}" if prefix else f"hf://{owner}"
        self._stem = f"{owner}/{prefix}-" if prefix else f"{owner}/"
        self._endpoint = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
        try:
            split(self._endpoint)
        except ValueError as error:
            raise RemoteError(f"$HF_ENDPOINT: {error}") from error
        self._api = HfApi(endpoint=self._endpoint)
        self._client = self._connect()
        weakref.finalize(self, self._client.close)
        self._commits: dict[str, tuple[str, str]] = {}  # manifest -> repository and commit that were found

    def find(self, name: str, version: int | None = None) -> Published:
        info = self._info(name, version)
        if info is None:
            what, where = _what(name, version), public(self._endpoint)
            raise NotFoundError(f"{self.url} has no {what}: there is none at {where}; a private one needs {LOGIN}")
        found = self._published(name, info.sha)
        if found is None:
            if version is not None:
                raise RemoteError(f"{self._stem}{name} was not made by genzoo, so it has no version {version}")
            found = self._foreign(name, info)
        manifest = Manifest.from_bytes(found.manifest)
        if version not in (None, manifest.version):
            raise NotFoundError(f"{self.url} has no {_what(name, version)}; the newest is {manifest.version}")
        self._commits[manifest.digest] = (self._stem + name, info.sha)
        return found

    def source(self, manifest: Manifest) -> Source:
        if manifest.digest not in self._commits:
            self.find(manifest.name, manifest.version)
        if manifest.digest not in self._commits:
            raise RemoteError(f"{self.url} has another version {manifest.version} of {manifest.name} than the manifest")
        repository, commit = self._commits[manifest.digest]
        return HttpSource(self.url, lambda file: self._address(repository, commit, file.path), self._connect())

    def push(self, manifest: Manifest, signature: bytes | None, path_of: Callable[[File], Path]) -> str:
        repository, tag = self._stem + manifest.name, f"v{manifest.version}"
        with self._explained(repository, "be pushed to"):
            self._api.create_repo(repository, exist_ok=True)
            there = self._info(manifest.name, manifest.version)
            found = self._published(manifest.name, there.sha) if there else None
            head = self._api.model_info(repository)
            newest = self._settle(repository, manifest.name, str(head.sha))
            if already_there(self.url, manifest, found) and signature in (None, found and found.signature):
                return f"{self._endpoint}/{repository}"
            if newest > manifest.version:
                raise RemoteError(
                    f"{repository} is at version {newest} already; on the Hub only the newest can be pushed"
                )
            self._commit(repository, head, manifest, signature, path_of)
            if found is not None:
                self._api.delete_tag(repository, tag=tag)
            self._settle(repository, manifest.name, "main")
        return f"{self._endpoint}/{repository}"

    def _commit(
        self,
        repository: str,
        head: Any,
        manifest: Manifest,
        signature: bytes | None,
        path_of: Callable[[File], Path],
    ) -> None:
        """One commit that makes the repository this artifact, on top of the newest that was looked at."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        held = {sibling.rfilename for sibling in head.siblings or ()}
        if MANIFEST not in held and held - OURS:
            raise RemoteError(f"{repository} holds files that genzoo did not write; push to another owner or prefix")
        operations: list[Any] = []
        for file in manifest.files:
            operations.append(CommitOperationAdd(file.path, path_of(file)))
            if operations[-1].upload_info.sha256.hex() != file.sha256:
                raise RemoteError(f"{path_of(file)} is not what its manifest says: it changed meanwhile, push again")
        operations.append(CommitOperationAdd(MANIFEST, manifest.to_bytes()))
        if signature is not None:
            operations.append(CommitOperationAdd(SIGNATURE, signature))
        kept = {operation.path_in_repo for operation in operations} | {".gitattributes"}
        operations += [CommitOperationDelete(path) for path in sorted(held - kept)]
        message = f"{manifest.name} {manifest.version}"
        with _quietly():
            self._api.create_commit(repository, operations, commit_message=message, parent_commit=head.sha)

    def _settle(self, repository: str, name: str, revision: str) -> int:
        """The version that a commit holds, 0 for none; it gets the tag that an interrupted push could not give it."""
        found = self._published(name, revision)
        if found is None:
            return 0
        version = Manifest.from_bytes(found.manifest).version
        if f"v{version}" not in self._tags(repository):
            self._api.create_tag(repository, tag=f"v{version}", revision=revision)
        return version

    def _tags(self, repository: str) -> set[str]:
        return {tag.name for tag in self._api.list_repo_refs(repository).tags}

    def _info(self, name: str, version: int | None) -> Any:
        """What the Hub says of a version, else of the newest (whose tag may be missing yet); None for no repository."""
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

        with self._explained(self._stem + name, "be read"):
            try:
                return self._api.model_info(self._stem + name, revision=f"v{version}" if version else None)
            except RevisionNotFoundError:
                newest = self._api.model_info(self._stem + name)
                found = self._published(name, str(newest.sha))
                return newest if found and Manifest.from_bytes(found.manifest).version == version else None
            except GatedRepoError as error:  # a kind of the next, to the library
                raise self._closed(self._stem + name, error.response.status_code) from error
            except RepositoryNotFoundError:
                return None

    def _foreign(self, name: str, info: Any) -> Published:
        repository = self._stem + name
        with self._explained(repository, "be read"):
            tree = self._api.list_repo_tree(repository, recursive=True, revision=info.sha)
            listed = [entry for entry in tree if hasattr(entry, "blob_id")]
        licence = str((info.card_data or {}).get("license") or "unknown")
        origin = Origin(name, f"hf://{repository}", info.sha, licence, bool(info.gated), info.last_modified)

        def read(path: str, limit: int) -> bytes:
            try:
                return self._client.get(self._address(repository, info.sha, path), limit).body
            except HttpError as error:
                raise self._refused(repository, error) from error

        return Published(manifest_of(origin, listed, read).to_bytes())

    def _published(self, name: str, commit: str) -> Published | None:
        manifest = self._document(name, commit, MANIFEST, MAX_MANIFEST_BYTES)
        if manifest is None:
            return None
        return Published(manifest, self._document(name, commit, SIGNATURE, MAX_SIGNATURE_BYTES))

    def _document(self, name: str, commit: str, path: str, limit: int) -> bytes | None:
        try:
            return self._client.get(self._address(self._stem + name, commit, path), limit).body
        except HttpError as error:
            if error.status in GONE:
                return None
            raise self._refused(self._stem + name, error) from error

    def _refused(self, repository: str, error: HttpError) -> RemoteError:
        return self._closed(repository, error.status) if error.status in DENIED else RemoteError(f"{self.url}: {error}")

    def _closed(self, repository: str, status: int) -> RemoteError:
        """What a repository's files that not everybody may read are answered with."""
        return RemoteError(
            f"{repository} is gated or private (the Hub answered {status}): accept its terms at "
            f"{public(self._endpoint)}/{repository} if it has any, and let {LOGIN} say who you are"
        )

    def _address(self, repository: str, commit: str, path: str) -> str:
        return f"{self._endpoint}/{repository}/resolve/{commit}/{quote(path)}"

    def _connect(self) -> Client:
        from huggingface_hub import get_token

        token = get_token()
        if token and not token.isascii():
            raise RemoteError(f"the token of {LOGIN} has characters that no token has: copy it again")
        return Client(self._endpoint, {"authorization": f"Bearer {token}"} if token else {})

    @contextmanager
    def _explained(self, repository: str, what: str) -> Iterator[None]:
        """The Hub's errors as one sentence, without what its library adds. Raises RemoteError."""
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

        try:
            yield
        except HFValidationError as error:
            raise RemoteError(f"{repository!r} is no name of a repository on the Hub: write hf://owner") from error
        except OfflineModeIsEnabled as error:
            raise RemoteError("the Hub is switched off here by $HF_HUB_OFFLINE") from error
        except HfHubHTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if status in (409, 412):
                raise RemoteError(f"{repository} changed meanwhile: another push was quicker, push again") from error
            cure = f"; say who you are with {LOGIN}" if status in DENIED else ""
            raise RemoteError(f"{repository} cannot {what}: the Hub answered {status}{cure}") from error
        except RuntimeError as error:  # an upload failed; the cause says how
            raise RemoteError(f"{repository} cannot {what}: {error} {type(error.__cause__).__name__}") from error
        except ConnectionError as error:  # of hf_xet
            raise RemoteError(f"{repository} cannot {what} by Xet: without it, set HF_HUB_DISABLE_XET=1") from error
        except Exception as error:
            if type(error).__module__.partition(".")[0] not in ("httpx", "httpx2", "httpcore", "httpcore2"):
                raise
            cure = f"; {TLS_CURE}" if "CERTIFICATE_VERIFY_FAILED" in str(error) else ""
            raise RemoteError(f"{public(self._endpoint)} does not answer ({type(error).__name__}){cure}") from error


@contextmanager
def _quietly() -> Iterator[None]:
    """The library's progress bars where somebody watches, nothing elsewhere."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if sys.stderr.isatty() or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _what(name: str, version: int | None) -> str:
    return f"version {version} of {name}" if version else f"artifact {name!r}"
