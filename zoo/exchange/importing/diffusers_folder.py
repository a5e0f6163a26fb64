"""A folder as diffusers writes it: every component checked, and a pipeline that fits the contract made a checkpoint.

    model_index.json                    the pipeline's class, and each component's
    <component>/config.json, *.safetensors, or files of other kinds (schedulers, tokenizers)

A folder of one component, its `config.json` and weights at the top, is taken as well. Code is neither run nor kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.contract.layout import CONFIG
from zoo.exchange.importing import component_weights, known_layouts, pipelines, scheduler, unet
from zoo.exchange.importing.draft import UNKNOWN, Asked, Component, Draft, ImportingError
from zoo.files import fault_of_name, sha256
from zoo.untrusted import PICKLE_SUFFIXES, UntrustedError, check_safetensors, plain_file, read_json, refuse_pickle

INDEX = "model_index.json"
MAX_FILES = 10_000
MAX_TEXT_BYTES = 64 << 20
TEXTS = (".json", ".txt", ".md", ".model", ".jinja")
NOTHING = Asked()


@dataclass(frozen=True)
class Part:
    """A component: where it lies, what it is, and its files by their names in the folder."""

    name: str
    kind: str
    folder: Path
    files: Mapping[str, Path]

    @property
    def weights(self) -> list[Path]:
        return [path for name, path in sorted(self.files.items()) if name.endswith(".safetensors")]

    @property
    def indices(self) -> list[Path]:
        """Those that say which file each tensor is in, where there are several."""
        return [path for _, path in sorted(self.files.items()) if component_weights.INDEX.fullmatch(path.name)]


def is_diffusers(folder: Path) -> bool:
    """Whether a folder has what this file reads."""
    if (folder / INDEX).is_file():
        return True
    return (folder / CONFIG).is_file() and "_class_name" in read_json(folder / CONFIG)


def draft(folder: Path, scratch: Path, asked: Asked = NOTHING) -> Draft:
    """Raises UntrustedError for a file that is not sound, ImportingError for a folder that is not complete."""
    found, left_out = _files(folder)
    index = read_json(folder / INDEX) if INDEX in found else None
    parts = list(_parts(folder, index, found)) if index else [_bare(folder, found)]
    taken = {part.name: component_weights.read(part.weights, part.indices) for part in parts}
    kind = str(index.get("_class_name"))[:80] if index else parts[0].kind
    by_name = {part.name: part for part in parts}
    if unet.fits(kind, {part.name: part.kind for part in parts}):
        config, network = _scheduler(folder, by_name), taken["unet"]
        asked.only("a denoiser of pixels", "scheduler", "spacing")
        choice = scheduler.Choice(asked.scheduler, asked.spacing)
        made = unet.draft(by_name["unet"].folder, config, network.tensors, scratch, choice)
        used = {config, by_name["unet"].folder / CONFIG, folder / INDEX, *network.files}
        return _made(kind, found, parts, left_out, made, used, network.notes)
    asked.only(f"a {kind}, whose scheduler is its own,", "lora")
    _complete(parts, left_out)
    if index and pipelines.fits(kind):
        folders, kinds = {part.name: part.folder for part in parts}, {part.name: part.kind for part in parts}
        tensors = {name: each.tensors for name, each in taken.items()}
        chosen = [pipelines.adapters.asked(each, folder) for each in asked.lora or ()]
        made = pipelines.draft(kind, folder, folders, kinds, tensors, scratch, chosen)
        names = [name for name in pipelines.used(kind) if name in by_name]
        used = {
            folder / INDEX,
            *(each.path for each in chosen),
            *(path for name in names for path in _read(by_name[name], taken[name])),
        }
        told = tuple(note for name in names for note in taken[name].notes)
        return _made(kind, found, parts, left_out, made, used, told)
    asked.only(f"a {kind}, which is kept and not sampled,")
    return _kept(kind, found, parts, left_out)


def _complete(parts: Sequence[Part], left_out: Sequence[str]) -> None:
    """Raises ImportingError for a component that has a config and no weights that are taken."""
    for part in parts:
        if (part.folder / CONFIG).is_file() and not part.weights:
            models = [name for name in left_out if name.startswith(f"{part.name}/") and name.endswith(".onnx")]
            but = f", but the ONNX model {models[0]}: import what the pipeline was exported from" if models else ""
            raise ImportingError(f"the component {part.name} ({part.kind}) has no safetensors file{but}")


def _read(part: Part, taken: component_weights.Weights) -> Iterator[Path]:
    """The files of a component that an import reads: those of its weights that were taken, and all that is text."""
    yield from taken.files
    yield from (path for path in part.files.values() if path.suffix != ".safetensors" and path not in part.indices)


def _made(
    kind: str, found: Mapping[str, Path], parts: Sequence[Part], left_out: tuple[str, ...], made: Draft,
    used: Set[Path], told: tuple[str, ...],
) -> Draft:  # fmt: skip
    components = (*(each for part in parts for each in _components(part, used)), *made.components)
    unused = {*left_out, *(name for name, path in found.items() if path not in used)}
    notes = (*made.notes, *told, *_not_used(found, parts, used))
    return Draft(f"diffusers {kind}", made.record, made.files, components, tuple(sorted(unused)), notes)


def _not_used(found: Mapping[str, Path], parts: Sequence[Part], used: Set[Path]) -> tuple[str, ...]:
    """What one may take for a part of the images, as it lies beside a pipeline's weights."""
    known = {path for part in parts for path in part.weights if component_weights.is_named(path)} | used
    others = {name: path for name, path in found.items() if name.endswith(".safetensors") and path not in known}
    return tuple(
        f"{name} was not used: it {known_layouts.told(check_safetensors(path)) or 'is no component of the pipeline'}"
        for name, path in sorted(others.items())
    )


def _kept(kind: str, found: Mapping[str, Path], parts: Sequence[Part], left_out: tuple[str, ...]) -> Draft:
    """A pipeline that is stored, verified, and not sampled."""
    strange = [f"{part.name} ({part.kind})" for part in parts if part.weights and part.kind not in pipelines.BUILT]
    why = f"a {kind} cannot be sampled by this version{', which does not build its ' if strange else ''}"
    why += " and its ".join(strange)
    components = tuple(component for part in parts for component in _components(part))
    record = {
        "family": None,
        "pipeline": kind,
        "unsupported": why,
        "licence": UNKNOWN,
        "components": [vars(component) for component in components],
    }
    files = {f"source/{name}": path for name, path in found.items()}
    notes = (why, *_not_used(found, parts, set()))
    return Draft(f"diffusers {kind}", record, files, components, left_out, notes, usable=False)


def _files(folder: Path) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The plain files of a folder that are taken, by their paths in it; and those that are not."""
    found: dict[str, Path] = {}
    left_out = []
    for name, path in _walk(folder):
        if path.is_symlink():
            raise UntrustedError(f"{path} is a link: copy the folder with its files in place (hf download --local-dir)")
        if name.endswith((".safetensors", *TEXTS)) or path.name in ("LICENSE", "LICENSE.txt"):
            _check_size(path)
            found[name] = path
        else:
            left_out.append(name)
    return found, tuple(left_out)


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    count = 0
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names + [name for name in folders if (Path(at) / name).is_symlink()]):
            count += 1
            if count > MAX_FILES:
                raise UntrustedError(f"{folder} has more than {MAX_FILES} files")
            path = Path(at) / name
            relative = path.relative_to(folder).as_posix()
            if fault := fault_of_name(relative):
                raise UntrustedError(f"{folder} has a file {relative[:120]!r}, whose name {fault}")
            if not name.startswith("."):
                yield relative, path


def _check_size(path: Path) -> None:
    with plain_file(path) as (_, size):
        if path.suffix != ".safetensors" and size > MAX_TEXT_BYTES:
            raise UntrustedError(f"{path} has {size} bytes, a file of its kind has at most {MAX_TEXT_BYTES}")


def _parts(folder: Path, index: Mapping[str, Any], found: Mapping[str, Path]) -> Iterator[Part]:
    """The components that an index names. Those of older repositories lie at the top, not in a folder each."""
    for name, entry in index.items():
        if name.startswith("_") or not isinstance(entry, list):
            continue
        if len(entry) != 2 or not all(isinstance(word, str | None) for word in entry):
            raise UntrustedError(f"{folder / INDEX}: the component {name[:80]!r} is not a library and a class")
        if entry[1] is None:
            continue
        if fault_of_name(name) or "/" in name:
            raise UntrustedError(f"{folder / INDEX} names a component {name[:80]!r}, which is no folder's name")
        below = {key: path for key, path in found.items() if key.startswith(f"{name}/")}
        own = below or {key: path for key, path in found.items() if "/" not in key and key != INDEX}
        part = Part(name, str(entry[1])[:80], folder / name if below else folder, own)
        _refuse_pickles(part)
        if not own:
            raise ImportingError(f"{folder} lacks its component {name} ({part.kind}): fetch the whole folder")
        yield part


def _bare(folder: Path, found: Mapping[str, Path]) -> Part:
    kind = str(read_json(folder / CONFIG)["_class_name"])[:80]
    name = "unet" if kind == unet.NETWORK else "model"
    part = Part(name, kind, folder, {key: path for key, path in found.items() if "/" not in key})
    _refuse_pickles(part)
    if not part.weights:
        raise ImportingError(f"{folder} has no safetensors file: save the component with safe_serialization=True")
    return part


def _refuse_pickles(part: Part) -> None:
    """A component whose weights are pickles only. Raises UntrustedError."""
    if part.weights or not part.folder.is_dir():
        return
    for path in sorted(part.folder.iterdir()):
        if path.suffix.lower() in PICKLE_SUFFIXES and path.is_file():
            refuse_pickle(path)


def _components(part: Part, used: Set[Path] | None = None) -> Iterator[Component]:
    """A component with weights is one entry a file of those used; another has what its files weigh in all."""
    for path in part.weights:
        if used is not None and path not in used:
            continue
        yield Component(part.name, part.kind, path.stat().st_size, sha256(path))
    if not part.weights:
        path = min(part.files.values(), key=lambda path: (path.suffix != ".json", path.name))
        yield Component(part.name, part.kind, sum(file.stat().st_size for file in part.files.values()), sha256(path))


def _scheduler(folder: Path, parts: Mapping[str, Part]) -> Path:
    places = [parts["scheduler"].folder] if "scheduler" in parts else [folder, folder.parent / "scheduler"]
    for place in places:
        if (place / "scheduler_config.json").is_file():
            return place / "scheduler_config.json"
    raise ImportingError(f"{folder} has no scheduler_config.json, which says how it is sampled: import the pipeline")
