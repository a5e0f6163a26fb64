"""From bundle to record to page: a toy family, which nothing here knows, and rows made of real pictures."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks import environment, records
from benchmarks.measure import sweep, workload
from benchmarks.measure.workload import Load
from benchmarks.records import RecordError
from benchmarks.report import html as report
from benchmarks.report import overview, plot, summary
from export import admission
from export.bundle import Bundle
from export.cuda import Gpu
from export.engine_build import build
from export.gate import GateError, require
from tests.benchmarks.made_up import floor as made_up_floor
from tests.benchmarks.made_up import made_up
from tests.stand_ins import TensorRT
from zoo.contract.request import Setting
from zoo.contract.spec import GeneratorSpec, Sampling
from zoo.family import Branch, System, class_conditional

LOAD = Load(queries=64, seconds=0.05, warm_up=1)


def test_a_family_that_nobody_knows_is_measured_recorded_and_reported(
    toy_bundles: Mapping[str, Path], tmp_path: Path
) -> None:
    path, said = tmp_path / "records.jsonl", []
    bundles = [Bundle.open(folder) for folder in toy_bundles.values()]
    cells = sweep.cells(bundles, ["onnxruntime"], [LOAD], 50, sweep.Choice(steps=(2,)))
    found = sweep.run(cells, path, told=said.append)
    assert len(found) == len(said) == len(toy_bundles)
    assert all(record["latency"]["p50"]["value"] > 0 and len(record["latency"]["raw_ms"]) >= 64 for record in found)
    assert all(record["quality"] is None for record in found)
    assert all("not judged: there are no judges of toys" in sentence for sentence in said)
    assert records.read(path) == found
    page = report.render(found)
    assert all(name in page for name in toy_bundles)

    assert sweep.run(cells, path, told=said.append) == found, "a second run measures nothing"
    assert len(said) == len(toy_bundles)
    sweep.run(cells[:1], path, again=True, told=said.append)
    assert len(records.read(path)) == len(found) + 1


def test_pictures_that_are_kept_need_no_session(toy_bundles: Mapping[str, Path], tmp_path: Path) -> None:
    bundle = Bundle.open(shutil.copytree(toy_bundles["toy-linear"], tmp_path / "copy"))
    [cell] = sweep.cells([bundle], ["onnxruntime"], [LOAD], 50)
    endpoint = sweep.in_process(bundle)
    first = sweep.measure(cell, endpoint)
    (tmp_path / "copy" / "generator.onnx").unlink()
    again = sweep.measure(cell, endpoint)
    assert (again["grid"], again["interpolation"]) == (first["grid"], first["interpolation"])


def test_rows_of_equal_numbers_are_compared_and_others_kept_apart() -> None:
    found = [made_up("fast", 1.0, 100, 3.0), made_up("good", 5.0, 100, 1.0), made_up("few", 1.0, 60, 1.0)]
    main, other = summary.sections(found)
    assert [row.title for row in main.rows] == ["fast", "good"]
    assert [row.title for row in other.rows] == ["few"]


def test_generators_of_other_data_stand_beside_and_are_not_compared(tmp_path: Path) -> None:
    floor = records.make("baseline", {"baseline": "floor", "judged": 100, "nets": {}}, quality=made_up_floor(100))
    striped = made_up("striped", 0.5, 100, 1.0, judged=False, dataset="stripes")
    found = [floor, made_up("fast", 1.0, 100, 3.0), made_up("good", 5.0, 100, 1.0), striped]
    main, other = summary.sections(found)
    assert ([row.title for row in main.rows], [row.title for row in other.rows]) == (["fast", "good"], ["striped"])
    assert set(main.baselines) == {"floor"}
    assert not other.baselines
    assert not plot.plots(other)
    assert [row.title for row in summary.beside(main, [main, other])] == ["fast", "good", "striped"]
    assert overview.distances(other.rows[0], main) == ["", ""]
    page = report.render(found)
    assert "<h2>stripes: 100 images judged" in page
    assert page.count('alt="Samples of ') == 3, "each shows what it makes"
    alone = report.render([striped])
    assert "Fréchet" not in alone.partition("<tbody>")[0].rpartition("<thead>")[2]
    assert "training\npictures" not in alone


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
    shares = {row.title: overview.accuracy(row, section) for row in section.rows}
    assert shares["free"] == ""
    assert shares["asked"].endswith(" %")
    assert report.render(found).count("<td></td></tr>") == 1


def test_page_is_self_contained_and_escapes_names() -> None:
    page = report.render([made_up("<b>bold</b>", 1.0, 100, 1.0)])
    assert "<b>bold" not in page
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert "prefers-color-scheme: dark" in page


def test_no_cell_on_record_is_one_sentence() -> None:
    with pytest.raises(RecordError, match="genzoo bench"):
        report.render([])


def test_a_quick_run_says_what_it_leaves_out(toy_bundles: Mapping[str, Path]) -> None:
    bundles = [Bundle.open(folder) for folder in toy_bundles.values()]
    choice = sweep.Choice(calls=4)
    assert sweep.left_out(bundles, choice) == ["toy-diffusion 5", "toy-diffusion 20"]
    assert {cell.title for cell in sweep.cells(bundles, ["torch"], [LOAD], 50, choice)} == {
        "toy-linear on torch, single-stream",
        "toy-diffusion 4 on torch, single-stream",
        "toy-student 2 on torch, single-stream",
    }
    assert not sweep.left_out(bundles, sweep.USUAL)


def spec(sampling: Sampling | None) -> GeneratorSpec:
    return class_conditional("toy", "toy", (1, 8, 8), (8, 8, 1), 10, sampling)


def test_settings_follow_what_a_generator_was_trained_for() -> None:
    def steps(sampling: Sampling, *wanted: int) -> list[int | None]:
        return [setting.num_steps for setting in sweep.Choice(wanted).settings(spec(sampling))]

    assert sweep.USUAL.settings(spec(None)) == (Setting(),)
    assert steps(Sampling(num_steps=50)) == [5, 20, 50]
    assert steps(Sampling(steps=(1, 2))) == [1, 2]
    assert steps(Sampling(steps=(1, 2)), 2, 4) == [2]


def test_what_makes_a_generator_a_system_is_measured_once() -> None:
    def system(setting: Setting) -> System:
        return System("A system", Branch.DIFFUSION, "Nobody 2026, arXiv:0000.00000", "", setting)

    asked = (Setting(), Setting(20, "ddim"), Setting(1000, "ddpm"), Setting(60, None, 2.0))
    systems = tuple(map(system, asked))
    usual = (Setting(5), Setting(20), Setting(50))
    toy = spec(Sampling(num_steps=50, max_guidance_scale=2.0))
    assert sweep.USUAL.settings(toy, systems) == (*usual, Setting(1000, "ddpm"), Setting(60, None, 2.0))
    assert sweep.Choice(tree=True).settings(toy, systems) == asked
    assert sweep.Choice(calls=100).settings(toy, systems) == usual, "guidance doubles the calls"
    assert sweep.Choice(steps=(5,)).settings(toy, systems) == (Setting(5),)
    assert not sweep.Choice(tree=True).settings(toy)


def test_the_sampler_reaches_the_endpoint() -> None:
    asked = workload.tensors(spec(Sampling(max_guidance_scale=4.0)), Setting(5, "heun", 2.0), [3, 14])
    assert {name: tensor.tolist() for name, tensor in asked.items()} == {
        "seed": [3, 14],
        "num_steps": [5, 5],
        "guidance_scale": [2.0, 2.0],
        "sampler": ["heun", "heun"],
    }


def test_guard_reports_the_probe_and_its_verdict() -> None:
    with environment.guard() as found:
        pass
    assert found["noisy"] in (True, False)
    assert all(value > 0 for value in found["probe_ms"])


def test_engines_are_gated_measured_and_named_with_their_gpu(
    toy_bundles: Mapping[str, Path], tmp_path: Path, gpu: TensorRT
) -> None:
    bundle = require(Bundle.open(toy_bundles["toy-linear"]))
    with pytest.MonkeyPatch.context() as real:
        real.delitem(sys.modules, "tensorrt_rtx")
        engine = build(bundle, bundle.entry)
    gpu.learn(engine, bundle)
    cells = sweep.cells([bundle], ["onnxruntime", "tensorrt"], [LOAD], 50)
    on_cpu, on_gpu = sweep.run(cells, tmp_path / "records.jsonl", told=lambda _: None)
    assert on_gpu["identity"]["artifact"]["engines"] == {bundle.entry: engine.sha256}
    assert on_gpu["identity"]["machine"]["gpu"]["name"] == "NVIDIA L4"
    assert "gpu" not in on_cpu["identity"]["machine"]
    assert on_gpu["latency"]["p50"]["value"] > 0
    assert admission.generations(engine) == ("sm89",)
    admission.record(engine, Gpu("NVIDIA L4", "sm89", "580"), False, "toy-linear was refused: it is wrong", {})
    with pytest.raises(GateError, match="it is wrong; nothing of it is measured"):
        sweep.run(sweep.cells([bundle], ["tensorrt"], [LOAD], 50), tmp_path / "others.jsonl")
