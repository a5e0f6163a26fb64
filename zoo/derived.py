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
from collections.abc import Iterator
from pathlib import Path

from zoo import files, store
from zoo.artifact import MANIFEST, SIGNATURE, ArtifactError, Kind, identifier

RECORD = ".json"  # after a plan's name


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
