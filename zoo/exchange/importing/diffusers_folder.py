"""A folder as diffusers writes it: every component checked, and a pipeline that fits the contract made a checkpoint.

    model_index.json                    the pipeline's class, and each component's
    <component>/config.json, *.safetensors, or files of other kinds (schedulers, tokenizers)

A folder of one component, its `config.json` and weights at the top, is taken as well. Code is neither run nor kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.contract.layout import CONFIG
from zoo.exchange.importing import pipelines, unet, weights
from zoo.exchange.importing.draft import UNKNOWN, Component, Draft, ImportingError
from zoo.files import fault_of_name, sha256
from zoo.untrusted import PICKLE_SUFFIXES, UntrustedError, check_safetensors, plain_file, read_json, refuse_pickle

INDEX = "model_index.json"
MAX_FILES = 10_000
MAX_TEXT_BYTES = 64 << 20
TEXTS = (".json", ".txt", ".md", ".model", ".jinja")
SHARDS = ".safetensors.index.json"
NOT_SAMPLED = "text-conditioned generators cannot be sampled by this version"
TEXT_PARTS = ("text_encoder", "tokenizer", "transformer", "prior", "text_encoder_2")


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


def is_diffusers(folder: Path) -> bool:
    """Whether a folder has what this file reads."""
    if (folder / INDEX).is_file():
        return True
    return (folder / CONFIG).is_file() and "_class_name" in read_json(folder / CONFIG)


def draft(folder: Path, scratch: Path) -> Draft:
    """Raises UntrustedError for a file that is not sound, ImportingError for a folder that is not complete."""
    found, left_out = _files(folder)
    index = read_json(folder / INDEX) if INDEX in found else None
    parts = list(_parts(folder, index, found)) if index else [_bare(folder, found)]
    tensors = {part.name: _tensors(part) for part in parts}
    components = tuple(component for part in parts for component in _components(part))
    kind = str(index.get("_class_name"))[:80] if index else parts[0].kind
    if unet.fits(kind, {part.name: part.kind for part in parts}):
        by_name = {part.name: part for part in parts}
        made = unet.draft(by_name["unet"].folder, _scheduler(folder, by_name), tensors["unet"], scratch)
        return Draft(f"diffusers {kind}", made.record, made.files, components, left_out, made.notes)
    if index and pipelines.fits(kind):
        folders, kinds = {part.name: part.folder for part in parts}, {part.name: part.kind for part in parts}
        made = pipelines.draft(kind, folder, folders, kinds, tensors, scratch)
        return Draft(f"diffusers {kind}", made.record, made.files, components, left_out, made.notes)
    return _kept(kind, found, components, left_out)


def _kept(kind: str, found: Mapping[str, Path], components: tuple[Component, ...], left_out: tuple[str, ...]) -> Draft:
    """A pipeline that is stored, verified, and not sampled."""
    text = any(component.name in TEXT_PARTS for component in components)
    why = NOT_SAMPLED if text else f"a {kind} cannot be sampled by this version"
    record = {
        "family": None,
        "pipeline": kind,
        "unsupported": why,
        "licence": UNKNOWN,
        "components": [vars(component) for component in components],
    }
    files = {f"source/{name}": path for name, path in found.items()}
    return Draft(f"diffusers {kind}", record, files, components, left_out, (why,), usable=False)


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


def _tensors(part: Part) -> weights.Tensors:
    """The tensors of a component: of its one file, or of the files that its index of shards names."""
    for path in part.weights:
        check_safetensors(path)
    shards = [path for name, path in part.files.items() if name.endswith(SHARDS) and ".fp16." not in name]
    if shards:
        return _sharded(shards[0])
    plain = [path for path in part.weights if path.name.count(".") == 1] or part.weights
    return weights.read(plain[0]) if plain else {}


def _sharded(index: Path) -> weights.Tensors:
    places = read_json(index, MAX_TEXT_BYTES).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(value, str) for value in places.values()):
        raise UntrustedError(f"{index} has no weight_map of tensors to files")
    files: dict[str, weights.Tensors] = {}
    for name in sorted(set(places.values())):
        if fault_of_name(name) or "/" in name or not name.endswith(".safetensors"):
            raise UntrustedError(f"{index} names the file {name[:120]!r}: expected a safetensors file beside it")
        files[name] = weights.read(index.parent / name)
    absent = next((key for key, file in places.items() if key not in files[file]), None)
    if absent is not None:
        raise UntrustedError(f"{index} places the tensor {absent[:80]!r} in {places[absent]}, which does not have it")
    if sum(map(len, files.values())) != len(places):
        raise UntrustedError(f"{index} does not list every tensor of its files")
    return {key: files[file][key] for key, file in places.items()}


def _components(part: Part) -> Iterator[Component]:
    """A component with weights is one entry a file; another is listed with what its files weigh together."""
    for path in part.weights:
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
