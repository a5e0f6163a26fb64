"""Emoji: what is kept of OpenMoji, and that an outline is its picture's; illustrations are all three together."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.datasets import Data, DatasetError, emoji, illustrations
from zoo.datasets.parts import outlines


@pytest.fixture(scope="module")
def every() -> Data:
    try:
        return emoji.load("all")
    except DatasetError as error:
        pytest.skip(str(error))


def test_what_is_kept_is_of_seven_kinds_and_no_sign_or_flag(every: Data) -> None:
    assert np.bincount(every.conditions["class_id"]).tolist() == [119, 9, 25, 131, 29, 104, 20]
    names = set(every.conditions["prompt"])
    assert {"hot dog", "red heart", "grinning face", "cactus"} <= names
    assert not any("flag" in name or "sign" in name for name in names)


def test_an_outline_lies_where_its_picture_has_lines(every: Data) -> None:
    drawn = every.conditions["outline"]
    assert (drawn.shape, drawn.dtype) == ((len(every), 64, 64, 1), np.uint8)
    ink = drawn[..., 0] > 200
    dark = every.images.max(axis=-1) < 100
    assert (ink & dark).sum() / ink.sum() > 0.8
    lines = outlines(every.images[:50])[..., 0] > 0
    near = (
        ink[:50]
        | np.roll(ink[:50], 1, 1)
        | np.roll(ink[:50], -1, 1)
        | np.roll(ink[:50], 1, 2)
        | np.roll(ink[:50], -1, 2)
    )
    assert (lines & near).sum() / lines.sum() > 0.7


def test_an_illustration_is_of_any_part_and_emoji_are_a_tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"designs": 150, "scenes": 30, "emoji": 7}
    for part in illustrations.PARTS:
        name = part.DATASET.name
        images = np.full((sizes[name], 2, 2, 3), len(name), np.uint8)
        data = Data(images, {"prompt": [name] * sizes[name]})
        monkeypatch.setattr(part, "load", lambda split, source, data=data: data)
    train, test = (illustrations.load(split) for split in ("train", "test"))
    assert [train.conditions["prompt"].count(name) for name in sizes] == [150, 30, 21]
    assert [test.conditions["prompt"].count(name) for name in sizes] == [150, 30, 7]
    assert [len(name) for name in train.conditions["prompt"]] == train.images[:, 0, 0, 0].tolist()
