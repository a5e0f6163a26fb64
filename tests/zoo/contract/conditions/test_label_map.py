"""Maps of classes as conditions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from zoo.contract.assets import NO_ASSETS, Assets
from zoo.contract.conditions import Condition, arrays, default, kind, label_map, null
from zoo.contract.errors import RequestError
from zoo.contract.graph import TensorSpec
from zoo.plain import PlainError

LABELS = Condition("labels", "label_map", label_map.Options(2, 3, 4))
MANY = Condition("labels", "label_map", label_map.Options("height/2", "width", 256))
SIZES = {"height": 4, "width": 3}
MAP = np.array([[0, 1, 2], [3, 0, 1]], np.uint8)


def test_edge_and_tensors_are_declared() -> None:
    """The edge holds `count` too, which is none of the classes."""
    assert kind(LABELS).edge(LABELS) == TensorSpec("labels", "uint8", (2, 3))
    assert kind(MANY).edge(MANY) == TensorSpec("labels", "int32", ("height/2", "width"))
    assert kind(MANY).tensors(MANY) == (TensorSpec("labels", "int64", ("height/2", "width")),)


def test_arrays_of_every_whole_type_lists_and_one_class() -> None:
    found = arrays(LABELS, [MAP, MAP.astype(np.int64), MAP.tolist(), 3])
    assert found.dtype == np.uint8
    assert np.array_equal(found, [MAP, MAP, MAP, np.full((2, 3), 3)])
    encoded = kind(LABELS).encode(LABELS, found, NO_ASSETS)["labels"]
    assert encoded.dtype == np.int64
    assert np.array_equal(encoded, found)
    assert arrays(MANY, [255], SIZES).dtype == np.int32


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (MAP + 1, r"labels has the class 4: expected whole numbers from 0 to 3, \(2, 3\)"),
        (-1, r"labels has the class -1: expected whole numbers from 0 to 3, \(2, 3\)"),
        (MAP.T, r"labels has the shape \(3, 2\): expected whole numbers"),
        (MAP / 2, r"labels is float64 \(2, 3\): expected whole numbers"),
        (MAP > 1, r"labels is bool \(2, 3\): expected whole numbers"),
        ("map.png", r"labels is 'map.png': expected whole numbers"),
        ([[1], [1, 2]], r"labels is \[\[1\], \[1, 2\]\]: expected whole numbers"),
    ],
)
def test_refused_values(value: Any, sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        arrays(LABELS, [value])


@pytest.mark.parametrize("mode", ["L", "P"])
def test_a_picture_s_grey_levels_or_palette_are_classes(tmp_path: Path, mode: str) -> None:
    large = np.kron(MAP, np.ones((5, 7), np.uint8))
    picture = Image.fromarray(large)
    if mode == "P":
        picture = Image.frombytes("P", picture.size, large.tobytes())
        picture.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0, 0, 0, 200])
    picture.save(tmp_path / "map.png")
    found = kind(LABELS).parse(LABELS, str(tmp_path / "map.png"), {})
    assert np.array_equal(arrays(LABELS, [found])[0], MAP)


def test_classes_of_sixteen_bits(tmp_path: Path) -> None:
    wide = Condition("labels", "label_map", label_map.Options(2, 3, 1000))
    Image.fromarray(MAP.astype(np.uint16) + 900).save(tmp_path / "map.png")
    assert np.array_equal(kind(wide).parse(wide, str(tmp_path / "map.png"), {}), MAP.astype(int) + 900)


def test_two_classes_of_one_bit(tmp_path: Path) -> None:
    Image.fromarray(MAP > 1).save(tmp_path / "map.png")
    assert np.array_equal(arrays(LABELS, [kind(LABELS).parse(LABELS, str(tmp_path / "map.png"), {})])[0], MAP > 1)


def test_a_picture_with_colours_is_no_map(tmp_path: Path) -> None:
    Image.new("RGB", (3, 2)).save(tmp_path / "map.png")
    with pytest.raises(RequestError, match=r"labels: .*map.png has colours, expected grey levels or a palette"):
        kind(LABELS).parse(LABELS, str(tmp_path / "map.png"), {})


def test_none_of_it_is_a_class_that_no_request_can_name() -> None:
    assert np.array_equal(null(LABELS), np.full((2, 3), 4, np.uint8))
    assert np.array_equal(null(MANY, SIZES), np.full((2, 3), 256, np.int32))
    with pytest.raises(RequestError, match="labels has the class 4"):
        arrays(LABELS, [null(LABELS)])


def test_examples_in_turn(tmp_path: Path) -> None:
    save_file({"labels": np.stack([MAP, MAP[::-1]])}, tmp_path / "examples.safetensors")
    assert np.array_equal(default(LABELS, 3, Assets(tmp_path)), MAP[::-1])


@pytest.mark.parametrize("condition", [LABELS, Condition("labels", "label_map", label_map.Options(2, 3, 4), default=1)])
def test_json_and_back(condition: Condition) -> None:
    assert Condition.from_json(json.loads(json.dumps(condition.to_json()))) == condition


def test_a_map_as_the_default() -> None:
    found = Condition.from_json({**LABELS.to_json(), "default": MAP.tolist()})
    assert np.array_equal(arrays(found, [default(found, 0, NO_ASSETS)])[0], MAP)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"height": 2, "width": 3, "count": 0}, "labels has 0 classes, expected 1 to 65536"),
        ({"height": 2, "width": 3, "count": 65537}, "labels has 65537 classes, expected 1 to 65536"),
        ({"height": -2, "width": 3, "count": 4}, "a side of labels is -2, expected 1 to 16384 or the name of a size"),
        ({"height": 2, "width": 3}, "condition labels lacks count"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PlainError, match=sentence):
        Condition.from_json({"name": "labels", "kind": "label_map", "options": options})


def test_every_class_has_a_colour_of_its_own_to_the_eye() -> None:
    colours = kind(MANY).picture(MANY, np.arange(257)[None, None])  # type: ignore[misc]
    assert (colours.shape, colours.dtype) == ((1, 1, 257, 3), np.uint8)
    assert len(np.unique(colours.reshape(-1, 3), axis=0)) > 250
