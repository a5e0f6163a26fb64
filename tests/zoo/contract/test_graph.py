"""Axes by name, perhaps with a factor."""

from __future__ import annotations

import pytest

from zoo.contract.graph import TensorSpec, concrete, factor, size

SIZES = {"height": 64, "kept": 3}


@pytest.mark.parametrize(
    ("axis", "length"), [(7, 7), ("height", 64), ("height/8", 8), ("2*height", 128), ("3*height/8", 24)]
)
def test_the_length_of_an_axis(axis: int | str, length: int) -> None:
    assert size(axis, SIZES) == length
    assert concrete((axis, "kept"), SIZES) == (length, 3)


@pytest.mark.parametrize("axis", ["width", "width/8", "height-8", "height/0", "0*height", "", "8", "height*2"])
def test_what_has_no_length(axis: str) -> None:
    with pytest.raises(KeyError):
        size(axis, SIZES)


def test_the_factor_of_an_axis() -> None:
    assert [factor(axis) for axis in ("height", "height/8", "3*height/2")] == [
        ("height", 1, 1),
        ("height", 1, 8),
        ("height", 3, 2),
    ]


def test_a_batch_comes_first() -> None:
    tensor = TensorSpec("x", "float32", (2, "height/8")).batched("terms")
    assert tensor.shape == ("batch", "terms", 2, "height/8")
    assert tensor.dynamic_axes == {0: "batch", 1: "terms", 3: "height/8"}
    assert tensor.zeros({"batch": 2, "terms": 1, "height": 16}).shape == (2, 1, 2, 2)
