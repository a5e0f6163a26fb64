"""Drawings, scene maps and faces: what is known beside a picture is what it shows."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from zoo.datasets import day_and_night, drawings, faces, portraits, scene_maps, scenes
from zoo.datasets.portraits import read

pytest.importorskip("dicebear")


def test_a_drawing_has_the_colours_of_its_picture_on_white() -> None:
    shown, pictures = drawings.examples(6)
    assert all(each.held_out for each in shown)
    pencil, ink = drawings.pencilled(pictures), drawings.inked(pictures)
    lines = (ink == drawings.INK).all(-1)
    assert 0.02 < lines.mean() < 0.3
    assert (pencil[lines] == pictures[lines]).all()
    assert (pencil[~lines] == ink[~lines]).all()
    assert (ink[~lines] == drawings.PAPER).all()


def test_a_map_says_what_each_pixel_is_painted_in() -> None:
    pictures, maps = scene_maps.examples(3)
    assert (maps.shape, maps.dtype) == ((3, 64, 64), np.uint8)
    grounds = maps < scene_maps.FIGURES
    away = np.abs(pictures.astype(int) - scene_maps.COLOURS[maps]).max(-1)
    assert np.median(away[grounds]) == 0
    assert (away[grounds] < 30).mean() > 0.95
    assert (away[~grounds] < 30).mean() > 0.3, "bodies and pots, whose faces and plants are of other colours"
    for classes in maps:
        hours = {name.split()[0] for name in np.array(scene_maps.CLASSES)[np.unique(classes[classes < 15])]}
        assert len(hours) == 1
        assert hours <= set(scenes.HOURS)


def test_what_is_loaded_is_what_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "load", lambda split, source: LOAD_SCENES(split, str(tmp_path), count=12))
    monkeypatch.setattr(portraits, "load", lambda split, source: LOAD_PORTRAITS(split, str(tmp_path), count=12))
    found = scene_maps.load("train")
    first = next(index for index in range(12) if not scenes.scene(index).held_out)
    picture, classes = scene_maps.draw(scenes.scene(first), f"{scenes.SEED} {first}")
    assert (found.images[0] == picture).all()
    assert (found.conditions["map"][0] == classes).all()  # type: ignore[index]
    drawn, people = drawings.load("train"), faces.load("train")
    assert set(drawings.DATASET.asks) == {drawings.IMAGE} <= set(drawn.conditions)
    assert len(drawn) == len(drawn.conditions["image"]) == len(drawn.conditions["style"])
    apart, captions = day_and_night.load("train"), scenes.load("train", None).conditions["prompt"]
    assert 0 < len(apart) <= len(captions) // 2
    for images, hour in ((apart.conditions[day_and_night.DAY], "day"), (apart.images, "night")):
        first = next(row for row, said in enumerate(captions) if hour in said.split())
        assert (np.asarray(images)[0] == scenes.load("train", None).images[first]).all()
    captions = portraits.load("train", None).conditions["prompt"]
    colours = [faces.places(read(said)) for said in captions if faces.is_here(read(said))]
    assert np.asarray(people.conditions["colours"]).tolist() == colours
    assert 0 < len(people) < len(drawn)


def test_a_scene_at_the_other_hour_is_the_same_but_for_its_landscape() -> None:
    by_day, by_night, figures = day_and_night.pairs(4)
    inside = np.abs(by_day.astype(int) - by_night).max(-1)[figures > 0]
    assert np.median(inside) == 0
    assert (np.abs(by_day.astype(int) - by_night).max(-1)[figures == 0] > 20).mean() > 0.95


LOAD_SCENES, LOAD_PORTRAITS = scenes.load, portraits.load


def test_a_change_moves_what_it_says_and_nothing_else() -> None:
    for (shown, seed), change in zip(itertools.islice(faces.examples(), 8), range(8), strict=True):
        before, truth, where = faces.altered(shown, seed, change)
        name, word = faces.CHANGES[change]
        assert (shown.words[name] == word) is not bool(where.any())
        assert np.abs(before[~where].astype(int) - truth[~where]).max(initial=0) <= 12
    assert [each.style.name for each, _ in itertools.islice(faces.examples(), 2)] == ["voxel-art", "open-peeps"]
