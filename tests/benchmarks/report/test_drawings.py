"""Plots: every family its own look, every point its label, nothing on top of anything else."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import combinations

import pytest

from benchmarks.report import drawings, palette, plot
from benchmarks.report.comparison import Comparison
from benchmarks.report.palette import look
from benchmarks.report.plot import Plot, Point
from benchmarks.report.summary import main
from benchmarks.statistics import Estimate
from tests.benchmarks.made_up import made_up
from zoo import registry

PAPERS = (("#ffffff", "#f6f7f9"), ("#14161a", "#1b1e24"))  # paper and panel, light and dark


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    channels = [int(colour[index : index + 2], 16) / 255.0 for index in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def test_every_family_has_a_mark_of_its_own_and_a_colour_as_far_as_there_are() -> None:
    families = [name for name in registry.FAMILIES if not name.startswith("toy")]
    looks = [look(name) for name in families]
    colours = min(len(families), len(palette.COLOURS))  # more would no longer be told apart: then the mark tells
    assert len({each.light for each in looks}) == len({each.dark for each in looks}) == colours
    assert len({each.mark for each in looks}) == len(families)
    assert len({(each.light, each.mark) for each in looks}) == len(families)
    far = {(colour, mark) for index in range(len(palette.COLOURS) * len(palette.MARKS))
           for colour, mark in [(index % len(palette.COLOURS), index % len(palette.MARKS))]}  # fmt: skip
    assert len(far) == len(palette.COLOURS) * len(palette.MARKS), "a pair of both comes once"


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_marks_stand_out_from_their_paper(theme: int) -> None:
    assert all(contrast(colour[theme], paper) >= 3.0 for colour in palette.COLOURS for paper in PAPERS[theme])


def test_a_family_that_nobody_knows_has_a_look_too_and_its_name_is_no_code() -> None:
    strange = look("<b>&")
    assert strange.id == "family--b-"
    assert strange.light.startswith("#")


def scattered(count: int, seed: int = 0) -> list[Point]:
    draw = random.Random(seed)
    found = []
    for number in range(1, count + 1):
        x, y = 10.0 ** draw.uniform(0.0, 2.0), 10.0 ** draw.uniform(0.0, 1.5)
        around = [Estimate(value, 0.9 * value, 1.1 * value) for value in (x, y)]
        found.append(Point(f"system {number} of many", number, look("gan"), *around))
    return found


def boxes(drawn: Plot) -> list[tuple[float, float, float, float]]:
    found = []
    for mark in drawn.marks:
        width = drawn.frame.letter * len(mark.label.text)
        left = mark.label.x - {"start": 0.0, "middle": width / 2, "end": width}[mark.label.anchor]
        found.append((left, mark.label.y - 10, left + width, mark.label.y + 2))
    return found


def test_every_point_is_labelled_and_no_label_meets_another() -> None:
    drawn = plot.draw(scattered(60))
    assert drawn is not None
    assert len(drawn.marks) == 60
    for mark in drawn.marks:
        assert mark.label.text in (mark.point.text, str(mark.point.number))
    for a, b in combinations(boxes(drawn), 2):
        assert not (a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3])
    assert all(box[0] >= 0.0 and box[2] <= drawn.frame.width for box in boxes(drawn))


def test_the_front_is_labelled_in_words_first() -> None:
    points = scattered(60)
    points.append(replace(points[0], text="the best", number=61, x=Estimate(0.5, 0.4, 0.6), y=Estimate(0.5, 0.4, 0.6)))
    drawn = plot.draw(points)
    assert drawn is not None
    assert drawn.marks[-1].label.text == "the best"


def test_the_plot_greys_what_is_beaten_under_every_opinion() -> None:
    sides = {"fast": (1.0, 3.0, 3.0), "good": (5.0, 1.0, 1.0), "beaten": (6.0, 2.0, 2.0), "divided": (7.0, 2.0, 0.5)}
    found = [
        record
        for name, (p50, one, two) in sides.items()
        for record in made_up(name, p50, 100, 1.0, shifts={"classifier": one, "critic": two, "contrastive": one})
    ]
    section = main(found)
    drawn = drawings.front(section, Comparison(section.rows, section.opinions))
    assert drawn is not None
    marks = {mark.point.text: mark for mark in drawn.marks}
    assert {name for name, mark in marks.items() if mark.point.grey} == {"beaten"}
    assert {name for name, mark in marks.items() if mark.point.divided} == {"divided"}
    assert marks["fast"].x < marks["good"].x < marks["beaten"].x
    assert marks["fast"].y < marks["beaten"].y < marks["good"].y  # SVG's y points down
    assert all(mark.y_high <= mark.y <= mark.y_low and mark.x_low <= mark.x <= mark.x_high for mark in marks.values())
