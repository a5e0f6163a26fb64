"""Numbers as conditions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoo.contract.assets import NO_ASSETS, Assets
from zoo.contract.conditions import Condition, arrays, default, kind, null, scalar
from zoo.contract.errors import RequestError
from zoo.contract.graph import TensorSpec
from zoo.plain import PlainError

SCALE = Condition("scale", "scalar", scalar.Options(0.0, 0.1))


def test_edge_and_tensors_are_declared() -> None:
    assert kind(SCALE).edge(SCALE) == TensorSpec("scale", "float32", ())
    assert kind(SCALE).tensors(SCALE) == (TensorSpec("scale", "float32", ()),)


def test_numbers_of_every_type() -> None:
    found = arrays(SCALE, [0, 0.05, np.float32(0.05), np.array(0.05), np.int64(0)])
    assert found.dtype == np.float32
    assert found.tolist() == [0.0, *[np.float32(0.05)] * 3, 0.0]
    assert kind(SCALE).encode(SCALE, found, NO_ASSETS)["scale"] is found


def test_an_end_is_in_the_range_before_and_after_it_travelled() -> None:
    """0.1 as float32 is more than 0.1."""
    assert arrays(SCALE, [0.1, np.float32(0.1)]).tolist() == [np.float32(0.1)] * 2


def test_a_number_of_the_command_line() -> None:
    assert kind(SCALE).parse(SCALE, "5e-2", {}) == 0.05
    with pytest.raises(RequestError, match=r"scale 'much' is no number: expected 0 to 0\.1"):
        kind(SCALE).parse(SCALE, "much", {})


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (-0.01, r"scale -0\.01 is outside 0 to 0\.1"),
        (0.11, r"scale 0\.11 is outside 0 to 0\.1"),
        (1e300, r"scale inf is outside 0 to 0\.1"),
        (float("nan"), r"scale is nan: expected 0 to 0\.1"),
        (float("inf"), r"scale is inf: expected 0 to 0\.1"),
        (True, r"scale is True: expected 0 to 0\.1"),
        ("0.05", r"scale is '0\.05': expected 0 to 0\.1"),
        ([0.05], r"scale has 1 numbers: expected 0 to 0\.1"),
        ([[1], [1, 2]], r"scale is \[\[1\], \[1, 2\]\]: expected 0 to 0\.1"),
        ("9" * 50, r"scale is '9{40}\.\.\.': expected"),
    ],
)
def test_refused_values(value: Any, sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        arrays(SCALE, [value])


@pytest.mark.parametrize(("low", "high", "found"), [(-1, 1, 0), (0.5, 2, 0.5), (-3, -2, -2)])
def test_none_of_it_is_what_is_nearest_to_nothing(low: float, high: float, found: float) -> None:
    assert null(Condition("scale", "scalar", scalar.Options(low, high))) == np.float32(found)


def test_what_nobody_gave() -> None:
    usual = Condition("scale", "scalar", scalar.Options(0.0, 1.0), default=0.7, null=1.0)
    assert default(usual, 5, NO_ASSETS) == 0.7
    assert null(usual) == 1.0
    with pytest.raises(RequestError, match="no scale was given, and this generator has no examples: give one"):
        default(SCALE, 5, NO_ASSETS)


def test_examples_in_turn(tmp_path: Path) -> None:
    (tmp_path / "examples.json").write_text('{"scale": [0.01, 0.02]}')
    assert [default(SCALE, seed, Assets(tmp_path)) for seed in (0, 1, 2)] == [0.01, 0.02, 0.01]


def test_json_and_back() -> None:
    for condition in (SCALE, Condition("scale", "scalar", scalar.Options(0.0, 1.0), default=0.7, guided=True)):
        assert Condition.from_json(json.loads(json.dumps(condition.to_json()))) == condition


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"low": 1.0, "high": 1.0}, "scale is from 1 to 1, expected two numbers, the lower first"),
        ({"low": 2, "high": 1}, "scale is from 2 to 1, expected"),
        ({"low": float("nan"), "high": 1}, "condition scale.low is nan, which is no sane number"),
        ({"low": 0}, "condition scale lacks high"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PlainError, match=sentence):
        Condition.from_json({"name": "scale", "kind": "scalar", "options": options})


def test_a_default_outside_the_range() -> None:
    with pytest.raises(PlainError, match=r"condition scale: scale 7 is outside 0 to 0\.1"):
        Condition.from_json({**SCALE.to_json(), "default": 7})
