"""An artifact's files on this host: what `push` sends, and where a pulled bundle or engine takes its place.

    checkpoint   the folder that `zoo.store.directory` names
    bundle       bundles/<name>/<variant>/, as it is
    engine       engines/<name>/<plan> for each plan of one target, with its record beside it as <plan>.json

All below `zoo.store.home()`. `push` and `pull` meet here, so neither knows ONNX or TensorRT, and `export`, which makes
and uses those files, knows neither remotes nor blobs. A plan is native code: `export` loads it only where
engines/built/<sha256>.json records it, and `place` writes that record only for what a verified signature admitted.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zoo import files, store, untrusted
from zoo.artifact import MANIFEST, SIGNATURE, ArtifactError, File, Kind, Manifest, identifier

RECORD = ".json"  # after a plan's name
BUNDLE_MANIFEST, VERDICT = "manifest.json", "gate.json"


def bundles() -> Path:
    return store.home() / "bundles"


def engines() -> Path:
    return store.home() / "engines"


def built(sha256: str) -> Path:
    """The record without which a plan is not loaded."""
    return engines() / "built" / f"{sha256}{RECORD}"


def files_of(name: str, kind: Kind = Kind.CHECKPOINT, variant: str = "") -> dict[str, Path]:
    """The files that make up an artifact here, by their paths in it. Raises ArtifactError where there are none."""
    if kind is Kind.ENGINE:
        found = dict(_plans(name, variant))
    else:
        folder = bundles() / name / variant if kind is Kind.BUNDLE else store.directory(name)
        found = dict(_below(folder))
    if not found:
        command = {Kind.CHECKPOINT: "train", Kind.BUNDLE: "export", Kind.ENGINE: "build"}[kind]
        raise ArtifactError(f"{identifier(name, kind, variant)} is not here; `genzoo {command} {name}` makes it")
    return found


def _below(folder: Path) -> Iterator[tuple[str, Path]]:
    """Plain files, without hidden ones and without what an artifact has of its own."""
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        if path.is_file() and not path.is_symlink() and not hidden and str(relative) not in (MANIFEST, SIGNATURE):
            yield relative.as_posix(), path


def _plans(name: str, target: str) -> Iterator[tuple[str, Path]]:
    """Every recorded plan for one target, and its record."""
    for path in sorted((engines() / "built").glob(f"*{RECORD}")):
        record = json.loads(path.read_text())
        plan = engines() / name / str(record["file"])
        wanted = record["name"] == name and record["inputs"]["target"] == target and plan.is_file()
        if wanted and files.sha256(plan) == record["sha256"]:  # an older plan's record outlives it
            yield plan.name, plan
            yield plan.name + RECORD, path


def place(manifest: Manifest, view: Path, signer: str) -> Path:
    """Put a pulled artifact where its users look for it: that folder. Raises ArtifactError, UntrustedError.

    `signer` is who was verified to have signed it; a stranger's engine is not placed, nor a stranger's verdict.
    """
    if manifest.kind is Kind.CHECKPOINT:
        return view
    name, _, variant = manifest.name.split(".")
    if manifest.kind is Kind.BUNDLE:
        return _place_bundle(manifest, view, bundles() / name / variant, signer)
    if not signer:
        raise ArtifactError(f"{manifest.name} is native code without a verified signature: it stays where it is")
    for file in manifest.files:
        if not file.path.endswith(RECORD):
            _place_plan(manifest, file, view, signer)
    return engines() / name


def _place_bundle(manifest: Manifest, view: Path, target: Path, signer: str) -> Path:
    inner = untrusted.read_json(view / BUNDLE_MANIFEST)
    spec = inner.get("spec")
    if not isinstance(spec, dict) or spec.get("name") != target.parent.name:
        raise ArtifactError(f"{manifest.name} holds no bundle of {target.parent.name}; ask its publisher")
    with new_folder(target) as folder:
        for file in manifest.files:
            if file.path != VERDICT or signer:
                (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(view / file.path, folder / file.path)
    return target


def _place_plan(manifest: Manifest, file: File, view: Path, signer: str) -> None:
    """A plan, and then the record that lets export load it."""
    name, _, target = manifest.name.split(".")
    record: dict[str, Any] = untrusted.read_json(view / (file.path + RECORD))
    inputs = record.get("inputs")
    said = (record.get("name"), record.get("file"), record.get("sha256"), record.get("bytes"))
    if said != (name, file.path, file.sha256, file.bytes) or not isinstance(inputs, dict):
        raise ArtifactError(f"{manifest.name}: the record of {file.path} describes something else; ask its publisher")
    if inputs.get("target") != target or "/" in file.path:
        raise ArtifactError(f"{manifest.name}: {file.path} is not an engine for {target}; ask its publisher")
    with files.atomic(engines() / name / file.path) as temporary:
        shutil.copyfile(view / file.path, temporary)
    files.write_json(built(file.sha256), {**record, "admitted_by": signer, "artifact": manifest.digest})


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A private folder beside `target` that takes its name, and its place, once the block ends well."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as name:
        making = Path(name) / target.name
        making.mkdir()
        yield making
        if target.exists():
            target.rename(Path(name) / "old")
        making.rename(target)


def link_or_copy(source: Path, target: Path) -> None:
    """A second name for a file that nobody writes to, or a copy where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
