"""Plain values from outside: dataclasses rebuilt from JSON, strictly, and text that a terminal may be given.

Every key is known, every value of its declared type and of a sane size: what a checkpoint's config.json says decides
what is allocated.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from zoo.errors import GenzooError

MAX_NUMBER = 1 << 40
MAX_ITEMS = 256
MAX_DEPTH = 32
MAX_TEXT = 4096

T = TypeVar("T")


class PlainError(GenzooError):
    """Plain values that are not what a dataclass declares; the message names the field."""


def printable(text: str) -> str:
    """Text from outside as it may be shown, on one line: what a terminal would obey becomes visible.

    Line breaks and other white space become spaces; control characters, escape sequences, marks that turn the direction
    of writing or have no width, and lone surrogates become escapes like `\\x1b` and `\\u202e`. All else stays.
    """
    return "".join(" " if each.isspace() else each if each.isprintable() else _escape(each) for each in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def rebuild(kind: type[T], data: Any, path: str = "") -> T:
    """The inverse of `dataclasses.asdict` and a trip through JSON. Raises PlainError."""
    if not isinstance(data, Mapping):
        raise PlainError(f"{path or kind.__name__} is {_short(data)}, expected an object")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(data) - set(fields)):
        known = ", ".join(fields)
        raise PlainError(f"{path or kind.__name__} has {unknown[0]!r}, which is none of {known}; a newer genzoo's?")
    hints = _hints(kind)  # type: ignore[arg-type]  # a class is hashable
    values = {name: _value(hints[name], data[name], f"{path}.{name}".lstrip(".")) for name in data}
    try:
        return kind(**values)
    except TypeError as error:
        missing = sorted(name for name in fields if name not in data and _is_required(fields[name]))
        raise PlainError(f"{path or kind.__name__} lacks {', '.join(missing) or error}") from error


_hints = cache(get_type_hints)  # of a dataclass, which never changes


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _value(hint: Any, value: Any, path: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        hints = [each for each in arguments if each is not type(None)]
        return _value(next((each for each in hints[1:] if type(value) is each), hints[0]), value, path)
    if origin is tuple:
        return _items(arguments, value, path)
    if origin is Mapping:
        if not isinstance(value, dict):
            raise PlainError(f"{path} is {_short(value)}, expected an object")
        return value
    if dataclasses.is_dataclass(hint):
        return rebuild(hint, value, path)  # type: ignore[arg-type]
    if hint is Any:
        return value
    if issubclass(hint, Enum):
        if value not in [each.value for each in hint]:
            raise PlainError(f"{path} is {_short(value)}, expected one of {', '.join(map(str, hint))}")
        return hint(value)
    return _scalar(hint, value, path)


def _items(arguments: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple) or len(value) > MAX_ITEMS:
        raise PlainError(f"{path} is {_short(value)}, expected a list of at most {MAX_ITEMS} items")
    hints = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
    if len(hints) != len(value):
        raise PlainError(f"{path} has {len(value)} items, expected {len(hints)}")
    pairs = zip(hints, value, strict=True)
    return tuple(_value(hint, each, f"{path}[{index}]") for index, (hint, each) in enumerate(pairs))


def check_depth(data: Any, path: str, depth: int = MAX_DEPTH) -> None:
    """Raise PlainError for plain values that nest too deeply for whoever walks them."""
    if not depth:
        raise PlainError(f"{path} nests more than {MAX_DEPTH} deep, which nothing here does")
    if isinstance(data, Mapping | list | tuple):
        for value in data.values() if isinstance(data, Mapping) else data:
            check_depth(value, path, depth - 1)


def check_sizes(data: Any, largest: int, path: str) -> None:
    """Raise PlainError for a number above `largest` anywhere in plain values: what it would size is not built."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            check_sizes(value, largest, f"{path}.{key}")
    elif isinstance(data, list | tuple):
        for value in data:
            check_sizes(value, largest, path)
    elif isinstance(data, int | float) and not -largest <= data <= largest:
        raise PlainError(f"{path} is {data}, at most {largest} is built")


def _scalar(hint: Any, value: Any, path: str) -> Any:
    allowed = (int, float) if hint is float else (hint,)
    if type(value) not in allowed:
        raise PlainError(f"{path} is {_short(value)}, expected {getattr(hint, '__name__', hint)}")
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise PlainError(f"{path} has {len(value)} characters, expected at most {MAX_TEXT}")
    if isinstance(value, int | float) and not -MAX_NUMBER <= value <= MAX_NUMBER:
        raise PlainError(f"{path} is {value}, which is no sane number")
    return hint(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
