"""An OCI registry: `oci://host/namespace`. An artifact is one repository there, a version one CNCF ModelPack manifest.

Every file is a layer under its own sha256, genzoo.json among them; the signature refers to the manifest as OCI 1.1
lays down. Any client of registries can therefore copy, mirror and mount what genzoo pushed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from zoo.store.artifact import MANIFEST, MAX_MANIFEST_BYTES, File, Manifest, identifier
from zoo.store.remotes import NotFoundError, Published, RemoteError
from zoo.store.remotes.layout import LATEST, MAX_SIGNATURE_BYTES, already_there, version_of_folder
from zoo.store.remotes.oci_registry import IMAGE_MANIFEST, Document, Registry, digest_of
from zoo.store.transfer.connections import split
from zoo.store.transfer.http_source import HttpSource
from zoo.store.transfer.sources import Source

# https://github.com/modelpack/model-spec, specs-go/v1
ARTIFACT = "application/vnd.cncf.model.manifest.v1+json"
CONFIG = "application/vnd.cncf.model.config.v1+json"
WEIGHT = "application/vnd.cncf.model.weight.v1.raw"
WEIGHT_CONFIG = "application/vnd.cncf.model.weight.config.v1.raw"
DOC = "application/vnd.cncf.model.doc.v1.raw"
FILEPATH = "org.cncf.model.filepath"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
EMPTY = "application/vnd.oci.empty.v1+json"

CREATED = "org.opencontainers.image.created"
MAX_REFERRERS = 16  # that are looked at

MEDIA_TYPES = {".json": WEIGHT_CONFIG, ".md": DOC, ".txt": DOC, ".png": DOC, ".svg": DOC}
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
FORMATS = {".safetensors": "safetensors", ".onnx": "onnx", ".plan": "tensorrt"}


def open_remote(url: str) -> OciRemote:
    """The remote of one namespace. Raises RemoteError, and ValueError for what is no address."""
    host, _, namespace = url.partition("://")[2].strip("/").partition("/")
    if not host or "@" in url:
        raise RemoteError("a remote in a registry is written oci://host[:port]/namespace; log in with `docker login`")
    split(f"https://{host}/")
    return OciRemote(host, namespace)


class OciRemote:
    """Artifacts as repositories below one namespace."""

    def __init__(self, host: str, namespace: str) -> None:
        self.url = f"oci://{host}/{namespace}".rstrip("/")
        self._host, self._namespace = host, namespace
        self._repositories: dict[str, Registry] = {}

    def find(self, name: str, version: int | None = None) -> Published:
        registry = self._repository(name)
        document = registry.manifest(f"v{version}" if version else LATEST)
        if document is None:
            raise NotFoundError(
                f"{self.url} has no {f'version {version} of {name}' if version else f'artifact {name!r}'}"
            )
        return self._published(registry, document)

    def source(self, manifest: Manifest) -> Source:
        registry = self._repository(manifest.name, fresh=True)
        return HttpSource(
            self.url, lambda file: registry.blob_address(f"sha256:{file.sha256}"), registry.client, registry.renew
        )

    def push(self, manifest: Manifest, signature: bytes | None, path_of: Callable[[File], Path]) -> str:
        registry, tag = self._repository(manifest.name), f"v{manifest.version}"
        document = registry.manifest(tag)
        found = self._published(registry, document) if document else None
        if document is None or not already_there(self.url, manifest, found):
            document = self._send(registry, manifest, path_of)
            registry.put_manifest(document.digest, document.data)
        if signature is not None and (found is None or found.signature != signature):
            self._sign(registry, document, signature)
        if found is None:
            registry.put_manifest(tag, document.data)
        self._point(registry, manifest, document)
        return f"{self.url}/{manifest.name}:{tag}"

    def _send(self, registry: Registry, manifest: Manifest, path_of: Callable[[File], Path]) -> Document:
        """Every blob that the registry lacks; the image manifest that binds them."""
        data = manifest.to_bytes()
        for file in manifest.files:
            registry.put_blob(f"sha256:{file.sha256}", path_of(file))
        layers = [_layer(file.path, f"sha256:{file.sha256}", file.bytes) for file in manifest.files]
        layers.append(_layer(MANIFEST, digest_of(data), len(data)))
        registry.put_blob(digest_of(data), data)
        config = json.dumps(_config(manifest, layers), sort_keys=True).encode()
        registry.put_blob(digest_of(config), config)
        image = {
            "schemaVersion": 2,
            "mediaType": IMAGE_MANIFEST,
            "artifactType": ARTIFACT,
            "config": _descriptor(CONFIG, digest_of(config), len(config)),
            "layers": layers,
            "annotations": {
                "org.opencontainers.image.title": manifest.name,
                "org.opencontainers.image.version": str(manifest.version),
                "org.opencontainers.image.licenses": manifest.licence,
                CREATED: manifest.created,
            },
        }
        encoded = json.dumps(image, sort_keys=True).encode()
        return Document(encoded, digest_of(encoded))

    def _sign(self, registry: Registry, image: Document, signature: bytes) -> None:
        """A manifest whose subject is the image, with the sigstore bundle as its only layer."""
        registry.put_blob(digest_of(b"{}"), b"{}")
        registry.put_blob(digest_of(signature), signature)
        layer = _descriptor(BUNDLE, digest_of(signature), len(signature))
        manifest = {
            "schemaVersion": 2,
            "mediaType": IMAGE_MANIFEST,
            "artifactType": BUNDLE,
            "config": _descriptor(EMPTY, digest_of(b"{}"), 2),
            "layers": [layer],
            "subject": _descriptor(IMAGE_MANIFEST, image.digest, len(image.data)),
            "annotations": {CREATED: datetime.now(UTC).isoformat()},
        }
        data = json.dumps(manifest, sort_keys=True).encode()
        descriptor = {**_descriptor(IMAGE_MANIFEST, digest_of(data), len(data)), "artifactType": BUNDLE}
        descriptor["annotations"] = manifest["annotations"]
        registry.add_referrer(image.digest, descriptor, data)

    def _point(self, registry: Registry, manifest: Manifest, document: Document) -> None:
        """Let `latest` name this version, unless it names a newer one."""
        newest = registry.manifest(LATEST)
        named = _annotated_version(newest) if newest else 0
        if named < manifest.version:
            registry.put_manifest(LATEST, document.data)

    def _published(self, registry: Registry, document: Document) -> Published:
        layers = document.parsed().get("layers")
        where = f"{self._host}/{registry.repository}"
        for layer in layers if isinstance(layers, list) else ():
            if isinstance(layer, dict) and (layer.get("annotations") or {}).get(FILEPATH) == MANIFEST:
                manifest = registry.blob(_digest(layer), MAX_MANIFEST_BYTES)
                return Published(manifest, self._signature(registry, document))
        raise RemoteError(f"{where} was not made by genzoo: its manifest has no layer {MANIFEST}")

    def _signature(self, registry: Registry, document: Document) -> bytes | None:
        """The newest sigstore bundle that refers to a manifest; old clients mirror a list without its types."""
        listed = [entry for entry in registry.referrers(document.digest) if entry.get("artifactType") in (None, BUNDLE)]
        for entry in sorted(listed, key=_created)[: -MAX_REFERRERS - 1 : -1]:
            signed = registry.manifest(_digest(entry))
            found = signed.parsed() if signed else {}
            subject, layers = found.get("subject"), found.get("layers")
            if (
                not isinstance(subject, dict)
                or subject.get("digest") != document.digest
                or not isinstance(layers, list)
            ):
                continue
            for layer in layers[:1]:
                if isinstance(layer, dict) and layer.get("mediaType") == BUNDLE:
                    return registry.blob(_digest(layer), MAX_SIGNATURE_BYTES)
        return None

    def _repository(self, name: str, fresh: bool = False) -> Registry:
        if fresh or name not in self._repositories:
            found = Registry(self._host, f"{self._namespace}/{identifier(name)}".strip("/"))
            if fresh:
                return found
            self._repositories[name] = found
        return self._repositories[name]


def _descriptor(media_type: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size}


def _layer(path: str, digest: str, size: int) -> dict[str, Any]:
    media_type = MEDIA_TYPES.get(PurePosixPath(path).suffix, WEIGHT)
    return {**_descriptor(media_type, digest, size), "annotations": {FILEPATH: path}}


def _created(entry: dict[str, Any]) -> str:
    """When a referrer says that it was made, "" where it does not; in no order that a registry must keep."""
    annotations = entry.get("annotations")
    return str(annotations.get(CREATED, "")) if isinstance(annotations, dict) else ""


def _digest(descriptor: dict[str, Any]) -> str:
    """The digest of a descriptor that a registry sent. Raises RemoteError."""
    found = descriptor.get("digest")
    if not isinstance(found, str) or not _DIGEST.fullmatch(found):
        raise RemoteError(f"a manifest names a blob by {str(found)[:80]!r}, expected its sha256")
    return found


def _config(manifest: Manifest, layers: list[dict[str, Any]]) -> dict[str, Any]:
    """ModelPack's configuration: what a catalogue shows."""
    formats = [FORMATS[suffix] for file in manifest.files if (suffix := PurePosixPath(file.path).suffix) in FORMATS]
    family = manifest.provenance.get("family")
    return {
        "descriptor": {
            "name": manifest.name,
            "version": str(manifest.version),
            "licenses": [manifest.licence],
            **({"family": family} if isinstance(family, str) else {}),
            **({"createdAt": manifest.created} if manifest.created else {}),
        },
        "config": {"format": formats[0] if formats else "", "capabilities": {"outputTypes": ["image"]}},
        "modelfs": {"type": "layers", "diffIds": [layer["digest"] for layer in layers]},
    }


def _annotated_version(document: Document) -> int:
    annotations = document.parsed().get("annotations") or {}
    return version_of_folder(f"v{annotations.get('org.opencontainers.image.version')}") or 0
