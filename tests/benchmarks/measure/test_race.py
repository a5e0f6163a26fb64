"""The race over toy systems: what is counted, what is extrapolated, whose images are judged, and how it goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from benchmarks import records
from benchmarks.measure import race, samples, sweep, tables
from benchmarks.measure.race import Course, Entrant, Executor, Race, RaceError, seconds_of
from benchmarks.measure.rounds import Journal
from benchmarks.measure.sweep import Row
from benchmarks.measure.workload import WorkloadError
from export.bundle import Bundle
from zoo import files
from zoo.contract.request import SampleRequest, Setting

IMAGES = 1000
ROUNDS = 3


@pytest.fixture(scope="module")
def rows(toy_bundles: Mapping[str, Path]) -> tuple[Row, ...]:
    """Two systems of one shape, of which the slower takes 300 calls, and one of another shape."""
    slow, few, other = (Bundle.open(toy_bundles[name]) for name in ("toy-diffusion", "toy-student", "toy-linear"))
    return Row(few, Setting()), Row(slow, Setting(300, "ddpm")), Row(other, Setting())


def course(rows: tuple[Row, ...], minutes: float = 1.0, runtimes: tuple[str, ...] = ("onnxruntime",)) -> Course:
    return Course.of(rows, IMAGES, ROUNDS, minutes, runtimes)


@pytest.fixture
def planned(rows: tuple[Row, ...], home: Path) -> Course:
    """With a plan on disk as trials leave it, which a busy host does not decide: the slower row is cut."""
    found = course(rows)
    plan = [
        {"runtime": "onnxruntime", "batch": 64, "counted": IMAGES, "per_pulse": 0},
        {"runtime": "onnxruntime", "batch": 16, "counted": 96, "per_pulse": 1},
    ]
    files.write_json(home / "race" / f"{found.id}.json", plan)
    return found


def runner(of: Course, path: Path, told: race.Tell = lambda _: None) -> Race:
    return Race(of, Journal.beside(path), told)


def test_the_slowest_by_calls_is_the_reference_and_other_shapes_are_left_out(rows: tuple[Row, ...]) -> None:
    found = course(rows)
    assert [row.title for row in found.rows] == ["toy-student 2", "toy-diffusion 300 ddpm"]
    assert found.reference == rows[1]
    assert Course.of(rows, IMAGES, ROUNDS, 1, (), "toy-student").reference == rows[0]
    with pytest.raises(WorkloadError, match="'toy' is not among"):
        Course.of(rows, IMAGES, ROUNDS, 1, (), "toy")
    with pytest.raises(RaceError, match="40 images in 3 rounds: give 50 or more"):
        Course.of(rows, 40, ROUNDS, 1, ())
    with pytest.raises(RaceError, match="2 rounds: give 3 or more"):
        Course.of(rows, IMAGES, 2, 1, ())


def test_a_race_is_counted_where_it_can_be_and_extrapolated_where_not(planned: Course, tmp_path: Path) -> None:
    path, said = tmp_path / "records.jsonl", []
    found = list(runner(planned, path, said.append).run(path))
    quick, slow = found
    assert records.read(path) == found
    assert quick["identity"]["race"]["generator"] == "toy-student"
    assert not quick["extrapolated"]
    assert quick["identity"]["protocol"]["counted"] == IMAGES
    assert sum(run["images"] for run in quick["runs"]) == IMAGES
    assert quick["seconds"]["value"] == pytest.approx(sum(run["seconds"] for run in quick["runs"]))
    assert slow["extrapolated"]
    counted = slow["identity"]["protocol"]["counted"]
    assert counted == 96
    assert sum(run["images"] for run in slow["runs"]) == counted
    assert slow["left_out"] is None
    each = [run["seconds"] / run["images"] for run in slow["runs"]]
    assert slow["seconds"]["value"] == pytest.approx(IMAGES * np.exp(np.log(each).mean()))
    assert slow["speedup"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert quick["speedup"]["value"] > 3.0
    assert any(f"counted on fewer: toy-diffusion 300 ddpm ({counted})" in sentence for sentence in said)
    caption, _, lines = next(tables.of(found))
    assert caption == "1,000 images, beside toy-diffusion 300 ddpm"
    assert [line[0] for line in lines] == ["toy-student 2", "toy-diffusion 300 ddpm"]
    assert lines[1][3] == f"{counted}"
    again = list(runner(planned, path, said.append).run(path))
    assert again == found, "what is on record is raced again"
    assert said[-1] == "every row is on record"


def test_its_images_are_the_shards_that_anybody_would_draw(planned: Course, tmp_path: Path, home: Path) -> None:
    """In executions of the same size; nothing but the records and what they were judged on stays."""
    path = tmp_path / "records.jsonl"

    def stop(sentence: str) -> None:
        if sentence.startswith("round 3 of 3"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(runner(planned, path, stop).run(path))
    for each in runner(planned, path).entrants():
        images = np.concatenate([np.load(each.folder() / f"{turn}.npy") for turn in range(ROUNDS)])
        assert len(images) == each.counted
        parts, spec, generator = [], each.row.spec, sweep.in_process(each.row.bundle)
        for shard in samples.shards(spec, each.row.setting, each.counted, {}):
            asked = samples.conditions(spec, shard.seeds)
            request = SampleRequest(tuple(shard.seeds), asked, shard.setting)
            parts.append(generator.sample(request, each.executor.batch))
        np.testing.assert_array_equal(images, np.concatenate(parts))
    assert len(list(runner(planned, path).run(path))) == 2
    assert not list((home / "race").glob("*/"))
    assert not Journal.beside(path).path.exists()


def test_a_race_that_is_stopped_goes_on_with_its_plan_and_its_legs(planned: Course, tmp_path: Path) -> None:
    path, said = tmp_path / "records.jsonl", []

    def stop(sentence: str) -> None:
        said.append(sentence)
        if sentence.startswith("round 2 of 3"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(runner(planned, path, stop).run(path))
    assert "the same command goes on" in said[-1]
    legs = Journal.beside(path)
    before = {each.id: legs.runs(each.id) for each in runner(planned, path).entrants()}
    assert [len(runs) for runs in before.values()] == [2, 2]
    said.clear()
    found = list(runner(planned, path, said.append).run(path))
    assert not [sentence for sentence in said if "tried" in sentence], "executors are chosen anew"
    assert "4 of 6 legs are kept from before" in said[0]
    assert [record["runs"][:2] for record in found] == list(before.values())
    assert [record["id"] for record in found] == list(before)


def test_every_runtime_is_tried_and_the_fastest_is_named(rows: tuple[Row, ...], tmp_path: Path) -> None:
    path, said = tmp_path / "records.jsonl", []
    wanted = course(rows, 2.0, ("onnxruntime", "torch"))
    entrants = runner(wanted, path, said.append).entrants()
    assert len(said) == 2
    assert all(each.executor.runtime in wanted.runtimes and each.executor.batch in race.BATCHES for each in entrants)
    assert said[0].endswith("ms an image")
    assert str(entrants[0].executor) in said[0]


def test_too_little_time_is_a_sentence(rows: tuple[Row, ...], tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with pytest.raises(RaceError, match=r"give --minutes [0-9]+ or more, or name fewer checkpoints"):
        list(runner(course(rows, 1e-6), path).run(path))
    assert not path.exists()
    with pytest.raises(RaceError, match="toy-student 2 runs on nothing that is here"):
        list(runner(course(rows, 1.0, ("tensorrt",)), path).run(path))


def test_legs_are_whole_executions_of_shards(rows: tuple[Row, ...]) -> None:
    each = Entrant(rows[0], Executor("onnxruntime", 64), 600, course(rows))
    sizes = [len(seeds) for seeds in each.executions()]
    assert sizes == [64, 64, 64, 58, 64, 64, 64, 58, 64, 36]
    assert [seeds for turn in range(ROUNDS) for seeds in each.leg(turn)] == each.executions()
    assert all(each.leg(turn) for turn in range(ROUNDS))


def test_a_time_is_what_was_measured_or_the_mean_for_as_many() -> None:
    runs = [{"seconds": 1.0, "images": 100}, {"seconds": 1.1, "images": 100}, {"seconds": 0.9, "images": 100}]
    whole = seconds_of(runs, 300, extrapolated=False)
    assert whole.value == pytest.approx(3.0)
    assert whole.low < 3.0 < whole.high
    longer = seconds_of(runs, 30_000, extrapolated=True)
    assert longer.value == pytest.approx(300.0, rel=0.01)
    assert longer.high / longer.value == pytest.approx(whole.high / whole.value)


def test_what_would_take_longest_is_cut_to_the_time_there_is(rows: tuple[Row, ...]) -> None:
    executor = Executor("onnxruntime", 16)
    tried = [(executor, 0.001), (executor, 0.5)]  # a second, and more than eight minutes
    quick, slow = race.counts(course(rows, 10.0), tried)
    assert (quick["counted"], slow["counted"]) == (IMAGES, IMAGES)
    quick, slow = race.counts(course(rows, 2.0), tried)
    assert quick["counted"] == IMAGES
    assert slow["counted"] == 192, "two minutes, in whole rounds of its pulses"
    assert slow["per_pulse"] == 2
    with pytest.raises(RaceError, match=r"3 rounds take 0\.801 minutes .* give --minutes 1 or more"):
        race.counts(course(rows, 0.5), tried)


def test_a_plan_is_tried_once_and_kept(rows: tuple[Row, ...], tmp_path: Path, home: Path) -> None:
    wanted, said = course(rows, 1000.0), []
    first = runner(wanted, tmp_path / "records.jsonl", said.append).entrants()
    assert [each.counted for each in first] == [IMAGES, IMAGES]
    assert len(json.loads((home / "race" / f"{wanted.id}.json").read_text())) == 2
    assert runner(wanted, tmp_path / "records.jsonl", said.append).entrants() == first
    assert len(said) == 2
