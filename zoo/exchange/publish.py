"""`push`: what lies here becomes the next version of an artifact on a remote, with where it came from, and signed.

What `pull` would refuse is not pushed: damaged weights, a bundle that the gate did not admit, files that are not what
they claim. What the remote's newest version holds already is not pushed again.

The same files have the same manifest on every remote, so that remotes are mirrors of each other: what was pulled is
pushed on as it came, with its signature, and what was pushed before as it was (published/<name>.json below
`zoo.files.home()` remembers it).
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zoo import files, shelf
from zoo.contract import layout
from zoo.errors import GenzooError
from zoo.exchange import contents, derived
from zoo.files import home
from zoo.store import signing
from zoo.store.artifact import File, Kind, Manifest, describe, identifier
from zoo.store.remotes import NotFoundError, Published, Remote
from zoo.store.remotes.layout import VersionTakenError

ATTEMPTS = 5  # at finding a number that no other push took meanwhile

PathOf = Callable[[File], Path]


class PublishError(GenzooError):
    """An artifact that must not be published as it is; the message says why, and what to do."""


@dataclass(frozen=True)
class Pushed:
    """What a remote holds now."""

    manifest: Manifest
    address: str
    signed: bool
    new: bool  # False where the remote had it


def push(
    name: str,
    remote: Remote,
    *,
    kind: Kind = Kind.CHECKPOINT,
    variant: str = "",
    key: signing.SigningKey | None = None,
    restricted: bool = False,
    begin: Callable[[File], None] = lambda _: None,
) -> Pushed:
    """Publish a checkpoint, bundle or engine; `begin` is told of each file that the remote looks at.

    Raises PublishError, StoreError, ArtifactError, SigningError, RemoteError.
    """
    manifest, paths = gathered(name, kind, variant, restricted)
    signature: bytes | None = None
    known, original = _known(manifest)
    newest, there = _newest(remote, manifest.name)
    before = max((newest, known), key=lambda each: each.version if each else 0)
    if before is not None:
        manifest = replace(manifest, restricted=manifest.restricted or before.restricted, version=before.version + 1)
        if _same(manifest, before):
            manifest, signature = before, original if before == known else None
    if newest == manifest and _suffices(there, signature, manifest, key):
        return Pushed(newest, remote.url, there is not None, new=False)

    def path_of(file: File) -> Path:
        begin(file)
        return paths[file.path]

    pushed = _send(manifest, remote, signature, key, path_of)
    files.write_json(_record(manifest.name), {"manifest": pushed.manifest.to_bytes().decode()})
    return pushed


def _send(
    manifest: Manifest,
    remote: Remote,
    signature: bytes | None,
    key: signing.SigningKey | None,
    path_of: PathOf,
) -> Pushed:
    """Push under the first number that nobody else took; a key's own signature comes before one that was pulled."""
    for attempt in range(ATTEMPTS):
        signature = signing.sign(manifest, key) if key else signature
        try:
            address = remote.push(manifest, signature, path_of)
        except VersionTakenError:
            if attempt == ATTEMPTS - 1:
                raise
            manifest, signature = replace(manifest, version=manifest.version + 1), None
        else:
            return Pushed(manifest, address, signature is not None, new=True)
    raise AssertionError


def _record(name: str) -> Path:
    return home() / "published" / f"{name}.json"


def known(name: str) -> Manifest | None:
    """The newest manifest of an artifact that was pulled or pushed here. Raises ArtifactError, StoreError."""
    return max((manifest for manifest, _ in _all_known(name)), key=lambda each: each.version, default=None)


def _known(manifest: Manifest) -> tuple[Manifest | None, bytes | None]:
    """The newest manifest of these files that was pulled or pushed here, and the signature that came with it."""
    found = [each for each in _all_known(manifest.name) if _same_files(manifest, each[0])]
    return max(found, key=lambda each: each[0].version, default=(None, None))


def _all_known(name: str) -> list[tuple[Manifest, bytes | None]]:
    blobs = shelf.blob_store()
    found: list[tuple[Manifest, bytes | None]] = []
    if (ref := blobs.ref(name)) is not None:
        signature = blobs.path(ref.signature).read_bytes() if ref.signature and blobs.has(ref.signature) else None
        found.append((blobs.manifest(ref), signature))
    if (path := _record(name)).is_file():
        found.append((Manifest.from_bytes(str(_json(path).get("manifest")).encode()), None))
    return found


def gathered(name: str, kind: Kind, variant: str, restricted: bool) -> tuple[Manifest, dict[str, Path]]:
    """The manifest of what lies here, as version 1, and where its files are. Raises as `push` does."""
    full = identifier(name, kind, variant)
    config = shelf.config(name)
    if kind is Kind.CHECKPOINT:
        shelf.verified_weights(name)
        shelf.assets(name)
    paths = derived.files_of(name, kind, variant)
    manifest = Manifest(
        name=full,
        kind=kind,
        version=1,
        licence=str(config["licence"]),
        files=tuple(describe(path, relative) for relative, path in paths.items()),
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        restricted=restricted or bool(config.get("restricted")),
        provenance=_PROVENANCE[kind](config, paths) | _code(),
    )
    _check(manifest, paths)
    return manifest, paths


def _check(manifest: Manifest, paths: Mapping[str, Path]) -> None:
    """What a pull would check of the content. Raises ContentError, UntrustedError."""
    if manifest.kind is Kind.CHECKPOINT:
        contents.check_checkpoint(manifest, lambda file: paths[file.path])
    elif manifest.kind is Kind.BUNDLE:
        folder = paths[layout.BUNDLE_MANIFEST].parent
        contents.check_bundle(manifest, folder, manifest.name.split(".")[0])
    else:
        contents.plans(manifest, lambda file: paths[file.path])


def _suffices(there: bytes | None, pulled: bytes | None, manifest: Manifest, key: signing.SigningKey | None) -> bool:
    """Whether a remote needs no other signature than it has: a named key's own; without a key anybody's, or none."""
    if key is None:
        return there is not None or pulled is None
    return there is not None and signing.is_by(key, there, manifest)


def _newest(remote: Remote, name: str) -> tuple[Manifest | None, bytes | None]:
    """The newest version there, and the signature beside it."""
    try:
        found: Published = remote.find(name)
    except NotFoundError:
        return None, None
    return Manifest.from_bytes(found.manifest), found.signature


def _same(manifest: Manifest, newest: Manifest) -> bool:
    """Whether a push would publish the same files on the same terms again."""
    terms = (manifest.kind, manifest.licence, manifest.restricted)
    return terms == (newest.kind, newest.licence, newest.restricted) and _same_files(manifest, newest)


def _same_files(manifest: Manifest, claimed: Manifest) -> bool:
    """Whether a manifest from elsewhere lists these very files. Its chunks decide what is pulled by it, and are no less
    a claim than its sha256: it is pushed on, and perhaps signed, only where both are right."""
    found = {file.path: file for file in manifest.files}
    if len(found) != len(claimed.files) or found.keys() != {file.path for file in claimed.files}:
        return False
    return all(
        file.sha256 == found[file.path].sha256 and (not file.is_tree or file.blob == found[file.path].blob)
        for file in claimed.files
    )


def _of_checkpoint(config: Mapping[str, Any], paths: Mapping[str, Path]) -> dict[str, Any]:
    parents = [{"role": role, **parent} for role in ("teacher", "base") if (parent := config.get(role))]
    training = {key: value for key, value in (config.get("training") or {}).items() if key != "curves"}
    known = {key: config.get(key) for key in ("family", "dataset", "paper", "recipe", "weights")}
    return known | {"training": training, "parents": parents}


def _of_bundle(config: Mapping[str, Any], paths: Mapping[str, Path]) -> dict[str, Any]:
    """What a bundle was made of. Raises PublishError for one that the gate did not admit."""
    path = paths.get(layout.BUNDLE_MANIFEST)
    if path is None:
        raise PublishError(f"the bundle has no {layout.BUNDLE_MANIFEST}; `genzoo export` makes it again")
    manifest = _json(path)
    verdict = _json(paths[layout.VERDICT]) if layout.VERDICT in paths else {}
    if verdict.get("bundle") != files.sha256(path) or not verdict.get("admitted"):
        raise PublishError(f"{path.parent} was not admitted by the gate; `genzoo gate {path.parent}` judges it")
    checkpoint = manifest["checkpoint"]
    known = {key: manifest.get(key) for key in ("entry", "loop", "steps", "precision", "versions")}
    parents = [{"role": "checkpoint", "name": checkpoint["name"], "sha256": checkpoint["sha256"]}]
    return known | {"family": config.get("family"), "parents": parents}


def _of_engine(config: Mapping[str, Any], paths: Mapping[str, Path]) -> dict[str, Any]:
    plans = [name for name in paths if not name.endswith(layout.RECORD)]
    records = [_json(paths[name + layout.RECORD]) for name in plans]
    built = [{"plan": record["file"], "built_at": record.get("built_at"), **record["inputs"]} for record in records]
    bundles = sorted({str(record.get("bundle") or record["inputs"]["bundle"]) for record in records})
    parents = [{"role": "bundle", "name": records[0]["name"], "sha256": digest} for digest in bundles]
    return {"family": config.get("family"), "engines": built, "parents": parents}


_PROVENANCE = {Kind.CHECKPOINT: _of_checkpoint, Kind.BUNDLE: _of_bundle, Kind.ENGINE: _of_engine}


def _json(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise PublishError(f"{path} could not be read ({error}); make it again") from error
    return found


def _code() -> dict[str, str]:
    """Which code this is: the commit of a checkout, marked where files differ from it, else the package's version."""
    tree = Path(__file__).resolve().parents[2]
    if (tree / ".git").exists():
        try:
            words = ("git", "-C", str(tree), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")
            found = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
            return {"code": found}
        except (OSError, subprocess.SubprocessError):
            pass
    try:
        return {"code": f"genzoo {importlib.metadata.version('genzoo')}"}
    except importlib.metadata.PackageNotFoundError:
        return {"code": "unknown"}
