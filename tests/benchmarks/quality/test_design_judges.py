"""Judges of designs: they read what real pictures of unseen combinations show, in any wording, and tell wrong words."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.quality.judges.captioned import STYLE
from benchmarks.quality.judges.designs import CAPTIONED
from zoo.datasets import designs, more_designs, portraits
from zoo.datasets.design_styles import DESIGNS, WORDS
from zoo.datasets.portraits import Portrait

SEED, COUNT = 77, 8  # of pictures that no judge has seen


@pytest.fixture(scope="module")
def shown() -> tuple[list[Portrait], np.ndarray]:
    pytest.importorskip("dicebear")
    numbered = portraits.numbered(SEED, COUNT, DESIGNS)
    return [each for each, _ in numbered], np.stack([portraits.draw(*each) for each in numbered])


def test_judges_learn_from_other_pictures() -> None:
    assert not {seed for seed, _ in more_designs.DRAWN.values()} & {designs.SEED, SEED}


def test_heads_are_those_of_the_labels() -> None:
    assert list(CAPTIONED.heads.items()) == list(designs.HEADS.items())
    captions = [designs.told(portraits.portrait(style, 4), np.random.default_rng(4)) for style in DESIGNS]
    assert (CAPTIONED.truth(captions) == designs.attributes([designs.understood(said) for said in captions])).all()


def test_tokens_are_places_in_the_vocabulary() -> None:
    (row,) = CAPTIONED.tokens(["planet red"])
    assert [WORDS[token - 1] for token in row if token] == ["planet", "red"]
    captions = [designs.whole(portraits.portrait(style, index)) for style in DESIGNS for index in range(50)]
    assert max(len(caption.split()) for caption in captions) == CAPTIONED.length


def test_real_pictures_show_their_captions_and_no_others(shown: tuple[list[Portrait], np.ndarray]) -> None:
    portraits_of, images = shown
    captions = [designs.whole(each) for each in portraits_of]
    right = CAPTIONED.right(images, captions)
    assert right[:, 0].all(), STYLE
    assert np.nanmean(right) > 0.98
    others = captions[len(DESIGNS) :] + captions[: len(DESIGNS)]  # of the same styles
    assert np.nanmean(CAPTIONED.right(images, others)[:, 1:]) < 0.5


def test_one_wrong_word_is_told(shown: tuple[list[Portrait], np.ndarray]) -> None:
    portraits_of, images = shown
    wrong = []
    for each in portraits_of:
        first = each.style.attributes[0]
        other = first.words[(first.words.index(each.words[first.name]) + 1) % len(first.words)]
        wrong.append(each.with_word(first.name, other))
    pairs = [[designs.whole(each) for each in part] for part in (portraits_of, wrong)]
    before, after = (np.nansum(CAPTIONED.right(images, captions), axis=1) for captions in pairs)
    assert (before - after == 1.0).mean() > 0.9
    own, other = (np.diag(CAPTIONED.agreement(images, captions)) for captions in pairs)
    assert (own > other).mean() > 0.9


def test_pictures_agree_with_their_own_captions_in_any_order(shown: tuple[list[Portrait], np.ndarray]) -> None:
    portraits_of, images = shown
    draws = np.random.default_rng(0)
    said = [" ".join(draws.permutation([each.style.word, *each.phrases.values()]).tolist()) for each in portraits_of]
    found = CAPTIONED.agreement(images, said)
    assert (found.argmax(1) == np.arange(len(images))).mean() > 0.85


@pytest.mark.parametrize("name", ["design_attributes", "design_pair"])
def test_judges_are_small(name: str) -> None:
    found = json.loads((CAPTIONED.folder / name / "config.json").read_text())
    assert found["parameters"] <= 1_000_000
    assert found["dataset"] == more_designs.DATASET.name
    assert sum(path.stat().st_size for path in (CAPTIONED.folder / name).iterdir()) < 3 << 20
