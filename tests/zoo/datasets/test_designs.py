"""Designs: twelve styles by one grammar, whose captions in any order never say what is not so, and exact parts."""

from __future__ import annotations

import hashlib
import json
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from tests import grammar_table
from zoo.datasets import dataset, designs, more_designs, parts, portraits
from zoo.datasets.design_styles import DESIGNS, MORE_STYLES, NOUNS, WORDS
from zoo.datasets.portrait_styles import ABSENT, Style
from zoo.datasets.portraits import Portrait, portrait

DRAWN = "4be5fe436b568b30"  # of the first two pictures of each style and their captions
IDS = [style.name for style in DESIGNS]
NEW = [style.name for style in MORE_STYLES]


def first(style: Style) -> Portrait:
    return Portrait(style, {each.name: each.words[0] for each in style.attributes})


def test_the_vocabulary_is_closed() -> None:
    assert len(WORDS) == 149
    draws = np.random.default_rng(0)
    captions = [designs.told(portrait(style, index), draws) for style in DESIGNS for index in range(300)]
    assert {word for caption in captions for word in caption.split()} == set(WORDS)
    assert max(len(caption.split()) for caption in captions) == 11


@pytest.mark.parametrize("style", DESIGNS, ids=IDS)
def test_a_caption_is_true_in_any_order_and_whole_ones_say_all(style: Style) -> None:
    draws, shorter = np.random.default_rng(1), 0
    for index in range(200):
        shown = portrait(style, index)
        assert designs.understood(designs.whole(shown)) == shown
        shuffled = draws.permutation([style.word, *shown.phrases.values()])
        assert designs.understood(" ".join(shuffled.tolist())) == shown
        known = designs.understood(designs.told(shown, draws)).words
        assert known.items() <= shown.words.items()
        shorter += len(known) < len(shown.words)
    assert shorter


def test_a_word_of_two_attributes_is_told_by_a_noun() -> None:
    assert {"hair", "shirt", "body", "glow"} == NOUNS
    said = designs.understood("red shirt pixel blond hair on blue").words
    assert (said["shirt"], said["hair"], said["on"]) == ("red", "blond", "blue")


def test_labels_are_exact() -> None:
    shown = [portrait(style, 5) for style in DESIGNS]
    rows = designs.attributes(shown)
    assert rows.shape == (12, len(designs.HEADS))
    for row, each in zip(rows, shown, strict=True):
        named = {
            head: words[place] for (head, words), place in zip(designs.HEADS.items(), row, strict=True) if place >= 0
        }
        assert named.pop((designs.STYLE, designs.STYLE)) == each.style.name
        assert {name: word for (_, name), word in named.items()} == each.words
    assert (designs.attributes([designs.understood("critter blue")])[0] >= 0).sum() == 3  # its style, colour, no top


@pytest.mark.parametrize("style", MORE_STYLES, ids=NEW)
def test_every_word_moves_pixels(style: Style) -> None:
    """Of a picture that is otherwise the same: each value of each attribute from each other one."""
    pytest.importorskip("dicebear")
    shown = first(style)
    for attribute in style.attributes:
        drawn = [portraits.draw(shown.with_word(attribute.name, word)) for word in attribute.words]
        for index, picture in enumerate(drawn):
            for other in drawn[:index]:
                assert parts.changed(picture, other).sum() >= 20, attribute.name


def test_pictures_are_the_same_to_the_bit() -> None:
    pytest.importorskip("dicebear")
    images, captions = portraits.pictures(designs.SEED, 2, DESIGNS)
    assert (images.shape, images.dtype) == ((24, 64, 64, 3), np.uint8)
    assert hashlib.sha256(images.tobytes() + "\n".join(captions).encode()).hexdigest()[:16] == DRAWN
    old = [row for row, style in enumerate(DESIGNS) if style not in MORE_STYLES]
    assert (images[old] == portraits.pictures(designs.SEED, 1)[0]).all()


def test_a_set_is_drawn_once_and_split(tmp_path: Path) -> None:
    pytest.importorskip("dicebear")
    every = designs.load("all", str(tmp_path), count=4)
    assert len(list(tmp_path.iterdir())) == 1
    train, test = (designs.load(split, str(tmp_path), count=4) for split in ("train", "test"))
    assert len(every) == len(train) + len(test) == 48
    for split, held_out in ((train, False), (test, True)):
        names = [words for _, words in designs.HEADS.items()]
        for row, caption in zip(np.asarray(split.conditions["attributes"]), split.conditions["prompt"], strict=True):
            style = designs.understood(caption).style
            words = {
                name: names[column][row[column]]
                for column, (of, name) in enumerate(designs.HEADS)
                if of == style.name and row[column] >= 0
            }
            assert Portrait(style, words).held_out is held_out


def test_judges_learn_from_other_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dicebear")
    monkeypatch.setattr(designs, "COUNT", 6)
    monkeypatch.setattr(more_designs, "DRAWN", {"train": (1, 3), "test": (2, 2)})
    monkeypatch.setattr(designs.load, "__kwdefaults__", {"seed": designs.SEED, "count": 6})
    mine = {picture.tobytes() for picture in designs.load("train", str(tmp_path)).images}
    train, test = (more_designs.load(split, str(tmp_path)) for split in ("train", "test"))
    pictures = [{picture.tobytes() for picture in part.images} for part in (train, test)]
    assert not mine & pictures[0]
    assert not (mine | pictures[0]) & pictures[1]
    assert len(train.conditions["prompt"]) == len(np.asarray(train.conditions["attributes"])) == len(train)


@pytest.mark.parametrize("style", DESIGNS, ids=IDS)
def test_parts_are_where_they_are_drawn(style: Style) -> None:
    pytest.importorskip("dicebear")
    shown = portrait(style, 3)
    found, there = parts.part_map(shown, "0 3"), parts.parts_of(shown)
    assert (found.shape, found.dtype) == ((64, 64), np.uint8)
    assert 500 < (found == parts.GROUND_PART).sum() < 3700
    assert set(np.unique(found)) <= set(range(2 + len(there)))
    eyes = [place for place, each in enumerate(there) if each.name == "eyes"]
    assert all((found == 2 + place).sum() >= 10 for place in eyes)


def test_a_counterfactual_differs_where_the_attribute_is() -> None:
    pytest.importorskip("dicebear")
    shown = first(DESIGNS[0])
    picture, other, where = parts.counterfactual(shown, "mouth", "teeth")
    assert 3 <= where.sum() <= 300
    assert where[36:].sum() > 0.9 * where.sum()  # a mouth is below
    assert (picture[~where].astype(int) - other[~where] <= parts.CHANGED).all()
    same = parts.counterfactual(shown, "mouth", shown.words["mouth"])
    assert not same[2].any()


def test_an_outline_is_where_colours_meet() -> None:
    pictures = np.zeros((1, 8, 8, 3), np.uint8)
    pictures[:, 2:6, 2:6] = 200
    lines = parts.outlines(pictures)[0, ..., 0] > 0
    assert (lines.shape, lines.sum()) == ((8, 8), 15)
    assert lines[1, 2:6].all()
    assert lines[5, 2:6].all()
    assert not parts.outlines(np.full((1, 8, 8, 3), 9, np.uint8)).any()


def test_the_designs_are_free_and_credited() -> None:
    pytest.importorskip("dicebear")
    for style in DESIGNS:
        meta = json.loads((resources.files("dicebear_styles") / f"{style.name}.json").read_text("utf-8"))["meta"]
        assert meta["license"]["name"] == "CC0 1.0"
        assert meta["license"]["text"].startswith(style.credit)
        assert style.credit in designs.DATASET.credit
    assert ABSENT not in WORDS


def test_the_page_states_the_grammar_and_the_counts() -> None:
    page = grammar_table.PAGE.read_text()
    assert grammar_table.table() in page, "run `python -m tests.grammar_table`"
    for name in ("designs", "more_designs", "scenes", "emoji", "illustrations"):
        counts = dataset(name).counts
        assert f"| `{name}` | {counts['train']:,} and {counts['test']:,} |" in page
