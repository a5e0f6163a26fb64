"""Previews of what is being made: each is answered once, whoever is first."""

from __future__ import annotations

import numpy as np
import pytest

from serving.previews import NoPreviewError, Previews, rows_of
from zoo.contract.errors import RequestError

IMAGE = np.zeros((1, 2, 2, 1), np.uint8)


@pytest.mark.parametrize(
    ("count", "rows", "expected"),
    [(3, 40, [10, 20, 30]), (1, 50, [25]), (3, 1, []), (3, 2, [1]), (3, 3, [1, 2]), (3, 4, [1, 2, 3]), (0, 50, [])],
)
def test_they_are_spread_over_the_rows(count: int, rows: int, expected: list[int]) -> None:
    assert [row for row, _ in rows_of(count, rows)] == expected


def test_who_asks_before_and_who_asks_after_is_answered() -> None:
    previews, answers, errors = Previews(), [], []  # type: ignore[var-annotated]
    previews.begin("a", 3, 1)
    previews.ask("a", 0, answers.append, errors.append)
    previews.seen("a", 0, IMAGE)
    previews.seen("a", 1, IMAGE + 1)
    previews.ask("a", 1, answers.append, errors.append)
    previews.ask("a", 2, answers.append, errors.append)
    previews.end("a")
    assert [int(answer.max()) for answer in answers] == [0, 1]
    assert len(errors) == 1
    assert "ended before its next preview" in str(errors[0])
    with pytest.raises(NoPreviewError, match="there is no preview 0 of 'a'"):
        previews.ask("a", 0, answers.append, errors.append)
    previews.end("a")


@pytest.mark.parametrize(
    ("name", "count", "images"),
    [("", 1, 1), ("x" * 65, 1, 1), ("a", 0, 1), ("a", 4, 1), ("a", "2", 1), ("a", 1, 2)],
)
def test_what_cannot_be_watched_is_refused(name: str, count: object, images: int) -> None:
    with pytest.raises(RequestError, match="at most 3 of one image are given"):
        Previews().begin(name, count, images)


def test_an_id_is_of_one_request_and_a_preview_is_asked_for_once() -> None:
    previews = Previews()
    previews.begin("a", 1, 1)
    with pytest.raises(RequestError, match="choose another"):
        previews.begin("a", 1, 1)
    previews.ask("a", 0, lambda _: None, lambda _: None)
    for index in (0, 1, -1, "0", None):
        with pytest.raises(NoPreviewError):
            previews.ask("a", index, lambda _: None, lambda _: None)
