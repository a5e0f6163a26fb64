"""Several numbers as one condition."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from zoo.contract.assets import NO_ASSETS, Assets
from zoo.contract.conditions import Condition, arrays, default, kind, null, vector
from zoo.contract.errors import RequestError
from zoo.contract.graph import TensorSpec
from zoo.plain import PlainError

ATTRIBUTES = Condition("attributes", "vector", vector.Options(3))
POSITIVE = Condition("style", "vector", vector.Options(2, 0.5, 2.0))


def test_edge_and_tensors_are_declared() -> None:
    assert kind(ATTRIBUTES).edge(ATTRIBUTES) == TensorSpec("attributes", "float32", (3,))
    assert kind(ATTRIBUTES).tensors(ATTRIBUTES) == (TensorSpec("attributes", "float32", (3,)),)


def test_lists_and_arrays() -> None:
    found = arrays(ATTRIBUTES, [[1, -1, 0.1], (1, -1, 0.1), np.array([1, -1, 0.1], np.float32)])
    assert found.dtype == np.float32
    assert found.tolist() == [[1.0, -1.0, np.float32(0.1)]] * 3
    assert kind(ATTRIBUTES).encode(ATTRIBUTES, found, NO_ASSETS)["attributes"] is found


def test_numbers_of_the_command_line() -> None:
    assert kind(ATTRIBUTES).parse(ATTRIBUTES, "1, -.5,0", {}) == [1.0, -0.5, 0.0]
    with pytest.raises(
        RequestError, match=r"attributes '1;2' is no list like 0\.5,-1: expected 3 numbers from -1 to 1"
    ):
        kind(ATTRIBUTES).parse(ATTRIBUTES, "1;2", {})


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ([1, 0], "attributes has 2 numbers: expected 3 numbers from -1 to 1"),
        (1, r"attributes has the shape \(\): expected 3 numbers"),
        ([[1, 0, 0]], r"attributes has the shape \(1, 3\): expected 3 numbers"),
        ([1, 0, -2], "attributes -2 is outside -1 to 1"),
        ([1, 0, None], r"attributes is \[1, 0, None\]: expected 3 numbers"),
        ([True, False, True], r"attributes is \[True, False, True\]: expected 3 numbers"),
        ([1, 0, float("nan")], r"attributes is \[1, 0, nan\]: expected 3 numbers"),
    ],
)
def test_refused_values(value: Any, sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        arrays(ATTRIBUTES, [value])


def test_none_of_it() -> None:
    assert null(ATTRIBUTES).tolist() == [0.0, 0.0, 0.0]
    assert null(POSITIVE).tolist() == [0.5, 0.5]
    assert null(Condition("style", "vector", vector.Options(2), null=(1, 0))).tolist() == [1.0, 0.0]


def test_examples_in_turn(tmp_path: Path) -> None:
    rows = np.eye(3, dtype=np.float32)[:2]
    save_file({"attributes": rows}, tmp_path / "examples.safetensors")
    for seed in range(4):
        assert np.array_equal(default(ATTRIBUTES, seed, Assets(tmp_path)), rows[seed % 2])


@pytest.mark.parametrize("condition", [ATTRIBUTES, Condition("style", "vector", vector.Options(2), default=(1, 0.5))])
def test_json_and_back(condition: Condition) -> None:
    found = Condition.from_json(json.loads(json.dumps(condition.to_json())))
    assert found == condition
    assert hash(found) == hash(condition)  # tables are cached by what they are of


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"length": 0}, "attributes has 0 numbers, expected 1 to 65536"),
        ({"length": 65537}, "attributes has 65537 numbers, expected 1 to 65536"),
        ({"length": 3, "low": 2.0}, "attributes is from 2 to 1, expected two numbers, the lower first"),
        ({"length": 3.5}, r"condition attributes.length is 3\.5, expected int"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PlainError, match=sentence):
        Condition.from_json({"name": "attributes", "kind": "vector", "options": options})


def test_a_default_of_another_length() -> None:
    with pytest.raises(PlainError, match="condition attributes: attributes has 1 numbers: expected 3"):
        Condition.from_json({**ATTRIBUTES.to_json(), "default": [1]})
