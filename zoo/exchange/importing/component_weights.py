"""The weights of one component, among the files that diffusers and transformers write: a file, or shards, of a variant.

diffusion_pytorch_model.safetensors            diffusion_pytorch_model.fp16.safetensors
model-00001-of-00002.safetensors               model.fp16-00001-of-00002.safetensors
model.safetensors.index.json                   model.safetensors.index.fp16.json
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.exchange.importing import weights
from zoo.exchange.importing.draft import ImportingError
from zoo.files import fault_of_name
from zoo.untrusted import UntrustedError, check_safetensors, read_json

STEMS = ("diffusion_pytorch_model", "model")
MAX_INDEX_BYTES = 64 << 20
INDEX = re.compile(r"(?P<stem>[^.]+)\.safetensors\.index(?:\.(?P<variant>[^.]+))?\.json")
FILE = re.compile(
    r"(?P<stem>[^.]+?)(?:\.(?P<variant>[^.]+?))?(?:-(?P<at>\d{5})-of-(?P<count>\d{5}))?"
    r"(?:\.(?P<last>[^.]+))?\.safetensors"
)


@dataclass(frozen=True)
class Weights:
    """A component's tensors, the files that they are in, and what a user should know of that choice."""

    tensors: weights.Tensors
    files: frozenset[Path] = frozenset()
    notes: tuple[str, ...] = ()


def read(files: Sequence[Path], indices: Sequence[Path]) -> Weights:
    """The weights among a component's safetensors files. Raises UntrustedError, ImportingError."""
    for path in files:
        check_safetensors(path)
    groups: dict[str, list[Path]] = {}
    for path in files:
        if is_named(path) or len(files) == 1:
            groups.setdefault(_variant(path), []).append(path)
    variant = min((*groups, *(() if groups else map(_variant, indices))), default="")  # the one without a name is first
    index = next((path for path in indices if _variant(path) == variant), None)
    tensors = _sharded(index) if index else _joined(groups.get(variant, []))
    used = {stored.path for stored in tensors.values()} | ({index} if index else set())
    notes = (f"the weights are those of the variant {variant}: there are no others",) if variant else ()
    return Weights(tensors, frozenset(used), notes)


def is_named(path: Path) -> bool:
    """Whether a file is called as weights of a component are."""
    found = FILE.fullmatch(path.name)
    return found is not None and found["stem"] in STEMS


def _variant(path: Path) -> str:
    found = INDEX.fullmatch(path.name) or FILE.fullmatch(path.name)
    groups = found.groupdict() if found else {}
    return groups.get("variant") or groups.get("last") or ""


def _joined(files: Sequence[Path]) -> weights.Tensors:
    """The tensors of one file, or of all its shards."""
    parts = {path: found for path in files if (found := FILE.fullmatch(path.name)) and found["at"]}
    if whole := [path for path in files if path not in parts]:
        return weights.read(whole[0])
    counts = {int(found["count"]) for found in parts.values()}
    if parts and counts != {len(parts)}:
        raise ImportingError(f"{files[0].parent} has {len(parts)} of {max(counts)} shards: fetch the others too")
    tensors: weights.Tensors = {}
    for path in parts:
        read = weights.read(path)
        if twice := sorted(tensors.keys() & read.keys()):
            raise UntrustedError(f"{path} has the tensor {twice[0][:80]!r} of another shard")
        tensors |= read
    return tensors


def shards(index: Path) -> dict[str, str]:
    """Which file beside an index each tensor is in. Raises UntrustedError."""
    places = read_json(index, MAX_INDEX_BYTES).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(value, str) for value in places.values()):
        raise UntrustedError(f"{index} has no weight_map of tensors to files")
    for name in sorted(set(places.values())):
        if fault_of_name(name) or "/" in name or not name.endswith(".safetensors"):
            raise UntrustedError(f"{index} names the file {name[:120]!r}: expected a safetensors file beside it")
    return places


def _sharded(index: Path) -> weights.Tensors:
    places = shards(index)
    files = {name: weights.read(index.parent / name) for name in sorted(set(places.values()))}
    absent = next((key for key, file in places.items() if key not in files[file]), None)
    if absent is not None:
        raise UntrustedError(f"{index} places the tensor {absent[:80]!r} in {places[absent]}, which does not have it")
    if sum(map(len, files.values())) != len(places):
        raise UntrustedError(f"{index} does not list every tensor of its files")
    return {key: files[file][key] for key, file in places.items()}
