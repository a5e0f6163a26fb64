"""The layout that a folder and an HTTP server share; any server of static files can serve what a folder was given.

<root>/<name>/latest            the newest version's number, as text
<root>/<name>/v<version>/       the files, genzoo.json and perhaps model.sig: a valid Hub-style repository
"""

from __future__ import annotations

import re

from zoo.store.artifact import ArtifactError, Manifest, identifier
from zoo.store.remotes import Published, RemoteError

LATEST = "latest"
MAX_SIGNATURE_BYTES = 32 << 20
MAX_LATEST_BYTES = 64

_VERSION = re.compile(r"v([1-9][0-9]{0,17})")


class VersionTakenError(RemoteError):
    """That version is there already, with other content; a published version never changes."""

    def __init__(self, url: str, name: str, version: int) -> None:
        super().__init__(
            f"{url} already has version {version} of {name}, with other content: versions never change, push it as a "
            "new one (another push may have been quicker)"
        )


def version_folder(name: str, version: int) -> str:
    return f"{identifier(name)}/v{version}"


def latest_file(name: str) -> str:
    return f"{identifier(name)}/{LATEST}"


def version_of_folder(folder: str) -> int | None:
    """The version that a folder holds by its name; None for any other name."""
    found = _VERSION.fullmatch(folder)
    return int(found[1]) if found else None


def version_of_text(text: bytes, where: str) -> int:
    """The version that a `latest` names. Raises RemoteError."""
    version = version_of_folder(f"v{text.strip().decode('ascii', 'replace')}")
    if version is None:
        raise RemoteError(f"{where} holds {text[:40]!r}, expected the number of a version")
    return version


def already_there(url: str, manifest: Manifest, found: Published | None) -> bool:
    """Whether this very version was published before. Raises VersionTakenError where another one was."""
    if found is None:
        return False
    try:
        same = Manifest.from_bytes(found.manifest).digest == manifest.digest
    except ArtifactError:
        same = False
    if not same:
        raise VersionTakenError(url, manifest.name, manifest.version)
    return True
