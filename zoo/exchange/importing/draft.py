"""What an import found, and how it becomes an artifact of the store: blobs first, the ref that names them last."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from zoo import files, shelf
from zoo.contract.layout import CONFIG
from zoo.errors import GenzooError
from zoo.plain import printable
from zoo.store.artifact import Kind, Manifest, describe, identifier
from zoo.store.local.blobs import Ref

UNKNOWN = "unknown"  # the licence of what nobody gave one; it is restricted until someone does
CARD, MOST_LISTED = "README.md", 100
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
class Asked:
    """What whoever imports says of it; a format takes what it knows, and refuses the rest by `only`."""

    architecture: str | None = None  # the checkpoint whose network it is
    scheduler: str | None = None  # the sampler, in place of the pipeline's own
    spacing: str | None = None  # its grid of noise levels
    image_range: str | None = None  # of an ONNX generator's images
    lora: tuple[str, ...] | None = None  # a pipeline's low-rank adapters, each [NAME=]FILE[:SCALE]

    def only(self, what: str, *taken: str) -> Asked:
        """Raises ImportingError where anything but `taken` was said."""
        options = {"architecture": "--as", "scheduler": "--scheduler", "spacing": "--spacing", "image_range": "--range"}
        options["lora"] = "--lora"
        for name, option in options.items():
            if name not in taken and getattr(self, name) is not None:
                raise ImportingError(f"{what} takes no {option}: leave it out")
        return self


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

    def with_assets(self, assets: Mapping[str, bytes], scratch: Path) -> Draft:
        """The same with small files beside its weights."""
        for name, content in assets.items():
            (scratch / name).write_bytes(content)
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in assets.items()}
        record = {**self.record, "assets": {**self.record.get("assets", {}), **digests}} if assets else self.record
        return replace(self, record=record, files={**self.files, **{name: scratch / name for name in assets}})


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
    given = licence or str(draft.record["licence"])
    told = {"notes": list(draft.notes)} if draft.notes else {}
    files.write_json(config, {**draft.record, **told, "name": name, "licence": given})
    card = scratch / CARD
    card.write_text(_card(draft, name, given))
    paths = {CONFIG: config, CARD: card, **draft.files}
    entries = tuple(describe(path, key) for key, path in sorted(paths.items()))
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


def _card(draft: Draft, name: str, licence: str) -> str:
    """The card of what came without one: what it is, what was not taken, and what is not as where it came from."""
    lines = ["---", f"license: {licence}", "---", "", f"# {name}", "", f"Imported: {draft.format}.", ""]
    parts = draft.components
    lines += [f"- {each.name}: {each.kind}, {each.bytes:,} bytes, sha256 `{each.sha256[:12]}`" for each in parts]
    for title, said in (("Notes", draft.notes), ("Not used", draft.left_out)):
        lines += ["", f"## {title}", "", *(f"- {each}" for each in said[:MOST_LISTED])] if said else []
        lines += [f"- and {len(said) - MOST_LISTED} more"] if len(said) > MOST_LISTED else []
    return "\n".join(map(printable, lines)) + "\n"


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
