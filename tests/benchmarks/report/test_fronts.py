"""The front that a server chooses by is what the records say, and survives its file."""

from __future__ import annotations

from pathlib import Path

from benchmarks.report import fronts
from benchmarks.report.comparison import Comparison
from benchmarks.report.family_tree import FamilyTree
from serving import front


def test_points_are_the_rows_that_were_timed_and_judged(small_tree: FamilyTree, tmp_path: Path) -> None:
    section = small_tree.section
    found = fronts.of(section, section.rows)
    assert {point.title for point in found.points} == {
        row.title for row in section.rows if row.percentile("onnxruntime")
    }
    assert [point.ms for point in found.points] == sorted(point.ms for point in found.points)
    compared, rows = Comparison(section.rows, section.opinions), {row.title: i for i, row in enumerate(section.rows)}
    for point in found.points:
        row = section.rows[rows[point.title]]
        assert (point.calls, point.weights, point.setting) == (row.nfe, row.weights, row.setting)
        for other in rows:
            said = compared.opinion(rows[point.title], rows[other]) if other != point.title else ""
            assert (other in point.beats) == said.startswith("better"), (point.title, other)
    assert front.read(front.write([found], tmp_path / "front.json")) == {section.dataset: found}
