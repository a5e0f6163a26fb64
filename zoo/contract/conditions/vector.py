"""Numbers of a range, so many of them: attributes of a face, an embedding; none of it is none of each number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.contract.conditions import Condition, Kind, scalar
from zoo.contract.errors import RequestError, shown
from zoo.contract.graph import TensorSpec
from zoo.plain import PlainError

MAX_LENGTH = 1 << 16


@dataclass(frozen=True)
class Options:
    """`length` numbers, both ends of the range included."""

    length: int
    low: float = -1.0
    high: float = 1.0


def check(condition: Condition) -> None:
    if not 1 <= condition.options.length <= MAX_LENGTH:
        raise PlainError(f"{condition.name} has {condition.options.length} numbers, expected 1 to {MAX_LENGTH}")
    scalar.check(condition)


def edge(condition: Condition) -> TensorSpec:
    return TensorSpec(condition.name, "float32", (condition.options.length,))


def tensors(condition: Condition) -> tuple[TensorSpec, ...]:
    return (edge(condition),)


def parse(condition: Condition, text: str, _: Mapping[str, int]) -> list[float]:
    """Numbers with commas between them."""
    try:
        return [float(each) for each in text.split(",")]
    except ValueError:
        raise RequestError(f"{condition.name} {shown(text)} is no list like 0.5,-1: {_expected(condition)}") from None


def array(condition: Condition, value: Any, _: Mapping[str, int]) -> np.ndarray:
    found = scalar.numbers(condition, value, _expected(condition))
    if found.shape != (condition.options.length,):
        seen = f"{len(found)} numbers" if found.ndim == 1 else f"the shape {found.shape}"
        raise RequestError(f"{condition.name} has {seen}: {_expected(condition)}")
    return scalar.within(condition, found)


def _expected(condition: Condition) -> str:
    options = condition.options
    return f"expected {options.length} numbers from {options.low:g} to {options.high:g}"


def null(condition: Condition, _: Mapping[str, int]) -> np.ndarray:
    return np.full(condition.options.length, scalar.nearest_to_nothing(condition), np.float32)


KIND = Kind(Options, edge, tensors, parse, array, scalar.encode, null, check=check, bounds=scalar.bounds)
