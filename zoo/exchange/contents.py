"""What arrived is looked at before it gets its name: digests say it is what was published, not that it is harmless.

The checks of single files are `zoo.untrusted`; here is what makes them a checkpoint, a bundle or engines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from zoo import untrusted
from zoo.contract.layout import (
    ADMISSION,
    BUNDLE_FORMAT,
    BUNDLE_MANIFEST,
    CONFIG,
    FIRST_BUNDLE_FORMAT,
    RECORD,
    WEIGHTS,
    is_asset,
)
from zoo.contract.spec import SPEC_FIELDS, GeneratorSpec
from zoo.errors import GenzooError
from zoo.plain import PlainError
from zoo.store.artifact import File, Manifest

PathOf = Callable[[File], Path]


class ContentError(GenzooError):
    """Files that are what was published, and still not what they must be; the message says which one."""


def check_checkpoint(manifest: Manifest, path_of: PathOf) -> None:
    """Raises UntrustedError, ContentError."""
    found = {file.path: file for file in manifest.files}
    for file in manifest.files:
        _check_file(path_of(file), file.path)
    config = untrusted.read_json(path_of(found[CONFIG])) if CONFIG in found else {}
    if config.get("unsupported"):  # a pipeline that is kept, not sampled
        return
    if missing := sorted({CONFIG, WEIGHTS} - set(found)):
        raise ContentError(f"{manifest.name} has no {missing[0]}: it is no checkpoint of genzoo's; ask its publisher")
    weights = config.get("weights")
    recorded = weights.get("sha256") if isinstance(weights, dict) else None
    if recorded != found[WEIGHTS].sha256:
        raise ContentError(f"{CONFIG} of {manifest.name} records other weights than it came with; ask its publisher")
    _check_assets(manifest, config.get("assets", {}), CONFIG)
    _check_spec(manifest, config)


def _check_spec(manifest: Manifest, config: Mapping[str, Any]) -> None:
    """Raises ContentError for a generator that says what this genzoo does not know."""
    known = {key: config[key] for key in SPEC_FIELDS if key in config}
    if "image_shape" not in known:
        return  # whoever loads it says what is missing
    try:
        GeneratorSpec.from_json({**known, "name": manifest.name})
    except PlainError as error:
        raise ContentError(f"{manifest.name} is described by what is not known here, {error}") from error


def check_bundle(manifest: Manifest, folder: Path, name: str) -> None:
    """Raises UntrustedError, ContentError. Graphs are checked beside the weights that they point into."""
    from zoo.untrusted.onnx import check_onnx

    for file in manifest.files:
        if file.path.endswith(".onnx"):
            check_onnx(folder / file.path)
        else:
            _check_file(folder / file.path, file.path)
    described = untrusted.read_json(folder / BUNDLE_MANIFEST)
    if (found := described.get("format")) not in (BUNDLE_FORMAT, FIRST_BUNDLE_FORMAT):
        raise ContentError(
            f"{manifest.name} is a bundle of the format {str(found)[:40]!r}, and {BUNDLE_FORMAT!r} is the newest that "
            "is read here: a newer genzoo reads it"
        )
    spec = described.get("spec")
    if not isinstance(spec, dict) or spec.get("name") != name:
        raise ContentError(f"{manifest.name} holds no bundle of {name}; ask its publisher")
    _check_assets(manifest, described.get("assets", {}), BUNDLE_MANIFEST)


def _check_assets(manifest: Manifest, recorded: Any, record: str) -> None:
    """Raises ContentError unless each recorded asset came along with its digest."""
    found = {file.path: file.sha256 for file in manifest.files}
    if not isinstance(recorded, dict) or not all(map(is_asset, recorded)):
        raise ContentError(f"{record} of {manifest.name} records assets that are no files; ask its publisher")
    for name, digest in recorded.items():
        if found.get(name) != digest:
            raise ContentError(
                f"{record} of {manifest.name} records another {name} than it came with; ask its publisher"
            )


def _check_file(path: Path, name: str) -> None:
    if name.endswith(".safetensors"):
        untrusted.check_safetensors(path)
    else:
        untrusted.refuse_pickle(path)


def plans(manifest: Manifest, path_of: PathOf) -> dict[File, dict[str, Any]]:
    """The plans of an engine artifact, each with its record. Raises UntrustedError, ContentError."""
    files = {file.path: file for file in manifest.files}
    found = {}
    for file in manifest.files:
        if not file.path.endswith(RECORD):
            if file.path + RECORD not in files:
                raise ContentError(f"{manifest.name}: {file.path} has no record beside it; ask its publisher")
            record = untrusted.read_json(path_of(files[file.path + RECORD]))
            _check_record(manifest, file, record)
            found[file] = record
    return found


def admissions(manifest: Manifest, path_of: PathOf) -> dict[File, dict[str, Any]]:
    """What the gate found of plans on GPUs, as far as it came along. Raises UntrustedError, ContentError."""
    files, found = {file.path: file for file in manifest.files}, {}
    for plan in manifest.files:
        if beside := files.get(plan.path + ADMISSION):
            found[plan] = untrusted.read_json(path_of(beside))
            if found[plan].get("plan") != plan.sha256:
                raise ContentError(f"{manifest.name}: {beside.path} was made of another plan; ask its publisher")
    return found


def _check_record(manifest: Manifest, file: File, record: dict[str, Any]) -> None:
    name, _, target = manifest.name.split(".")
    inputs = record.get("inputs")
    said = [record.get(key) for key in ("name", "file", "sha256", "bytes")]
    if said != [name, file.path, file.sha256, file.bytes] or not isinstance(inputs, dict):
        raise ContentError(f"{manifest.name}: the record of {file.path} describes another file; ask its publisher")
    if inputs.get("target") != target or "/" in file.path:
        raise ContentError(f"{manifest.name}: {file.path} is no engine for {target}; ask its publisher")
