"""Classes as conditions."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from zoo.contract.assets import NO_ASSETS
from zoo.contract.conditions import Condition, arrays, class_id, default, kind, null
from zoo.contract.errors import RequestError
from zoo.contract.graph import TensorSpec
from zoo.plain import PlainError

CLASS = Condition("class_id", "class_id", class_id.Options(10), guided=True)


def test_edge_and_tensors_are_declared() -> None:
    assert kind(CLASS).edge(CLASS) == TensorSpec("class_id", "int64", ())
    assert kind(CLASS).tensors(CLASS) == (TensorSpec("class_ids", "int64", ()),)


def test_whole_numbers_of_every_type() -> None:
    found = arrays(CLASS, [3, np.int32(3), np.uint8(9)])
    assert found.dtype == np.int64
    assert found.tolist() == [3, 3, 9]
    assert kind(CLASS).encode(CLASS, found, NO_ASSETS)["class_ids"] is found


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (10, "class_id 10 is outside 0 to 9"),
        (-1, "class_id -1 is outside 0 to 9"),
        (3.0, r"class_id 3\.0 is no whole number: expected 0 to 9"),
        (True, "class_id True is no whole number: expected 0 to 9"),
        ("3", "class_id '3' is no whole number: expected 0 to 9"),
    ],
)
def test_refused_values(value: Any, sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        arrays(CLASS, [value])


def test_a_number_of_the_command_line() -> None:
    assert kind(CLASS).parse(CLASS, "3", {}) == 3
    with pytest.raises(RequestError, match="class_id 'boot'"):
        kind(CLASS).parse(CLASS, "boot", {})


def test_classes_in_turn_and_none_of_them() -> None:
    assert [default(CLASS, seed, NO_ASSETS) for seed in (0, 9, 10, 2**64 - 1)] == [0, 9, 0, 5]
    assert null(CLASS) == 10
    with pytest.raises(RequestError, match="class_id 10 is outside"):
        arrays(CLASS, [null(CLASS)[()]])


def test_the_count_of_a_generator() -> None:
    assert class_id.count((CLASS,)) == 10
    assert class_id.count(()) == 0


def test_json_and_back() -> None:
    for condition in (CLASS, Condition("kind", "class_id", class_id.Options(3), default=2, null=0)):
        assert Condition.from_json(json.loads(json.dumps(condition.to_json()))) == condition


@pytest.mark.parametrize("count", [0, -1, 65537])
def test_counts_that_cannot_be(count: int) -> None:
    with pytest.raises(PlainError, match=f"{count} classes are outside 1 to 65536"):
        Condition.from_json({"name": "class_id", "kind": "class_id", "options": {"count": count}})
