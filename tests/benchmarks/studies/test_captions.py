"""The study of captions: it asks for what was held out, and its sentence says what its rows say."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.studies import captions, designs
from zoo.datasets.portrait_styles import STYLES


def test_it_asks_for_combinations_that_training_never_showed() -> None:
    pytest.importorskip("dicebear")
    shown, images = captions.held_out(STYLES[3], 8)
    asked = [designs.BASE.say(each) for each in shown]
    assert len(set(asked)) > 1
    assert all(each.held_out for each in shown)
    assert (images.shape, images.dtype) == ((8, 64, 64, 3), np.uint8)
    assert np.nanmean(designs.BASE.judges.right(images, asked)) > 0.9


def test_the_answer_is_that_of_the_rows() -> None:
    first = ("0.9 (0.8 to 1)", "0.5 (0 to 1)", "0.7 (0 to 1)", "1.0 (0 to 1)", "1.0 (0 to 1)", "0.2 (0 to 1)")
    second = ("0.7 (0.6 to 1)", "0.1 (0 to 1)", "0.5 (0 to 1)", "0.9 (0 to 1)", "1.0 (0 to 1)", "0.3 (0 to 1)")
    rows = [("a", *first, 0.8, 0.1, 0.9), ("b", *second, 0.6, 0.3, 0.9)]
    said = captions.answer(rows)
    for part in ("80.0% are right at a guidance of 3", "60.0% without", "95.0% after", "100.0% in real", "25.0% by"):
        assert part in said
    assert "All are right at once in 30.0%" in said
    assert "Worst is b, with 70.0%" in said
    assert said.endswith("0.70, and others 0.20.")


def test_a_share_is_of_attributes_and_not_of_the_style() -> None:
    right = np.array([[1.0, 0.0, np.nan], [1.0, 1.0, np.nan], [1.0, np.nan, 0.0]])
    assert captions.attributes_right(right).startswith("0.33 ")
