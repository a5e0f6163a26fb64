"""One of a number of classes, 0 to count - 1; the null class is `count`, which no request can name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.contract.assets import Assets
from zoo.contract.conditions import Condition, Kind
from zoo.contract.errors import RequestError, shown
from zoo.contract.graph import TensorSpec
from zoo.plain import PlainError

MAX_COUNT = 1 << 16


@dataclass(frozen=True)
class Options:
    count: int


def check(condition: Condition) -> None:
    if not 1 <= condition.options.count <= MAX_COUNT:
        raise PlainError(f"{condition.options.count} classes are outside 1 to {MAX_COUNT}")


def edge(condition: Condition) -> TensorSpec:
    return TensorSpec(condition.name, "int64", ())


def tensors(condition: Condition) -> tuple[TensorSpec, ...]:
    return (TensorSpec(f"{condition.name}s", "int64", ()),)


def parse(condition: Condition, text: str, _: Mapping[str, int]) -> int:
    try:
        return int(text)
    except ValueError:
        raise RequestError(f"{condition.name} {shown(text)}: {_expected(condition)}") from None


def array(condition: Condition, value: Any, _: Mapping[str, int]) -> np.ndarray:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise RequestError(f"{condition.name} {shown(value)} is no whole number: {_expected(condition)}")
    if not 0 <= value < condition.options.count:
        raise RequestError(f"{condition.name} {shown(value)} is outside 0 to {condition.options.count - 1}")
    return np.array(value, np.int64)


def _expected(condition: Condition) -> str:
    return f"expected 0 to {condition.options.count - 1}"


def encode(condition: Condition, arrays: np.ndarray, _: Assets) -> dict[str, np.ndarray]:
    return {f"{condition.name}s": arrays}


def in_turn(condition: Condition, seed: int, _: Assets) -> int:
    return seed % int(condition.options.count)


def null(condition: Condition, _: Mapping[str, int]) -> np.ndarray:
    return np.array(condition.options.count, np.int64)


def count(conditions: Iterable[Condition]) -> int:
    """The classes that a generator with these conditions knows; 0 for none."""
    return next((int(each.options.count) for each in conditions if each.kind == "class_id"), 0)


def turns(condition: Condition) -> int:
    return int(condition.options.count)


def bounds(condition: Condition) -> tuple[float, float]:
    return 0.0, condition.options.count - 1.0


KIND = Kind(Options, edge, tensors, parse, array, encode, null, in_turn, check, turns, bounds=bounds)
