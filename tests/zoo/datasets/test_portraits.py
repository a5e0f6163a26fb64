"""Portraits: captions say all that varies and nothing that does not show, and the pictures are the same to the bit."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from zoo.datasets import Data, DatasetError, portraits
from zoo.datasets.design_styles import DESIGNS
from zoo.datasets.portrait_styles import ABSENT, BY_WORD, STYLES, WORDS, Style
from zoo.datasets.portraits import CaptionError, Portrait, read

DRAWN = "bd83e8551de186e5"  # of the first three pictures of each style and their captions
IDS = [style.name for style in STYLES]


def first(style: Style) -> Portrait:
    return Portrait(style, {each.name: each.words[0] for each in style.attributes})


def said(data: Data) -> list[str]:
    return list(data.conditions["prompt"])


def test_the_vocabulary_is_closed() -> None:
    assert len(WORDS) == 103
    assert ABSENT not in WORDS
    captions = [portraits.portrait(style, index).caption for style in STYLES for index in range(300)]
    assert {word for caption in captions for word in caption.split()} == set(WORDS)


@pytest.mark.parametrize("style", STYLES, ids=IDS)
def test_a_caption_says_all_and_is_read_back(style: Style) -> None:
    for index in range(200):
        shown = portraits.portrait(style, index)
        assert read(shown.caption) == shown
        assert len(shown.caption.split()) <= 8


@pytest.mark.parametrize(
    ("caption", "said"),
    [
        ("", "names no style"),
        ("crittr blue dome", "names no style: did you mean critter"),
        ("mood mauve circle big smile on red", "'mauve', which says nothing of a mood: its color is one of blue, "),
        ("planet red cap thin moons tie", "'tie', which says nothing of a planet: nothing more"),
        ("mood blue red", "'red', which says nothing of a mood: its shape is one of"),
        ("mood on", "'on', which says nothing of a mood"),
        ("planet none", "'none', which says nothing of a planet"),
    ],
)
def test_another_text_is_refused(caption: str, said: str) -> None:
    with pytest.raises(CaptionError, match=said):
        read(caption)


def test_what_is_not_said_is_open_but_a_part_that_may_be_absent_is() -> None:
    assert read("planet").words == {"surface": ABSENT, "ring": ABSENT, "moons": ABSENT}
    assert read("on red mood big").words == {"eyes": "big", "cheeks": ABSENT, "on": "red"}


@pytest.mark.parametrize("style", DESIGNS, ids=[style.name for style in DESIGNS])
def test_a_split_holds_combinations_out_and_no_value(style: Style) -> None:
    shown = [portraits.portrait(style, index) for index in range(1500)]
    share = np.mean([each.held_out for each in shown])
    assert 0.15 < share < 0.28
    training = [each for each in shown if not each.held_out]
    for attribute in style.attributes:
        assert {each.words[attribute.name] for each in training} == set(attribute.words)
    for pair in style.held_out:
        seen = {tuple(each.words[name] for name in pair) for each in training}
        assert {tuple(each.words[name] for name in pair) for each in shown} - seen


@pytest.mark.parametrize("style", STYLES, ids=IDS)
def test_every_word_moves_pixels(style: Style) -> None:
    """Of a picture that is otherwise the same: each value of each attribute from each other one."""
    pytest.importorskip("dicebear")
    shown = first(style)
    for attribute in style.attributes:
        drawn = [portraits.draw(Portrait(style, {**shown.words, attribute.name: word})) for word in attribute.words]
        for index, picture in enumerate(drawn):
            for other in drawn[:index]:
                changed = np.abs(picture.astype(int) - other).max(axis=2) > 12
                assert changed.sum() >= 3, attribute.name


def test_pictures_are_the_same_to_the_bit() -> None:
    pytest.importorskip("dicebear")
    images, captions = portraits.pictures(portraits.SEED, 3)
    assert (images.shape, images.dtype) == ((18, 64, 64, 3), np.uint8)
    assert hashlib.sha256(images.tobytes() + "\n".join(captions).encode()).hexdigest()[:16] == DRAWN
    again, _ = portraits.pictures(portraits.SEED, 1)
    assert (again == images[:6]).all()
    assert (portraits.pictures(1, 1)[0] != again).any()


def test_a_set_is_drawn_once_and_split(tmp_path: Path) -> None:
    pytest.importorskip("dicebear")
    every = portraits.load("all", str(tmp_path), count=4)
    (file,) = tmp_path.iterdir()
    drawn = file.stat()
    train, test = (portraits.load(split, str(tmp_path), count=4) for split in ("train", "test"))
    assert len(every) == 24
    assert sorted(said(train) + said(test)) == sorted(said(every))
    assert all(read(caption).held_out for caption in said(test))
    assert not any(read(caption).held_out for caption in said(train))
    assert (every.images[said(every).index(said(test)[0])] == test.images[0]).all()
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (drawn.st_ino, drawn.st_mtime_ns)
    file.write_bytes(b"PK")
    with pytest.raises(DatasetError, match="remove it and it is drawn again"):
        portraits.load("all", str(tmp_path), count=4)


def test_the_designs_are_free_and_credited() -> None:
    pytest.importorskip("dicebear")
    import json
    from importlib import resources

    for style in BY_WORD.values():
        meta = json.loads((resources.files("dicebear_styles") / f"{style.name}.json").read_text("utf-8"))["meta"]
        assert meta["license"]["name"] == "CC0 1.0"
        assert meta["license"]["text"].startswith(style.credit)
