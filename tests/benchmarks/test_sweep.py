"""From bundle to record to page: a toy family, which nothing here knows, and rows made of real pictures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks import environment, overview, plot, records, report, summary, sweep
from benchmarks.records import RecordError
from benchmarks.workload import Load, Setting, WorkloadError
from export.bundle import Bundle
from tests.benchmarks.made_up import made_up
from zoo.request import GeneratorSpec, Sampling

LOAD = Load(queries=64, seconds=0.05, warm_up=1)


def test_a_family_that_nobody_knows_is_measured_recorded_and_reported(
    toy_bundles: Mapping[str, Path], tmp_path: Path
) -> None:
    path, said = tmp_path / "records.jsonl", []
    bundles = [Bundle.open(folder) for folder in toy_bundles.values()]
    cells = sweep.cells(bundles, ["onnxruntime"], [LOAD], count=50, steps=[2])
    found = sweep.run(cells, path, told=said.append)
    assert len(found) == len(said) == len(toy_bundles)
    assert all(record["latency"]["p50"]["value"] > 0 and len(record["latency"]["raw_ms"]) >= 64 for record in found)
    assert all(record["quality"] is None for record in found)
    assert all("not judged: the nets know 32x32x1, these are 8x8x" in sentence for sentence in said)
    assert records.read(path) == found
    page = report.render(found)
    assert all(name in page for name in toy_bundles)

    assert sweep.run(cells, path, told=said.append) == found, "a second run measures nothing"
    assert len(said) == len(toy_bundles)
    sweep.run(cells[:1], path, again=True, told=said.append)
    assert len(records.read(path)) == len(found) + 1


def test_rows_of_equal_numbers_are_compared_and_others_kept_apart() -> None:
    found = [made_up("fast", 1.0, 100, 3.0), made_up("good", 5.0, 100, 1.0), made_up("few", 1.0, 60, 1.0)]
    main, other = summary.sections(found)
    assert [row.title for row in main.rows] == ["fast", "good"]
    assert [row.title for row in other.rows] == ["few"]


def test_weights_that_were_trained_again_replace_the_old_ones_on_every_runtime() -> None:
    old = [made_up("a", 1.0, 100, 3.0, runtime=runtime) for runtime in ("triton", "onnxruntime")]
    [section] = summary.sections([*old, made_up("a", 1.0, 100, 1.0, weights="1")])
    assert [row.runtimes for row in section.rows] == [["onnxruntime"]]


def test_plot_marks_the_front_and_keeps_labels_apart() -> None:
    found = [made_up("fast", 1.0, 100, 3.0), made_up("good", 5.0, 100, 1.0), made_up("beaten", 6.0, 100, 2.0)]
    [section] = summary.sections(found)
    for drawn in plot.plots(section):
        marks = {mark.row.title: mark for mark in drawn.marks}
        assert {name: mark.on_front for name, mark in marks.items()} == {"fast": True, "good": True, "beaten": False}
        assert marks["fast"].x < marks["good"].x < marks["beaten"].x
        assert marks["fast"].y < marks["beaten"].y < marks["good"].y  # SVG's y points down
        assert len({mark.label for mark in marks.values()}) == 3


def test_disagreement_needs_both_nets_beyond_chance() -> None:
    a, b = made_up("a", 1.0, 100, 1.0), made_up("b", 2.0, 100, 1.0)
    for record, net in ((a, "classifier"), (b, "critic")):
        record["quality"]["metrics"][f"fd_100_{net}"] = {"value": 99.0, "low": 98.0, "high": 100.0}
    [section] = summary.sections([a, b])
    [pair] = summary.disagreements(section.rows)
    assert {net: row.title for net, row in pair.better.items()} == {"classifier": "b", "critic": "a"}
    a["quality"]["metrics"]["fd_100_classifier"]["low"] = 0.0
    assert not summary.disagreements(summary.sections([a, b])[0].rows)


def test_a_generator_without_classes_has_no_accuracy_anywhere() -> None:
    found = [made_up("free", 1.0, 100, 1.0, unconditional=True), made_up("asked", 2.0, 100, 1.0)]
    [section] = summary.sections(found)
    lines = {
        row.title: line for row in section.rows for line in overview.table(section).split("\n") if row.title in line
    }
    assert lines["free"].endswith("|  |")
    assert lines["asked"].endswith(" % |")
    assert report.render(found).count("<td></td></tr>") == 1


def test_page_is_self_contained_and_escapes_names() -> None:
    page = report.render([made_up("<b>bold</b>", 1.0, 100, 1.0)])
    assert "<b>bold" not in page
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert "prefers-color-scheme: dark" in page


def test_no_cell_on_record_is_one_sentence() -> None:
    with pytest.raises(RecordError, match="genzoo bench"):
        report.render([])


def test_settings_follow_what_a_generator_was_trained_for() -> None:
    def spec(sampling: Sampling | None) -> GeneratorSpec:
        return GeneratorSpec("toy", "toy", (1, 8, 8), (8, 8, 1), 10, sampling)

    assert sweep.settings(spec(None)) == (Setting(),)
    assert [s.num_steps for s in sweep.settings(spec(Sampling(num_steps=50)))] == [5, 20, 50]
    assert [s.num_steps for s in sweep.settings(spec(Sampling(steps=(1, 2))))] == [1, 2]
    assert [s.num_steps for s in sweep.settings(spec(Sampling(steps=(1, 2))), [2, 4])] == [2]


def test_a_sampler_that_is_not_served_is_refused() -> None:
    spec = GeneratorSpec("toy", "toy", (1, 8, 8), (8, 8, 1), 10, Sampling())
    with pytest.raises(WorkloadError, match="served with 'ddim' only"):
        Setting(sampler="heun").tensors(spec, [0])


def test_guard_reports_the_probe_and_its_verdict() -> None:
    with environment.guard() as found:
        pass
    assert found["noisy"] in (True, False)
    assert all(value > 0 for value in found["probe_ms"])
