"""The wire format of a protobuf message, walked without building anything, so that what it would cost is known before.

Two bytes of a file can become an object of a hundred in memory, and nesting can exhaust a stack; both are bounded here.
The format: protobuf.dev, "Encoding".
"""

from __future__ import annotations

import mmap
from typing import Any

MAX_FIELDS = 2_000_000  # about 1 GB of objects
MAX_PACKED_BYTES = 256 << 20  # of packed varints, which grow up to eightfold
MAX_DEPTH = 60
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


class WireFormatError(Exception):
    """Bytes that are no message of this type, or one that would cost too much; the message is a clause."""


def walk(data: bytes | mmap.mmap, descriptor: Any) -> None:
    """Raise WireFormatError unless `data` is a message of a protobuf descriptor's type, within the bounds above."""
    _Walk(data).message(descriptor, 0, len(data), 0)


class _Walk:
    """The wire format of a message, field by field, without building anything (protobuf.dev, Encoding)."""

    def __init__(self, data: bytes | mmap.mmap) -> None:
        self.data, self.fields, self.packed = data, 0, 0

    def message(self, descriptor: Any, at: int, end: int, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise WireFormatError(f"it nests deeper than {MAX_DEPTH} messages")
        known = descriptor.fields_by_number
        while at < end:
            self.fields += 1
            if self.fields > MAX_FIELDS:
                raise WireFormatError(f"it has more than {MAX_FIELDS} fields")
            key, at = self.varint(at, end)
            kind, field = key & 7, known.get(key >> 3)
            if kind == _VARINT:
                _, at = self.varint(at, end)
            elif kind in (_FIXED64, _FIXED32):
                at += 8 if kind == _FIXED64 else 4
            elif kind == _LENGTH:
                length, at = self.varint(at, end)
                if at + length > end:
                    raise WireFormatError("a field reaches beyond its message")
                self.bytes(field, at, length, depth)
                at += length
            else:
                raise WireFormatError(f"it has a field of wire type {kind}, which ONNX does not use")
        if at != end:
            raise WireFormatError("a field reaches beyond its message")

    def bytes(self, field: Any, at: int, length: int, depth: int) -> None:
        if field is None:
            raise WireFormatError("it has a field that ONNX does not know")
        if field.type == field.TYPE_MESSAGE:
            self.message(field.message_type, at, at + length, depth + 1)
        elif field.type not in (field.TYPE_BYTES, field.TYPE_STRING, field.TYPE_FLOAT, field.TYPE_DOUBLE):
            self.packed += length
            if self.packed > MAX_PACKED_BYTES:
                raise WireFormatError(
                    f"it has more than {MAX_PACKED_BYTES} bytes of packed numbers; write them as raw_data"
                )

    def varint(self, at: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            if at >= end or shift > 63:
                raise WireFormatError("a number is cut or too long")
            byte = self.data[at]
            value, at, shift = value | (byte & 0x7F) << shift, at + 1, shift + 7
            if byte < 0x80:
                return value, at
