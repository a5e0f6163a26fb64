"""An artifact's files on this host: what `push` sends, and where a pulled bundle or engine takes its place.

    checkpoint   the folder that `zoo.shelf.directory` names
    bundle       bundles/<name>/<variant>/, as it is
    engine       engines/<name>/<plan> for each plan of one target, with its record beside it as <plan>.json, and what
                 the gate found of it on GPUs as <plan>.gate.json

All below `zoo.files.home()`. `push` and `pull` meet here, so neither knows ONNX or TensorRT, and `export`, which makes
and uses those files, knows neither remotes nor blobs. A plan is native code: `export` loads it only where
engines/built/<sha256>.json records it, and `placing` writes that record only for what a verified signature admitted.
"""

from __future__ import annotations

import json
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from zoo import files, shelf
from zoo.contract.layout import ADMISSION, BUNDLE_MANIFEST, RECORD, VERDICT
from zoo.exchange import contents
from zoo.exchange.contents import PathOf
from zoo.files import home
from zoo.store.artifact import MANIFEST, SIGNATURE, ArtifactError, Kind, Manifest, contradiction, identifier


def bundles() -> Path:
    return home() / "bundles"


def engines() -> Path:
    return home() / "engines"


def built(sha256: str) -> Path:
    """The record without which a plan is not loaded."""
    return engines() / "built" / f"{sha256}{RECORD}"


def admitted(sha256: str) -> Path:
    """What the gate found of a plan, on every generation of GPUs where it ran."""
    return engines() / "admitted" / f"{sha256}{RECORD}"


def files_of(name: str, kind: Kind = Kind.CHECKPOINT, variant: str = "") -> dict[str, Path]:
    """The files that make up an artifact here, by their paths in it. Raises ArtifactError where there are none."""
    if kind is Kind.ENGINE:
        found = dict(_plans(name, variant))
    else:
        folder = bundles() / name / variant if kind is Kind.BUNDLE else shelf.directory(name)
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
            if (found := admitted(str(record["sha256"]))).is_file():
                yield plan.name + ADMISSION, found


def first_command(name: str, source: str = "") -> str:
    """What gets images of a checkpoint here: without torch, which makes a bundle, that is to be pulled first.

    `source` is the remote that has it, where one is known.
    """
    if find_spec("torch") or (bundles() / name / "fp32" / BUNDLE_MANIFEST).is_file():
        return f"sample {name} -o grid.png"
    return f"pull {name} --bundle" + (f" --from {shlex.quote(source)}" if source else "")


@contextmanager
def placing(manifest: Manifest, path_of: PathOf, signer: str) -> Iterator[Path | None]:
    """Check a pulled artifact's content, run the block, which gives it its name, and put it where its users look.

    That folder is the value; None for a checkpoint, which is read where the store lays it out. `signer` is who was
    verified to have signed: a stranger's engine is refused, and a stranger's verdict left out, so that the gate judges
    here. Raises ArtifactError, ContentError, UntrustedError.
    """
    if manifest.kind is Kind.CHECKPOINT:
        contents.check_checkpoint(manifest, path_of)
        yield None
        return
    name, _, variant = manifest.name.split(".")
    if manifest.kind is Kind.BUNDLE:
        with new_folder(bundles() / name / variant) as folder:
            for file in manifest.files:
                _copy(path_of(file), folder / file.path)
            contents.check_bundle(manifest, folder, name)
            if not signer:
                (folder / VERDICT).unlink(missing_ok=True)
            yield bundles() / name / variant
        return
    if not signer:
        raise ArtifactError(f"{manifest.name} is native code without a verified signature; its publisher must sign it")
    plans = contents.plans(manifest, path_of)
    for file in plans:
        if (seen := files.sha256(path_of(file))) != file.sha256:  # by which it is admitted below, and loaded
            raise ArtifactError(contradiction(manifest.name, file, seen))
    admissions = contents.admissions(manifest, path_of)
    yield engines() / name
    for file, record in plans.items():
        with files.atomic(engines() / name / file.path) as temporary:
            shutil.copyfile(path_of(file), temporary)
        files.write_json(built(file.sha256), {**record, "admitted_by": signer, "artifact": manifest.digest})
        if file in admissions:
            files.write_json(admitted(file.sha256), admissions[file])


def altered(manifest: Manifest) -> list[str]:
    """What is no longer in a pulled bundle's place as it was put there, a sentence each; one that was exported anew
    since is not the artifact's."""
    if manifest.kind is not Kind.BUNDLE:
        return []
    name, _, variant = manifest.name.split(".")
    folder, wanted = bundles() / name / variant, {file.path: file.sha256 for file in manifest.files}
    seen = {path: files.sha256(folder / path) for path in wanted if (folder / path).is_file()}
    if BUNDLE_MANIFEST not in seen or seen[BUNDLE_MANIFEST] != wanted[BUNDLE_MANIFEST]:
        return []
    wrong = [path for path in wanted if path != VERDICT and seen.get(path) != wanted[path]]
    remedy = f"`genzoo pull {name} --bundle --variant {variant} --offline` puts it right"
    return [f"{folder / path} is not what was pulled; {remedy}" for path in wrong]


def _copy(source: Path, target: Path) -> None:
    """A file of its own: ONNX Runtime refuses weights that have a second name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


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
