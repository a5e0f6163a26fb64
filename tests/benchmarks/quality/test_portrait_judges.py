"""Judges of portraits: they read what real pictures show, tell one wrong word, and are what was published."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.quality.features import FeatureNetError
from benchmarks.quality.judges.captioned import STYLE
from benchmarks.quality.judges.portraits import CAPTIONED
from zoo.datasets import more_portraits, portraits
from zoo.datasets.portrait_styles import ABSENT, STYLES, WORDS
from zoo.datasets.portraits import Portrait, read

SEED, COUNT = 77, 12  # of pictures that neither judge has seen
CAPTION = "mood pink tall closed laugh blush on black"


@pytest.fixture(scope="module")
def pictures() -> tuple[np.ndarray, list[str]]:
    pytest.importorskip("dicebear")
    return portraits.pictures(SEED, COUNT)


def changed(caption: str, attribute: str) -> str:
    """The same with the next word of an attribute."""
    shown = read(caption)
    words = shown.style.attribute(attribute).words
    other = words[(words.index(shown.words[attribute]) + 1) % len(words)]
    return Portrait(shown.style, {**shown.words, attribute: other}).caption


def test_judges_learn_from_other_pictures() -> None:
    seeds = {seed for seed, _ in more_portraits.DRAWN.values()}
    assert not seeds & {portraits.SEED, SEED}


def test_the_truth_of_a_caption() -> None:
    (row,) = CAPTIONED.truth([CAPTION])
    told = {head: words[place] for (head, words), place in zip(CAPTIONED.heads.items(), row, strict=True) if place >= 0}
    said = {"color": "pink", "shape": "tall", "eyes": "closed", "mouth": "laugh", "cheeks": "blush", "on": "black"}
    assert told == {(STYLE, STYLE): "moods", **{("moods", key): word for key, word in said.items()}}


def test_tokens_are_places_in_the_vocabulary() -> None:
    (row,) = CAPTIONED.tokens(["planet red"])
    assert [WORDS[token - 1] for token in row if token] == ["planet", "red"]
    captions = [portraits.portrait(style, index).caption for style in STYLES for index in range(50)]
    assert max(len(caption.split()) for caption in captions) == CAPTIONED.length


def test_real_pictures_show_their_captions(pictures: tuple[np.ndarray, list[str]]) -> None:
    images, captions = pictures
    right = CAPTIONED.right(images, captions)
    assert np.nanmean(right) > 0.98
    assert right[:, 0].all()
    assert np.nanmean(CAPTIONED.right(images, captions[6:] + captions[:6])[:, 1:]) < 0.4


def test_one_wrong_word_is_told_and_no_other(pictures: tuple[np.ndarray, list[str]]) -> None:
    images, captions = pictures
    wrong = [changed(caption, read(caption).style.attributes[0].name) for caption in captions]
    before, after = CAPTIONED.right(images, captions), CAPTIONED.right(images, wrong)
    assert (np.nansum(before, axis=1) - np.nansum(after, axis=1) == 1.0).mean() > 0.95


def test_pictures_agree_with_their_own_captions(pictures: tuple[np.ndarray, list[str]]) -> None:
    images, captions = pictures
    found = CAPTIONED.agreement(images, captions)
    assert found.shape == (len(images), len(captions))
    own, best = np.diag(found), found.argmax(1)
    assert np.mean([captions[place] == caption for place, caption in zip(best, captions, strict=True)]) > 0.9
    last = [read(caption).style.attributes[0].name for caption in captions]
    wrong = CAPTIONED.agreement(images, [changed(*each) for each in zip(captions, last, strict=True)])
    assert (own > np.diag(wrong)).mean() > 0.9


def test_an_altered_judge_is_refused(tmp_path: Path) -> None:
    for name in ("attributes", "pair"):
        shutil.copytree(CAPTIONED.folder / name, tmp_path / name)
    copied = dataclasses.replace(CAPTIONED, folder=tmp_path)
    assert copied.config("pair")["dataset"] == more_portraits.DATASET.name
    weights = tmp_path / "pair" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(FeatureNetError, match="was altered, restore it from the repository"):
        copied.config("pair")
    (tmp_path / "attributes" / "config.json").unlink()
    with pytest.raises(FeatureNetError, match="is not readable"):
        copied.config("attributes")


def test_judges_are_small() -> None:
    for name in ("attributes", "pair"):
        found = json.loads((CAPTIONED.folder / name / "config.json").read_text())
        assert found["parameters"] <= 1_000_000
        assert sum(path.stat().st_size for path in (CAPTIONED.folder / name).iterdir()) < 3 << 20


def test_an_absent_part_has_a_word_of_its_own() -> None:
    assert ABSENT in CAPTIONED.heads["planets", "ring"]
