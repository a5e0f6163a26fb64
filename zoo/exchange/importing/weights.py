"""Tensors of checked safetensors files: what differs from a network, and one file of them all, made by copying.

A file that fits is taken byte for byte. bfloat16 becomes float32, exactly, because NumPy has no bfloat16.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from zoo import shelf
from zoo.contract.layout import WEIGHTS
from zoo.exchange.importing.draft import Draft, ImportingError
from zoo.family import Checkpoint
from zoo.files import atomic
from zoo.untrusted import ITEM_BYTES, TensorInfo, check_safetensors, plain_file

FLOATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
PIECE_BYTES = 4 << 20
SHOWN = 3  # differences that a message names


@dataclass(frozen=True)
class Stored:
    """A tensor in a checked file."""

    path: Path
    info: TensorInfo

    @property
    def shape(self) -> tuple[int, ...]:
        return self.info.shape


Tensors = dict[str, Stored]
Wanted = Mapping[str, tuple[str, tuple[int, ...]]]  # name -> safetensors' dtype, shape


def read(path: Path) -> Tensors:
    """The tensors of a file. Raises UntrustedError."""
    return {name: Stored(path, info) for name, info in check_safetensors(path).items()}


def wanted(build: Callable[[], Any]) -> Wanted:
    """What a network's weights must be; it is built without memory."""
    import torch

    with torch.device("meta"):
        state = build().state_dict()
    names = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64"}
    names |= {torch.int64: "I64", torch.int32: "I32", torch.uint8: "U8", torch.bool: "BOOL"}
    return {name: (names[tensor.dtype], tuple(tensor.shape)) for name, tensor in state.items()}


def difference(tensors: Tensors, expected: Wanted) -> str | None:
    """How tensors differ from a network's, as a clause that names the first differences; None where they fit."""
    missing = [name for name in expected if name not in tensors]
    unexpected = [name for name in tensors if name not in expected]
    wrong = [
        f"{name} is {_text(stored.info.dtype, stored.shape)}, expected {_text(*expected[name])}"
        for name, stored in tensors.items()
        if name in expected and not _fits(stored, expected[name])
    ]
    faults = [("lacks", missing), ("has besides", unexpected), ("differs:", wrong)]
    clauses = [
        f"{word} {', '.join(found[:SHOWN])}{f' and {len(found) - SHOWN} more' if len(found) > SHOWN else ''}"
        for word, found in faults
        if found
    ]
    return "; it ".join(clauses) or None


def _fits(stored: Stored, expected: tuple[str, tuple[int, ...]]) -> bool:
    dtype, shape = expected
    same = stored.info.dtype in FLOATS if dtype in FLOATS else stored.info.dtype == dtype
    return same and stored.shape == shape


def _text(dtype: str, shape: tuple[int, ...]) -> str:
    return f"{FLOATS.get(dtype, dtype)} {list(shape)}"


def dtype(tensors: Tensors) -> str:
    """The type that most values of the floating tensors have."""
    sizes = dict.fromkeys(FLOATS.values(), 0)
    for stored in tensors.values():
        if stored.info.dtype in FLOATS:
            sizes[FLOATS[stored.info.dtype]] += stored.info.size
    return max(sizes, key=lambda name: sizes[name])


def settled(tensors: Tensors, scratch: Path) -> tuple[Path, Tensors]:
    """One file that holds exactly these tensors under these names, and where they lie in it."""
    paths = {stored.path for stored in tensors.values()}
    if len(paths) == 1 and not any(stored.info.dtype == "BF16" for stored in tensors.values()):
        (path,) = paths
        if read(path) == tensors:
            return path, tensors
    target = scratch / WEIGHTS
    _write(tensors, target)
    return target, read(target)


def computed(shapes: Mapping[str, tuple[int, ...]], value: Callable[[str], np.ndarray], target: Path) -> Tensors:
    """The tensors of a new float32 file, whose values are asked for one after another."""
    _save(
        {name: ("F32", shape) for name, shape in shapes.items()},
        lambda name: [value(name).astype("<f4").tobytes()],
        target,
    )
    return read(target)


def of_checkpoint(known: Checkpoint, tensors: Tensors, scratch: Path, what: str, notes: tuple[str, ...] = ()) -> Draft:
    """The draft of a checkpoint with these weights."""
    file, stored = settled(tensors, scratch)
    record = shelf.record(known, file, stored, dtype(stored), {})
    return Draft(what, record, {WEIGHTS: file}, notes=notes)


def _write(tensors: Tensors, target: Path) -> None:
    _save({name: (_stored_as(each), each.shape) for name, each in tensors.items()}, _of(tensors), target)


def _of(tensors: Tensors) -> Callable[[str], Iterator[bytes]]:
    def pieces(name: str) -> Iterator[bytes]:
        with plain_file(tensors[name].path) as (stream, _):
            yield from _pieces(stream, tensors[name].info)

    return pieces


def _save(kinds: Wanted, pieces: Callable[[str], Iterable[bytes]], target: Path) -> None:
    """Write a safetensors file, its widest types first, from the pieces of each tensor."""
    order = sorted(kinds, key=lambda name: (-ITEM_BYTES[kinds[name][0]], name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name in order:
        dtype, shape = kinds[name]
        end = at + math.prod(shape) * ITEM_BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with atomic(target) as temporary, temporary.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for name in order:
            for piece in pieces(name):
                out.write(piece)


def _stored_as(stored: Stored) -> str:
    return "F32" if stored.info.dtype == "BF16" else stored.info.dtype


def _pieces(stream: BinaryIO, info: TensorInfo) -> Iterator[bytes]:
    stream.seek(info.start)
    left = info.bytes
    while left:
        piece = stream.read(min(left, PIECE_BYTES))
        if not piece:
            raise ImportingError(f"{stream.name} became shorter while it was read; import it again")
        left -= len(piece)
        if info.dtype == "BF16":
            piece = (np.frombuffer(piece, "<u2").astype("<u4") << 16).tobytes()
        yield piece


def renamed(tensors: Tensors, rename: Callable[[str], str]) -> Tensors:
    """The tensors under other names. Raises ImportingError where two get the same."""
    found = {rename(name): replace(stored) for name, stored in tensors.items()}
    if len(found) != len(tensors):
        raise ImportingError("two of its tensors would get the same name")
    return found
