"""What a program may give: values as they come in Python and NumPy, or one sentence."""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
import pytest

from serving import generators
from tests.serving.conftest import ITERATIVE
from tests.toys.toy_scenes import PAINTER, scene
from zoo.contract.errors import RequestError
from zoo.contract.request import Setting, columns

PICTURE = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
SCENE = scene("scene")


def sent(spec: Any, seeds: Any, setting: Setting | None = None, sizes: Any = None, **given: Any) -> dict[str, Any]:
    return columns(spec, generators.request_of(spec, seeds, given, setting or Setting(), sizes))


@pytest.mark.parametrize(
    ("class_id", "expected"),
    [
        (3, [3, 3, 3]),
        (np.int64(3), [3, 3, 3]),
        ([1, 2], [1, 2, 1]),
        ((1, 2, 3), [1, 2, 3]),
        (range(2), [0, 1, 0]),
        (np.array([4, 5], np.uint8), [4, 5, 4]),
    ],
)
def test_one_value_is_for_all_and_several_are_in_turn(class_id: Any, expected: list[int]) -> None:
    assert sent(ITERATIVE, np.arange(3), class_id=class_id)["class_id"].tolist() == expected


def test_an_array_with_an_axis_more_is_several() -> None:
    stack = np.stack([PICTURE, PICTURE[::-1]])
    for several in (stack, list(stack)):
        assert np.array_equal(sent(ITERATIVE, (1, 2), image=several)["image"], stack)
    assert np.array_equal(sent(ITERATIVE, (1, 2), image=PICTURE)["image"], np.stack([PICTURE, PICTURE]))
    both = np.float32([[0, 0, 1], [1, 0, 0]])
    given = {"picture": PICTURE, "ground": 0}
    assert np.array_equal(sent(PAINTER, (1, 2), attributes=both, **given)["attributes"], both)
    assert np.array_equal(sent(PAINTER, (1, 2), attributes=both[0], **given)["attributes"], both[[0, 0]])


def test_numbers_of_numpy_are_numbers() -> None:
    setting: Any = Setting(np.int32(3), np.str_("heun"), np.float32(2.0), guidance_interval=[0.5, np.float64(2)])  # type: ignore[arg-type]
    found = sent(ITERATIVE, [np.uint64(2**64 - 1)], setting)
    assert {name: column.tolist() for name, column in found.items()} == {
        "seed": [2**64 - 1],
        "num_steps": [3],
        "sampler": ["heun"],
        "guidance_scale": [2.0],
        "guidance_interval": [[0.5, 2.0]],
    }
    assert sent(SCENE, [1], sizes={"height": np.int64(16)})["height"].tolist() == [16]


@pytest.mark.parametrize(
    ("seeds", "sentence"),
    [
        (5, "seeds 5: give several, like"),
        (None, "seeds None: give several"),
        ("0-3", "seed '0' is no whole number"),
        ([1.5], "seed 1.5 is no whole number"),
        ([True], "seed True is no whole number"),
        ([2**64], "is outside 0 to 2"),
        ([10**5000], "seed of 16,610 bits is outside"),
        (np.zeros((2, 2), int), r"seed int64 \(2,\) is no whole number"),
        ([], "no seed was given"),
        (range(10**12), "more than 100,000 seeds"),
        (count(), "more than 100,000 seeds"),
    ],
)
def test_seeds_that_are_none(seeds: Any, sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        sent(ITERATIVE, seeds)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"num_steps": 2.5}, "num_steps 2.5 is no whole number"),
        ({"num_steps": "4"}, "num_steps '4' is no whole number"),
        ({"num_steps": True}, "num_steps True is no whole number"),
        ({"num_steps": 10**5000}, "num_steps of 16,610 bits is outside 1 to 1000"),
        ({"sampler": 5}, "sampler 5 is no name"),
        ({"guidance_scale": None}, "guidance_scale None is no number"),
        ({"guidance_scale": "2"}, "guidance_scale '2' is no number"),
        ({"guidance_scale": 10**400}, "guidance_scale of 1,329 bits is no number"),
        ({"guidance_scale": np.array([2.0])}, r"guidance_scale float64 \(1,\) is no number"),
        ({"guidance_scales": (("class_id", "2"),)}, "guidance_scale of class_id '2' is no number"),
        ({"guidance_interval": ()}, r"guidance_interval \(\): give two noise levels"),
        ({"guidance_interval": (1, 2, 3)}, r"guidance_interval \(1, 2, 3\): give two noise levels"),
        ({"guidance_interval": "ab"}, "guidance_interval 'ab': give two noise levels"),
        ({"guidance_interval": (None, 1)}, "guidance_interval None is no number"),
        ({"strength": True}, "strength True is no number"),
    ],
)
def test_settings_that_are_none(setting: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        sent(ITERATIVE, [1], Setting(**setting))


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        (5, "sizes 5: give each by its name"),
        ({5: 8}, "scene has no size 5: it has height, width"),
        ({"height": "8"}, "height '8' is no whole number"),
        ({"height": 8.0}, "height 8.0 is no whole number"),
        ({"height": True}, "height True is no whole number"),
    ],
)
def test_sizes_that_are_none(sizes: Any, sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        sent(SCENE, [1], sizes=sizes)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"class_id": 3.0}, "class_id 3.0 is no whole number"),
        ({"class_id": 10**5000}, "class_id of 16,610 bits is outside 0 to 9"),
        ({"class_id": np.array([])}, "0 class_id for 1 seeds"),
        ({"class_id": [1, 2]}, "2 class_id for 1 seeds"),
        ({"image": "picture.png"}, "image is of type str: expected pixels"),
        ({"image": PICTURE / 2}, "image is float64"),
        ({"image": PICTURE, "mask_image": PICTURE > 3}, "mask_image is bool"),
        ({"num_step": 4}, "takes no num_step"),
    ],
)
def test_values_that_are_none(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        sent(ITERATIVE, [1], **given)
