"""A number of a range: a strength, an angle, a truncation; none of it is 0, or the end of the range that is nearest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.contract.assets import Assets
from zoo.contract.conditions import Condition, Kind
from zoo.contract.errors import RequestError, shown
from zoo.contract.graph import TensorSpec
from zoo.plain import PlainError


@dataclass(frozen=True)
class Options:
    """Both ends are in the range."""

    low: float
    high: float


def check(condition: Condition) -> None:
    """Of any condition with a range."""
    low, high = condition.options.low, condition.options.high
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise PlainError(f"{condition.name} is from {low:g} to {high:g}, expected two numbers, the lower first")


def edge(condition: Condition) -> TensorSpec:
    return TensorSpec(condition.name, "float32", ())


def tensors(condition: Condition) -> tuple[TensorSpec, ...]:
    return (edge(condition),)


def parse(condition: Condition, text: str, _: Mapping[str, int]) -> float:
    try:
        return float(text)
    except ValueError:
        raise RequestError(f"{condition.name} {shown(text)} is no number: {_expected(condition)}") from None


def array(condition: Condition, value: Any, _: Mapping[str, int]) -> np.ndarray:
    found = numbers(condition, value, _expected(condition))
    if found.shape != ():
        raise RequestError(f"{condition.name} has {found.size} numbers: {_expected(condition)}")
    return within(condition, found)


def numbers(condition: Condition, value: Any, wanted: str) -> np.ndarray:
    """A value as finite numbers, float32 of any shape. Raises RequestError, with what was `wanted`."""
    found = plain(value)
    if found.dtype.kind not in "iuf" or not np.isfinite(found).all():
        raise RequestError(f"{condition.name} is {shown(value)}: {wanted}")
    with np.errstate(over="ignore"):  # infinite is outside every range
        return found.astype(np.float32)


def plain(value: Any) -> np.ndarray:
    """A value as an array; rows of different lengths are an array of objects, which nothing takes."""
    try:
        return np.asarray(value)
    except ValueError:
        return np.asarray(None)


def within(condition: Condition, found: np.ndarray) -> np.ndarray:
    """The numbers, if all are in the range, as float32 has it: what travelled is as good as what was said."""
    low, high = np.float32(condition.options.low), np.float32(condition.options.high)
    if (outside := found[(found < low) | (found > high)]).size:
        raise RequestError(f"{condition.name} {outside.flat[0]:g} is outside {low:g} to {high:g}")
    return found


def _expected(condition: Condition) -> str:
    return f"expected {condition.options.low:g} to {condition.options.high:g}"


def encode(condition: Condition, arrays: np.ndarray, _: Assets) -> dict[str, np.ndarray]:
    return {condition.name: arrays}


def nearest_to_nothing(condition: Condition) -> float:
    return float(min(max(0.0, condition.options.low), condition.options.high))


def null(condition: Condition, _: Mapping[str, int]) -> np.ndarray:
    return np.array(nearest_to_nothing(condition), np.float32)


def bounds(condition: Condition) -> tuple[float, float]:
    return condition.options.low, condition.options.high


KIND = Kind(Options, edge, tensors, parse, array, encode, null, check=check, bounds=bounds)
