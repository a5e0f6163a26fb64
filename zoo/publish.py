"""`push`: what lies here becomes the next version of an artifact on a remote, with where it came from, and signed.

What `pull` would refuse is not pushed: damaged weights, a bundle that the gate did not admit, files that are not what
they claim. What the remote's newest version holds already is not pushed again.
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

from zoo import contents, derived, files, signing, store
from zoo.artifact import File, Kind, Manifest, describe, identifier
from zoo.errors import GenzooError
from zoo.remotes import NotFoundError, Published, Remote
from zoo.remotes.layout import VersionTakenError

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
    manifest, paths = described(name, kind, variant, restricted)
    newest, signed = _newest(remote, manifest.name)
    if newest is not None:
        manifest = replace(manifest, restricted=manifest.restricted or newest.restricted, version=newest.version + 1)
        if _same(manifest, newest):
            if signed or key is None:
                return Pushed(newest, remote.url, signed, new=False)
            manifest = newest

    def path_of(file: File) -> Path:
        begin(file)
        return paths[file.path]

    return _send(manifest, remote, key, path_of, attempts=1 if manifest is newest else ATTEMPTS)


def _send(manifest: Manifest, remote: Remote, key: signing.SigningKey | None, path_of: PathOf, attempts: int) -> Pushed:
    """Push under the first number that nobody else took."""
    while True:
        signature = signing.sign(manifest, key) if key else None
        try:
            address = remote.push(manifest, signature, path_of)
        except VersionTakenError:
            attempts -= 1
            if attempts <= 0:
                raise
            manifest = replace(manifest, version=manifest.version + 1)
        else:
            return Pushed(manifest, address, key is not None, new=True)


def described(name: str, kind: Kind, variant: str, restricted: bool) -> tuple[Manifest, dict[str, Path]]:
    """The manifest of what lies here, as version 1, and where its files are. Raises as `push` does."""
    full = identifier(name, kind, variant)
    config = store.config(name)
    if kind is Kind.CHECKPOINT:
        store.verified_weights(name)
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
        folder = paths[contents.BUNDLE_MANIFEST].parent
        contents.check_bundle(manifest, folder, manifest.name.split(".")[0])
    else:
        contents.plans(manifest, lambda file: paths[file.path])


def _newest(remote: Remote, name: str) -> tuple[Manifest | None, bool]:
    """The newest version there, and whether somebody signed it."""
    try:
        found: Published = remote.find(name)
    except NotFoundError:
        return None, False
    return Manifest.from_bytes(found.manifest), found.signature is not None


def _same(manifest: Manifest, newest: Manifest) -> bool:
    """Whether a push would publish the same files on the same terms again."""
    terms = (manifest.kind, manifest.licence, manifest.restricted)
    return terms == (newest.kind, newest.licence, newest.restricted) and _digests(manifest) == _digests(newest)


def _digests(manifest: Manifest) -> dict[str, str]:
    return {file.path: file.sha256 for file in manifest.files}


def _of_checkpoint(config: Mapping[str, Any], paths: Mapping[str, Path]) -> dict[str, Any]:
    teacher = config.get("teacher")
    training = {key: value for key, value in (config.get("training") or {}).items() if key != "curves"}
    known = {key: config.get(key) for key in ("family", "dataset", "paper", "recipe", "weights")}
    return known | {"training": training, "parents": [{"role": "teacher", **teacher}] if teacher else []}


def _of_bundle(config: Mapping[str, Any], paths: Mapping[str, Path]) -> dict[str, Any]:
    """What a bundle was made of. Raises PublishError for one that the gate did not admit."""
    path = paths.get(contents.BUNDLE_MANIFEST)
    if path is None:
        raise PublishError("the bundle has no manifest.json; `genzoo export` makes it again")
    manifest = _json(path)
    verdict = _json(paths[derived.VERDICT]) if derived.VERDICT in paths else {}
    if verdict.get("bundle") != files.sha256(path) or not verdict.get("admitted"):
        raise PublishError(f"{path.parent} was not admitted by the gate; `genzoo gate {path.parent}` judges it")
    checkpoint = manifest["checkpoint"]
    known = {key: manifest.get(key) for key in ("entry", "loop", "steps", "precision", "versions")}
    parents = [{"role": "checkpoint", "name": checkpoint["name"], "sha256": checkpoint["sha256"]}]
    return known | {"family": config.get("family"), "parents": parents}


def _of_engine(config: Mapping[str, Any], paths: Mapping[str, Path]) -> dict[str, Any]:
    records = [_json(path) for name, path in paths.items() if name.endswith(contents.RECORD)]
    built = [{"plan": record["file"], "built_at": record.get("built_at"), **record["inputs"]} for record in records]
    bundles = sorted({str(record["inputs"]["bundle"]) for record in records})
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
    tree = Path(__file__).resolve().parents[1]
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
