"""Bytes from outside, checked before anything loads them: safetensors files, and what must never be loaded at all.

Nothing here allocates more than the bounds below, whatever a file says of itself, and nothing follows a link. What a
file is, is decided by its content; a pickle is refused, never scanned and accepted. ONNX: `zoo.untrusted.onnx`.
"""

from __future__ import annotations

import json
import os
import stat
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from zoo.errors import GenzooError

MAX_HEADER_BYTES = 4 << 20
MAX_TENSORS = 20_000
MAX_AXES = 32
MAX_JSON_BYTES = 4 << 20
MAX_FILE_BYTES = 1 << 50

ITEM_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}
PICKLE_SUFFIXES = (".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin", ".joblib", ".dill", ".npy", ".npz", ".tar")
CONVERT = (
    "pickles can run code and are not read here: where that does not matter, load it with "
    "torch.load(path, weights_only=True), write the tensors with safetensors.torch.save_file, and import that file"
)
POINTER = b"version https://git-lfs.github.com/spec/"
POINTER_CURE = "is a Git LFS pointer in place of the file: `git lfs pull` in the clone that it is from brings the file"


EXPONENTS = {  # of floats: their bits as little-endian integers, and which of them are the exponent
    "F64": ("<u8", 0x7FF0_0000_0000_0000),
    "F32": ("<u4", 0x7F80_0000),
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
}
PART = 1 << 20  # values that are looked at together


class UntrustedError(GenzooError):
    """A file from outside is not what it must be; the message says which file, and what is wrong with it."""


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a checked file; `start` counts from the beginning of the file."""

    dtype: str  # safetensors' name
    shape: tuple[int, ...]
    start: int
    bytes: int

    @property
    def size(self) -> int:
        return prod(self.shape)


@contextmanager
def plain_file(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """A file opened for reading, and its size. Raises UntrustedError unless it is an ordinary file and no link."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as error:
        raise UntrustedError(f"{path} is not a plain file that can be read; a link must be replaced by it") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise UntrustedError(f"{path} is not a plain file: it is a folder or a device")
    with os.fdopen(descriptor, "rb") as stream:
        if is_pointer(stream.read(len(POINTER))):
            raise UntrustedError(f"{path} {POINTER_CURE}")
        stream.seek(0)
        yield stream, status.st_size


def is_pointer(head: bytes) -> bool:
    """Whether a file's first bytes are those of a Git LFS pointer, which stands in a clone for a large file."""
    return head.startswith(POINTER)


def read_json(path: Path, limit: int = MAX_JSON_BYTES, *, infinite: bool = False) -> dict[str, Any]:
    """The JSON object in a plain file of at most `limit` bytes. Raises UntrustedError.

    `infinite` takes `Infinity` and `-Infinity`, which Python writes and JSON does not know.
    """
    with plain_file(path) as (stream, size):
        if size > limit:
            raise UntrustedError(f"{path} has {size} bytes, a file of this kind has at most {limit}")
        return parse_json(stream.read(limit + 1)[:limit], str(path), infinite=infinite)


def parse_json(data: bytes, label: str, *, infinite: bool = False) -> dict[str, Any]:
    """A JSON object where no key comes twice, no number is infinite unless `infinite`, nothing nests too deeply."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a key comes twice")
        return found

    def constant(name: str) -> float:
        if infinite and name.endswith("Infinity"):
            return float(name)
        raise ValueError(f"{name} is no JSON number")

    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise UntrustedError(f"{label}: the JSON cannot be read ({_short(error)})") from error
    if not isinstance(found, dict):
        raise UntrustedError(f"{label}: the JSON is a {type(found).__name__}, expected an object")
    return found


def check_safetensors(path: Path) -> dict[str, TensorInfo]:
    """The tensors of a safetensors file, by name, once its header is known to describe it exactly.

    Raises UntrustedError. Only the header is read.
    """
    return check_safetensors_told(path)[0]


def check_finite(path: Path) -> None:
    """Whether all values of a safetensors file are numbers. Raises UntrustedError, as `check_safetensors` does too.

    By their bits: an exponent of ones alone is infinite or not a number, in IEEE 754 and in bfloat16. 8-bit floats are
    not looked at.
    """
    for name, info in check_safetensors(path).items():
        if info.dtype not in EXPONENTS:
            continue
        kind, mask = EXPONENTS[info.dtype]
        for begin in range(0, info.size, PART):
            count = min(PART, info.size - begin)
            bits = np.fromfile(path, kind, count, offset=info.start + begin * np.dtype(kind).itemsize)
            if ((bits & bits.dtype.type(mask)) == mask).any():
                raise UntrustedError(f"{path} has values in {name} that are no numbers: it is damaged, make it again")


def check_safetensors_told(path: Path) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    """The same, and what whoever wrote the file says of it."""
    with plain_file(path) as (stream, size):
        prefix = stream.read(8)
        if len(prefix) < 8:
            raise UntrustedError(f"{path} has {size} bytes, which is too short for a safetensors file")
        (length,) = struct.unpack("<Q", prefix)
        if length > MAX_HEADER_BYTES:
            raise UntrustedError(f"{path}: its header claims {length} bytes, at most {MAX_HEADER_BYTES} are read")
        if 8 + length > size:
            raise UntrustedError(f"{path}: its header claims {length} bytes, the file has {size}: it is truncated")
        data = stream.read(length)
    if len(data) != length:
        raise UntrustedError(f"{path} became shorter while it was read")
    if not data.startswith(b"{"):
        raise UntrustedError(f"{path}: its header does not begin with a JSON object; it is not a safetensors file")
    return _tensors(parse_json(data, f"{path}: header"), path, 8 + length, size)


def _tensors(header: dict[str, Any], path: Path, start: int, size: int) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise UntrustedError(f"{path}: its __metadata__ is not an object of strings")
    if len(header) > MAX_TENSORS:
        raise UntrustedError(f"{path} has {len(header)} tensors, at most {MAX_TENSORS} are read")
    found = {name: _tensor(name, entry, path, start) for name, entry in header.items()}
    end = start
    for name, tensor in sorted(found.items(), key=lambda item: (item[1].start, item[1].bytes)):
        if tensor.start != end:
            fault = "overlaps the one before it" if tensor.start < end else "leaves a gap before it"
            raise UntrustedError(f"{path}: the tensor {name[:80]!r} {fault}, at byte {tensor.start}")
        end += tensor.bytes
    if end != size:
        what = "is truncated" if end > size else "has bytes after its last tensor"
        raise UntrustedError(f"{path} {what}: its header describes {end} bytes, it has {size}")
    return found, metadata


def _tensor(name: str, entry: Any, path: Path, start: int) -> TensorInfo:
    label = f"{path}: the tensor {name[:80]!r}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise UntrustedError(f"{label} does not have exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise UntrustedError(f"{label} is of type {str(dtype)[:20]!r}, known are {', '.join(ITEM_BYTES)}")
    if not isinstance(shape, list) or len(shape) > MAX_AXES or not _naturals(shape):
        raise UntrustedError(f"{label} has a shape that is not a list of up to {MAX_AXES} natural numbers")
    if not isinstance(offsets, list) or len(offsets) != 2 or not _naturals(offsets) or offsets[0] > offsets[1]:
        raise UntrustedError(f"{label} has data_offsets that are not a start and an end")
    count = ITEM_BYTES[dtype]
    for axis in shape:
        count *= axis
        if count > MAX_FILE_BYTES:
            raise UntrustedError(f"{label} has a shape whose product overflows")
    if offsets[1] - offsets[0] != count:
        raise UntrustedError(f"{label} has {offsets[1] - offsets[0]} bytes, its shape needs {count}")
    return TensorInfo(dtype, tuple(shape), start + offsets[0], count)


def _naturals(values: Iterable[Any]) -> bool:
    return all(type(value) is int and 0 <= value <= MAX_FILE_BYTES for value in values)


def refuse_pickle(path: Path) -> None:
    """Raise UntrustedError, with the sentence that says how to convert it, for a pickle or what may hold one."""
    if fault := _pickle(path):
        raise UntrustedError(f"{path} {fault}; {CONVERT}")


def _pickle(path: Path) -> str | None:
    with plain_file(path) as (stream, _):
        head = stream.read(512)
    if is_safetensors(head):
        return None
    if head.startswith(b"PK"):
        return "is a zip archive, as torch.save and numpy.savez write them"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "is a pickle"
    if head[257:262] == b"ustar":
        return "is a tar archive"
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"(\xb5/\xfd")):
        return "is a compressed archive"
    if head.startswith(b"\x93NUMPY"):
        return "is a NumPy array, which may hold pickled objects"
    if head.startswith((b"(dp", b"(lp", b"c__", b"ccopy_reg", b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")):
        return "is a pickle"
    return "is named like a pickle" if path.suffix.lower() in PICKLE_SUFFIXES else None


def is_safetensors(head: bytes) -> bool:
    """Whether a file's first bytes are a safetensors header's, which its name may hide or claim."""
    return len(head) > 8 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] <= MAX_FILE_BYTES


def _short(error: Exception) -> str:
    return str(error).splitlines()[0][:80] if str(error) else type(error).__name__
