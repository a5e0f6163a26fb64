"""The study of designs: it asks for what was held out in any order of words, and says what its rows say."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.studies import captions
from benchmarks.studies import designs as study
from zoo.datasets import designs
from zoo.datasets.design_styles import DESIGNS


def test_it_asks_for_unseen_combinations_in_any_order() -> None:
    pytest.importorskip("dicebear")
    shown, _ = captions.held_out(DESIGNS[10], 6)
    for row, each in enumerate(shown):
        assert each.held_out
        said = study.shuffled(each, np.random.default_rng(row))
        assert designs.understood(said) == each
        assert sorted(said.split()) == sorted(study.BASE.say(each).split())


def test_the_answer_is_that_of_the_rows() -> None:
    first = ("0.9 (0.8 to 1)", "0.5 (0 to 1)", "0.7 (0 to 1)", "1.0 (0 to 1)", "1.0 (0 to 1)", "0.2 (0 to 1)")
    second = ("0.7 (0.6 to 1)", "0.1 (0 to 1)", "0.5 (0 to 1)", "0.9 (0 to 1)", "1.0 (0 to 1)", "0.3 (0 to 1)")
    rows = [("a", *first, 0.8, 0.1, 0.9, "0.4 (0 to 1)"), ("b", *second, 0.6, 0.3, 0.9, "0.2 (0 to 1)")]
    said = study.answer(rows)
    assert said.startswith(captions.answer(rows))
    assert said.endswith("in any order all are right at once in 30.0%.")
    assert len(study.COLUMNS) == len(rows[0])


def test_it_asks_of_the_base() -> None:
    assert study.STUDY.checkpoints == ("t2i-base",)
    assert study.STUDY.question.endswith("?")
