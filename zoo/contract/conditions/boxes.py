"""Boxes, each with a class, 0 to count - 1: what stands where; none of it is no box."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.contract.assets import Assets
from zoo.contract.conditions import Condition, Kind, scalar, text
from zoo.contract.conditions.class_id import MAX_COUNT
from zoo.contract.errors import RequestError, shown
from zoo.contract.graph import TensorSpec
from zoo.plain import PlainError

MAX_BOXES = 1024
MAX_JSON = 1 << 18  # characters
ABSENT = -1  # the class of a row that is no box


@dataclass(frozen=True)
class Options:
    """At most so many boxes of so many classes."""

    most: int
    count: int


def check(condition: Condition) -> None:
    options = condition.options
    if not 1 <= options.most <= MAX_BOXES:
        raise PlainError(f"{condition.name} are {options.most} boxes, expected 1 to {MAX_BOXES}")
    if not 1 <= options.count <= MAX_COUNT:
        raise PlainError(f"{condition.name} have {options.count} classes, expected 1 to {MAX_COUNT}")


def edge(condition: Condition) -> TensorSpec:
    return TensorSpec(condition.name, "float32", (condition.options.most, 5))


def tensors(condition: Condition) -> tuple[TensorSpec, ...]:
    most = condition.options.most
    return (
        TensorSpec(condition.name, "float32", (most, 4)),
        TensorSpec(f"{condition.name}_labels", "int64", (most,)),
    )


def parse(condition: Condition, words: str, _: Mapping[str, int]) -> Any:
    """JSON, [[class, left, top, right, bottom], ...], or the file @PATH of it."""
    found = text.words_of(condition, words, MAX_JSON)
    try:
        return json.loads(found)
    except (ValueError, RecursionError):
        raise RequestError(f"{condition.name} {shown(found)} is no JSON: {_expected(condition)}") from None


def array(condition: Condition, value: Any, _: Mapping[str, int]) -> np.ndarray:
    """Rows of (class, left, top, right, bottom), corners as shares of the picture; boxes come first, in their order."""
    options, wanted = condition.options, _expected(condition)
    rows = scalar.numbers(condition, value, wanted)
    rows = rows.reshape(0, 5) if rows.shape == (0,) else rows
    if rows.ndim != 2 or rows.shape[1] != 5:
        raise RequestError(f"{condition.name} have the shape {rows.shape}: {wanted}")
    rows = rows[rows[:, 0] != ABSENT]
    if len(rows) > options.most:
        raise RequestError(f"{condition.name} are {len(rows)} boxes: {wanted}")
    for label, *corners in rows.tolist():
        if label not in range(options.count):
            raise RequestError(f"{condition.name} have the class {label:g}: {wanted}")
        left, top, right, bottom = corners
        if not (0.0 <= left < right <= 1.0 and 0.0 <= top < bottom <= 1.0):
            seen = " ".join(f"{each:g}" for each in corners)
            raise RequestError(f"{condition.name} have the corners {seen}: {wanted}")
    found = null(condition, {})
    found[: len(rows)] = rows
    return found


def _expected(condition: Condition) -> str:
    most, last = condition.options.most, condition.options.count - 1
    return f"expected at most {most} boxes [class, left, top, right, bottom], classes 0 to {last}, corners in 0 to 1"


def encode(condition: Condition, arrays: np.ndarray, _: Assets) -> dict[str, np.ndarray]:
    labels = arrays[..., 0].astype(np.int64)
    labels[labels == ABSENT] = condition.options.count
    return {condition.name: arrays[..., 1:], f"{condition.name}_labels": labels}


def null(condition: Condition, _: Mapping[str, int]) -> np.ndarray:
    return np.tile(np.array([ABSENT, 0, 0, 0, 0], np.float32), (condition.options.most, 1))


KIND = Kind(Options, edge, tensors, parse, array, encode, null, check=check)
