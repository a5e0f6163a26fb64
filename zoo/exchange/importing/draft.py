"""What an import found, and how it becomes an artifact of the store: blobs first, the ref that names them last."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from zoo import files, shelf
from zoo.contract.layout import CONFIG
from zoo.errors import GenzooError
from zoo.store.artifact import Kind, Manifest, describe, identifier
from zoo.store.local.blobs import Ref

UNKNOWN = "unknown"  # the licence of what nobody gave one; it is restricted until someone does
SOURCE = "import "  # before the path or the address, in a ref


class ImportingError(GenzooError):
    """Something that cannot be taken into the store; the message says what was seen and what is taken."""


@dataclass(frozen=True)
class Component:
    """A part of what was imported."""

    name: str
    kind: str  # its class
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Draft:
    """An artifact before it has a name: its `config.json` and its other files, each checked."""

    format: str  # what was imported, in words
    record: Mapping[str, Any]
    files: Mapping[str, Path]  # by their paths in the artifact
    components: tuple[Component, ...] = ()
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    usable: bool = True  # samples can be asked for


@dataclass(frozen=True)
class Imported:
    """What the store now holds under `name`."""

    name: str
    version: int
    digest: str  # the manifest's
    licence: str
    draft: Draft = field(repr=False)


def publish(draft: Draft, name: str, licence: str | None, origin: str, scratch: Path) -> Imported:
    """Put a draft into the store under a name. Raises ImportingError where the name is taken."""
    name = identifier(name)
    blobs = shelf.blob_store()
    version, before = _version(name), blobs.ref(name)
    config = scratch / CONFIG
    files.write_json(config, {**draft.record, "name": name, "licence": licence or draft.record["licence"]})
    paths = {CONFIG: config, **draft.files}
    entries = tuple(describe(path, key) for key, path in sorted(paths.items()))
    given = licence or str(draft.record["licence"])
    manifest = Manifest(
        name=name,
        kind=Kind.CHECKPOINT,
        version=version,
        licence=given,
        files=entries,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        restricted=given == UNKNOWN,
        provenance={"origin": f"imported from {origin}", "format": draft.format, "signed": False},
    )
    if before and _same(blobs.manifest(before), manifest):
        return Imported(name, before.version, before.manifest, given, draft)
    with blobs.lease(entry.blob for entry in entries):
        for entry in entries:
            if blobs.add(paths[entry.path], entry.path) != entry:
                raise ImportingError(f"{paths[entry.path]} changed while it was imported; import it again")
        digest = blobs.add_bytes(manifest.to_bytes())
        blobs.set_ref(Ref(name, digest, version, source=SOURCE + origin, accepted=given, pulled_at=manifest.created))
    return Imported(name, version, digest, given, draft)


def _same(before: Manifest, now: Manifest) -> bool:
    return (before.files, before.licence) == (now.files, now.licence)


def _version(name: str) -> int:
    """The next version of a name. Raises ImportingError where something else has it."""
    found = shelf.blob_store().ref(name)
    if found and not found.source.startswith(SOURCE):
        raise ImportingError(f"{name} was pulled from {found.source}: choose another name with --name")
    if not found and (shelf.directory(name) / CONFIG).is_file():
        raise ImportingError(f"{name} is a checkpoint of the zoo: choose another name with --name")
    return found.version + 1 if found else 1


def name_for(text: str) -> str:
    """A name for what lies at a path or an address. Raises ImportingError where none can be made of it."""
    last = re.split(r"[/\\]", text.rstrip("/\\"))[-1]
    stem = re.sub(r"\.(safetensors|onnx)$", "", last, flags=re.IGNORECASE)
    found = re.sub(r"[^a-z0-9_-]+", "-", stem.lower()).strip("-_")[:64]
    if not found:
        raise ImportingError(f"{text!r} gives no name: choose one with --name")
    return found
