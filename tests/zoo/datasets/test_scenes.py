"""Scenes: what a box, a mask and a caption say is what is drawn, and the pictures are the same to the bit."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from zoo.contract.conditions import Condition, arrays, boxes
from zoo.datasets import scenes
from zoo.datasets.scenes import HOURS, LABELS, MOST, Scene, scene

DRAWN = "3f95ff6e80eaa71b"  # of the first four pictures, masks and boxes


def test_a_scene_is_of_two_to_four_figures_that_hardly_overlap() -> None:
    shown = [scene(index) for index in range(300)]
    assert {len(each.figures) for each in shown} == {2, 3, 4}
    assert {figure.label for each in shown for figure in each.figures} == set(range(len(LABELS)))
    assert {each.hour for each in shown} == set(HOURS)
    for each in shown:
        pairs = [(one, other) for one in each.figures for other in each.figures if one is not other]
        assert all(scenes._overlap(one, other) <= scenes.OVERLAP for one, other in pairs)
    assert scene(7) == scene(7) != scene(7, seed=1)


def test_a_split_holds_figures_out_at_an_hour() -> None:
    shown = [scene(index) for index in range(3000)]
    assert 0.2 < np.mean([each.held_out for each in shown]) < 0.45
    seen = {(each.hour, figure.label) for each in shown if not each.held_out for figure in each.figures}
    assert {label for _, label in seen} == set(range(len(LABELS)))
    unseen = {(hour, label) for hour in HOURS for label in range(len(LABELS))} - seen
    assert len(unseen) == sum((label + 3 * hour) % 8 == 0 for hour in range(3) for label in range(len(LABELS)))


def test_boxes_and_masks_are_of_what_is_drawn() -> None:
    pytest.importorskip("dicebear")
    for index in range(6):
        shown = scene(index)
        picture, whose, found = scenes.draw(shown, "0")
        bare, _, _ = scenes.draw(Scene(shown.hour, ()), "0")
        assert (picture.shape, whose.shape, found.shape) == ((64, 64, 3), (64, 64), (MOST, 5))
        assert (picture[whose > 0].astype(int) != bare[whose > 0]).any(axis=1).mean() > 0.99
        for place, (figure, (label, *corners)) in enumerate(
            zip(shown.figures, found[: len(shown.figures)], strict=True)
        ):
            assert label == figure.label
            left, top, right, bottom = (round(64 * float(corner)) for corner in corners)
            ys, xs = np.nonzero(whose == place + 1)
            assert left <= xs.min() < xs.max() < right
            assert top <= ys.min() < ys.max() < bottom
        last = len(shown.figures)  # nothing lies before the last one: its box is its mask's
        ys, xs = np.nonzero(whose == last)
        assert (found[last - 1, 1:] * 64 == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)).all()
        assert (found[last:, 0] == -1).all()


def test_boxes_are_those_of_the_condition() -> None:
    pytest.importorskip("dicebear")
    condition = Condition("boxes", "boxes", boxes.Options(MOST, len(LABELS)))
    _, _, found = scenes.draw(scene(0))
    assert (arrays(condition, [found])[0] == found).all()


def test_a_caption_names_the_hour_and_every_figure() -> None:
    for index in range(50):
        shown = scene(index)
        said = scenes.caption(shown, np.random.default_rng(index))
        rest = f"{said} "
        for each in shown.figures:
            assert f" {LABELS[each.label]} " in rest
            rest = rest.replace(f" {LABELS[each.label]} ", " ", 1)
        assert sorted(rest.split()) == sorted([scenes.SCENE, shown.hour])
        assert set(said.split()) <= set(scenes.WORDS)
        assert len(said.split()) <= 10


def test_scenes_are_the_same_to_the_bit_and_drawn_once(tmp_path: Path) -> None:
    pytest.importorskip("dicebear")
    every = scenes.load("all", str(tmp_path), count=4)
    drawn = [every.images, *(np.asarray(every.conditions[name]) for name in ("figures", "boxes"))]
    content = b"".join(np.ascontiguousarray(each).tobytes() for each in drawn)
    said = "\n".join(every.conditions["prompt"])
    assert hashlib.sha256(content + said.encode()).hexdigest()[:16] == DRAWN
    train, test = (scenes.load(split, str(tmp_path), count=4) for split in ("train", "test"))
    assert len(train) + len(test) == 4
    assert len(list(tmp_path.iterdir())) == 1
