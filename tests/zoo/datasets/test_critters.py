"""Critters, and scenes with critters beside scenes with pot plants: what is loaded, masked and exchanged is theirs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from zoo.datasets import Data, critters, critters_and_plants, designs, portraits, scenes
from zoo.datasets.critters_and_plants import CRITTER, FIGURES, PLANT, PLANT_IMAGE, PLANTS, masked, of_kind
from zoo.datasets.portrait_styles import STYLES
from zoo.datasets.scenes import LABELS

LOAD_SCENES = scenes.load
SCENES = 24


def test_critters_are_those_of_the_portraits_and_told_as_designs_are(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = [portraits.portrait(style, index) for index in range(8) for style in STYLES]
    pictures = np.arange(len(shown), dtype=np.uint8).repeat(12).reshape(-1, 2, 2, 3)  # each of a grey of its own

    def load(split: str, source: str | None) -> Data:
        rows = [row for row, each in enumerate(shown) if each.held_out is (split == "test")]
        return Data(pictures[rows], {"prompt": [shown[row].caption for row in rows]})

    monkeypatch.setattr(portraits, "load", load)
    found = {split: critters.load(split) for split in ("train", "test")}
    assert sum(map(len, found.values())) == 8
    for split, data in found.items():
        for picture, said in zip(data.images, data.conditions["prompt"], strict=True):
            of = shown[int(picture[0, 0, 0])]
            assert (of.style, of.caption, of.held_out) == (critters.CRITTER, said, split == "test")
            assert set(said.split()) <= set(critters.WORDS)
            assert designs.understood(said) == portraits.read(said) == of, "so who reads designs reads critters"


def test_a_mask_numbers_the_figures_of_its_kind_alone() -> None:
    critter, plant = (
        next(place for place, label in enumerate(LABELS) if label.endswith(word)) for word in (CRITTER, PLANT)
    )
    figures = np.repeat(np.arange(5, dtype=np.uint8), 4).reshape(5, 4)  # a row each: nothing, and four figures
    labels = np.array([critter, plant, critter, -1])
    assert masked(figures, labels, CRITTER)[:, 0].tolist() == [0, 1, 0, 2, 0]
    assert masked(figures, labels, PLANT)[:, 0].tolist() == [0, 0, 1, 0, 0]
    assert not of_kind(-1, CRITTER)


def test_no_scene_is_on_both_sides_and_all_is_masked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dicebear")
    monkeypatch.setattr(scenes, "load", lambda split, source: LOAD_SCENES(split, str(tmp_path), count=SCENES))
    whole, found = scenes.load("train", None), critters_and_plants.load("train")
    plants, masks, potted = (np.asarray(found.conditions[name]) for name in (PLANT_IMAGE, FIGURES, PLANTS))
    assert len(found) == len(plants) == len(masks) == len(potted) > 2
    assert not {each.tobytes() for each in found.images} & {each.tobytes() for each in plants}
    rows = {picture.tobytes(): row for row, picture in enumerate(whole.images)}
    for images, theirs, word in ((found.images, masks, CRITTER), (plants, potted, PLANT)):
        for picture, mask in zip(images, theirs, strict=True):
            row = rows[picture.tobytes()]
            labels, figures = (np.asarray(whole.conditions[name])[row] for name in ("boxes", "figures"))
            there = [place + 1 for place, label in enumerate(labels[:, 0].astype(int)) if of_kind(label, word)]
            assert (mask > 0).tolist() == np.isin(figures, there).tolist()
            assert set(np.unique(mask)) - {0} <= set(range(1, len(there) + 1))


def test_in_the_place_of_a_critter_is_a_plant_of_its_colour_and_all_else_stays() -> None:
    pytest.importorskip("dicebear")
    pictures, masks, boxes, potted = critters_and_plants.examples(3)
    assert (pictures.shape, masks.shape, boxes.shape) == ((3, 64, 64, 3), (3, 64, 64), (3, scenes.MOST, 5))
    for (shown, _), picture, mask, other in zip(_with_critters(3), pictures, masks, potted, strict=True):
        exchanged = critters_and_plants.potted(shown)
        for before, after in zip(shown.figures, exchanged.figures, strict=True):
            assert LABELS[after.label] == LABELS[before.label].replace(CRITTER, PLANT)
        assert (picture[mask > 0] != other[mask > 0]).any(-1).mean() > 0.3
        assert (picture != other).any(-1).mean() < 0.6
        assert (picture[0] == other[0]).any()


def _with_critters(count: int) -> list[tuple[scenes.Scene, int]]:
    found = scenes.held_out()
    kept = (each for each in found if any(of_kind(figure.label, CRITTER) for figure in each[0].figures))
    return [next(kept) for _ in range(count)]
