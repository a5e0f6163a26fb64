"""Cells, qualities and costs become rows; rows that may be compared become sections."""

from __future__ import annotations

from benchmarks import records
from benchmarks.report import drawings, overview, summary
from benchmarks.report.comparison import Comparison
from tests.benchmarks.made_up import cell, made_up, quality, real
from zoo.contract.request import Setting


def test_rows_of_equal_numbers_are_compared_and_others_kept_apart() -> None:
    found = [*made_up("fast", 1.0, 100, 3.0), *made_up("good", 5.0, 100, 1.0), *made_up("few", 1.0, 60, 1.0)]
    main, other = summary.sections(found)
    assert [row.title for row in main.rows] == ["fast", "good"]
    assert [row.title for row in other.rows] == ["few"]


def test_a_quality_is_joined_to_the_cells_of_its_own_setting_and_weights() -> None:
    low, high = Setting(5, "ddim"), Setting(50, "ddim", guidance_interval=(0.1, 1.0))
    found = [
        cell("a", 1.0, setting=low, runtime="triton"),
        cell("a", 2.0, setting=high, runtime="triton"),
        cell("a", 0.5, setting=low, runtime="onnxruntime"),
        cell("a", 9.0, setting=low, runtime="triton", scenario="offline"),
        quality("a", 100, 1.0, setting=low),
        quality("a", 100, 2.0, setting=high),
    ]
    [section] = summary.sections(found)
    first, second = section.rows
    assert (first.setting, second.setting) == (low, high)
    assert (first.runtimes, second.runtimes) == (["triton", "onnxruntime"], ["triton"])
    assert first.percentile("triton").value == 1.0  # type: ignore[union-attr]
    assert first.percentile("triton", scenario="offline").value == 9.0  # type: ignore[union-attr]
    one, two = first.metric("fd", "critic"), second.metric("fd", "critic")
    assert one is not None
    assert two is not None
    assert two.value == 2.0 * one.value


def test_what_was_only_judged_and_what_was_only_timed_have_rows_too() -> None:
    [section] = summary.sections([quality("drawn", 100, 1.0), cell("timed", 1.0)])
    drawn, timed = section.rows
    assert (drawn.title, drawn.runtimes, timed.title, timed.metrics) == ("drawn", [], "timed", {})
    assert summary.sections([quality("alone", 100, 1.0)])[0].rows[0].title == "alone"


def test_what_nobody_judges_shows_its_pictures_among_the_first() -> None:
    looks = quality("looks", 100, 1.0, judged=False)
    identity = {key: value for key, value in looks["identity"].items() if key not in ("format", "kind")}
    content = {key: value for key, value in looks.items() if key not in ("id", "identity", "time", "digest")}
    looks = records.make("quality", identity, **{**content, "count": 0})
    found = [*made_up("a", 1.0, 100, 1.0), *made_up("b", 1.0, 60, 1.0), *made_up("c", 1.0, 60, 1.0), looks]
    many, few = summary.sections([*found, cell("looks", 2.0)])
    assert ([row.title for row in many.rows], many.count) == (["b", "c", "looks"], 60)
    assert [row.title for row in few.rows] == ["a"]
    assert many.rows[-1].grid == looks["grid"]
    assert summary.sections([looks])[0].count == 0


def test_what_was_timed_on_one_machine_is_not_missing_on_another() -> None:
    elsewhere = cell("there", 1.0)
    machine = {**elsewhere["identity"]["machine"], "cpu": "another"}
    identity = {key: value for key, value in elsewhere["identity"].items() if key not in ("format", "kind")}
    content = {key: value for key, value in elsewhere.items() if key not in ("id", "identity", "time", "digest")}
    moved = records.make("cell", {**identity, "machine": machine}, **content)
    found = [moved, quality("there", 100, 1.0), *made_up("here", 1.0, 100, 1.0), *made_up("too", 1.0, 100, 1.0)]
    main, other = summary.sections(found)
    assert ([row.title for row in main.rows], [row.title for row in other.rows]) == (["here", "too"], ["there"])
    assert (other.machine["cpu"], other.count) == ("another", 100)


def test_generators_of_other_data_stand_beside_and_are_not_compared() -> None:
    striped = made_up("striped", 0.5, 100, 1.0, judged=False, dataset="stripes")
    found = [real(100), *made_up("fast", 1.0, 100, 3.0), *made_up("good", 5.0, 100, 1.0), *striped]
    main, other = summary.sections(found)
    assert ([row.title for row in main.rows], [row.title for row in other.rows]) == (["fast", "good"], ["striped"])
    assert set(main.baselines) == {"floor"}
    assert not other.baselines
    assert drawings.front(other, Comparison(other.rows, other.opinions)) is None
    assert [row.title for each in summary.beside(main, [main, other]) for row in each.rows] == [
        "fast",
        "good",
        "striped",
    ]
    assert overview.distances(other.rows[0], main) == [""] * len(main.opinions)


def test_weights_that_were_trained_again_replace_the_old_ones_on_every_runtime() -> None:
    old = [each for runtime in ("triton", "onnxruntime") for each in made_up("a", 1.0, 100, 3.0, runtime=runtime)]
    [section] = summary.sections([*old, *made_up("a", 1.0, 100, 1.0, weights="1")])
    assert [row.runtimes for row in section.rows] == [["onnxruntime"]]
    assert [row.weights for row in section.rows] == ["1"]


def test_flags_are_of_a_row_s_cells() -> None:
    found = [
        cell("a", 1.0, runtime="triton", flags=("noisy", "invalid")),
        cell("a", 1.0, runtime="onnxruntime", flags=("few-queries",)),
        cell("a", 1.0, runtime="torch"),
    ]
    [row] = summary.sections(found)[0].rows
    assert row.flags() == ["invalid", "noisy", "few-queries"]
    assert row.flags("triton") == ["invalid", "noisy"]
    assert row.flags("torch") == []
    assert summary.warned(row.flags()) == "INVALID, noisy, few queries"


def test_the_reference_is_the_row_of_the_reference_cell() -> None:
    found = [
        *made_up("first", 1.0, 100, 1.0, reference="ddpm 4 on onnxruntime, single-stream"),
        *made_up("ddpm", 2.0, 100, 1.0, setting=Setting(4, "ddim")),
    ]
    assert summary.main(found).reference.title == "ddpm 4"  # type: ignore[union-attr]
    assert summary.main(made_up("a", 1.0, 100, 1.0)).reference.title == "a"  # type: ignore[union-attr]
    assert summary.main([cell("a", 1.0)]).reference is None


def test_opinions_come_to_a_word_only_where_they_agree() -> None:
    assert summary.opinion({}) == ""
    assert summary.opinion({"a": "better", "b": "better", "c": ""}) == "better"
    assert summary.opinion({"a": "better", "b": "worse", "c": "indistinguishable"}) == "disputed"
    assert summary.opinion({"a": "worse", "b": "indistinguishable", "c": "worse"}) == "worse, says the a and c"


def test_a_generator_without_classes_has_no_accuracy_anywhere() -> None:
    found = [*made_up("free", 1.0, 100, 1.0, unconditional=True), *made_up("asked", 2.0, 100, 1.0)]
    [section] = summary.sections(found)
    shares = {row.title: overview.accuracy(row) for row in section.rows}
    assert shares["free"] == ""
    assert shares["asked"].endswith(" %")


def test_a_floor_of_fewer_images_says_of_how_many() -> None:
    found = real(60)
    identity = {**found["identity"], "protocol": {**found["identity"]["protocol"], "judged": 100}}
    content = {key: value for key, value in found.items() if key not in ("id", "identity", "time", "digest")}
    floor = records.make("baseline", {k: v for k, v in identity.items() if k not in ("format", "kind")}, **content)
    section = summary.main([floor, *made_up("a", 1.0, 100, 1.0)])
    [(words, distances)] = overview.baselines(section)
    assert words == "real images, n = 60"
    assert all(distances)


def test_times_are_told_by_the_cell_that_they_were_measured_beside_also_where_it_is_not_shown() -> None:
    beside = {"reference": "ddpm-pd4 4 on triton, single-stream", "relative": 0.5}
    [section] = summary.sections(made_up("gan", 1.0, 100, 1.0, **beside))
    assert section.timed_by == ["ddpm-pd4 4"]
    assert section.reference is section.rows[0], "of what is here, images are compared with the first"
    assert overview.timed(section) == "time ÷ that of `ddpm-pd4 4`"
