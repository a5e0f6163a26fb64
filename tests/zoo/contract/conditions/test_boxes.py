"""Boxes as conditions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoo.contract.assets import NO_ASSETS, Assets
from zoo.contract.conditions import Condition, arrays, boxes, default, kind, null
from zoo.contract.errors import RequestError
from zoo.contract.graph import TensorSpec
from zoo.plain import PlainError

BOXES = Condition("boxes", "boxes", boxes.Options(2, 3))
ONE, OTHER = (2, 0.0, 0.25, 0.5, 1.0), (0, 0.5, 0.5, 0.75, 0.625)
ABSENT = [-1, 0, 0, 0, 0]


def test_edge_and_tensors_are_declared() -> None:
    assert kind(BOXES).edge(BOXES) == TensorSpec("boxes", "float32", (2, 5))
    corners, labels = kind(BOXES).tensors(BOXES)
    assert corners == TensorSpec("boxes", "float32", (2, 4))
    assert labels == TensorSpec("boxes_labels", "int64", (2,))


def test_boxes_and_what_is_absent() -> None:
    found = arrays(BOXES, [[ONE, OTHER], [list(OTHER)], [], null(BOXES)])
    assert found.dtype == np.float32
    assert found.tolist() == [[[*ONE], [*OTHER]], [[*OTHER], ABSENT], [ABSENT, ABSENT], [ABSENT, ABSENT]]
    encoded = kind(BOXES).encode(BOXES, found, NO_ASSETS)
    assert encoded["boxes"].tolist()[1] == [[0.5, 0.5, 0.75, 0.625], [0, 0, 0, 0]]
    assert encoded["boxes_labels"].tolist() == [[2, 0], [0, 3], [3, 3], [3, 3]]
    assert encoded["boxes_labels"].dtype == np.int64


def test_what_travelled_is_what_was_said() -> None:
    """Arrays may have more rows than boxes, and absent ones anywhere; boxes keep their order."""
    rows = np.array([ABSENT, ONE, ABSENT, OTHER], np.float32)
    assert np.array_equal(arrays(BOXES, [rows]), arrays(BOXES, [[ONE, OTHER]]))
    assert np.array_equal(arrays(BOXES, [arrays(BOXES, [[OTHER]])[0]]), arrays(BOXES, [[OTHER]]))


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (
            [ONE, ONE, ONE],
            r"boxes are 3 boxes: expected at most 2 boxes \[class, left, top, right, bottom\], classes 0 to 2",
        ),
        ([(3, 0, 0, 1, 1)], "boxes have the class 3: expected"),
        ([(-2, 0, 0, 1, 1)], "boxes have the class -2: expected"),
        ([(0.5, 0, 0, 1, 1)], r"boxes have the class 0\.5: expected"),
        ([(0, 0.5, 0, 0.25, 1)], r"boxes have the corners 0\.5 0 0\.25 1: expected"),
        ([(0, 0, 1, 1, 0)], "boxes have the corners 0 1 1 0: expected"),
        ([(0, 0.5, 0, 0.5, 1)], r"boxes have the corners 0\.5 0 0\.5 1: expected"),
        ([(0, -0.1, 0, 1, 1)], r"boxes have the corners -0\.1 0 1 1: expected"),
        ([(0, 0, 0, 1, 8)], "boxes have the corners 0 0 1 8: expected .* corners in 0 to 1"),
        ([(0, 0, 1, 1)], r"boxes have the shape \(1, 4\): expected"),
        (ONE, r"boxes have the shape \(5,\): expected"),
        ([ONE, (0, 1)], r"boxes is \[\(2, 0\.0.*: expected"),
        ("cat", "boxes is 'cat': expected"),
        ([(0, 0, 0, 1, float("nan"))], r"boxes is \[\(0, 0, 0, 1, nan\)\]: expected"),
    ],
)
def test_refused_values(value: Any, sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        arrays(BOXES, [value])


def test_json_of_the_command_line_or_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "boxes.json"
    path.write_text("[[2, 0.0, 0.25, 0.5, 1.0]]\n")
    for words in ("[[2, 0.0, 0.25, 0.5, 1.0]]", f"@{path}"):
        assert np.array_equal(arrays(BOXES, [kind(BOXES).parse(BOXES, words, {})]), arrays(BOXES, [[ONE]]))
    many = Condition("boxes", "boxes", boxes.Options(1024, 3))
    path.write_text(json.dumps([(1, 0.123456789, 0.123456789, 0.987654321, 0.987654321)] * 1024))
    assert len(kind(many).parse(many, f"@{path}", {})) == 1024
    with pytest.raises(RequestError, match="boxes '2 0 0 1 1' is no JSON: expected at most 2 boxes"):
        kind(BOXES).parse(BOXES, "2 0 0 1 1", {})
    with pytest.raises(RequestError, match=r"boxes is \{'a': 1\}: expected at most 2 boxes"):
        arrays(BOXES, [kind(BOXES).parse(BOXES, '{"a": 1}', {})])


def test_examples_in_turn(tmp_path: Path) -> None:
    (tmp_path / "examples.json").write_text(json.dumps({"boxes": [[ONE], [], [OTHER, ONE]]}))
    found = arrays(BOXES, [default(BOXES, seed, Assets(tmp_path)) for seed in range(4)])
    assert np.array_equal(found, arrays(BOXES, [[ONE], [], [OTHER, ONE], [ONE]]))


@pytest.mark.parametrize(
    "condition", [BOXES, Condition("boxes", "boxes", boxes.Options(2, 3), default=(ONE,), guided=True)]
)
def test_json_and_back(condition: Condition) -> None:
    found = Condition.from_json(json.loads(json.dumps(condition.to_json())))
    assert found == condition
    assert hash(found) == hash(condition)  # tables are cached by what they are of


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"most": 0, "count": 3}, "boxes are 0 boxes, expected 1 to 1024"),
        ({"most": 1025, "count": 3}, "boxes are 1025 boxes, expected 1 to 1024"),
        ({"most": 2, "count": 0}, "boxes have 0 classes, expected 1 to 65536"),
        ({"most": 2}, "condition boxes lacks count"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PlainError, match=sentence):
        Condition.from_json({"name": "boxes", "kind": "boxes", "options": options})


def test_a_default_that_is_no_box() -> None:
    with pytest.raises(PlainError, match="condition boxes: boxes have the class 9: expected"):
        Condition.from_json({**BOXES.to_json(), "default": [[9, 0, 0, 1, 1]]})
