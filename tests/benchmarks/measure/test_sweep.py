"""From bundle to record to page: a toy family, which nothing here knows, and rows made of real pictures."""

from __future__ import annotations

import base64
import dataclasses
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks import records
from benchmarks.measure import samples, sweep, tables, workload
from benchmarks.measure.rounds import Journal, Rounds
from benchmarks.measure.sweep import Cell
from benchmarks.measure.workload import BATCHES, SCENARIOS, Load, WorkloadError
from benchmarks.quality import judges
from benchmarks.quality.external import ExternalNetError
from export import admission
from export.bundle import Bundle
from export.cuda import Gpu
from export.engine_build import build
from export.gate import GateError, require
from tests.benchmarks.made_up import quality
from tests.stand_ins import TensorRT
from zoo import registry, shelf
from zoo.contract.feeds import Tensors
from zoo.contract.request import SampleRequest, Setting
from zoo.contract.spec import GeneratorSpec, Sampling
from zoo.family import Branch, System, class_conditional

LOAD = Load(queries=22, seconds=0.05, warm_up=1)
ROUNDS = Rounds(3)
TWO_STEPS = sweep.Choice(steps=(2,))


def open_all(folders: Mapping[str, Path]) -> list[Bundle]:
    return [Bundle.open(folder) for folder in folders.values()]


def cells_of(bundles: list[Bundle], *runtimes: str, load: Load = LOAD) -> list[Cell]:
    return sweep.cells(sweep.rows(bundles, TWO_STEPS), runtimes or ["onnxruntime"], [load], ROUNDS)


def test_a_family_that_nobody_knows_is_measured_and_recorded(toy_bundles: Mapping[str, Path], tmp_path: Path) -> None:
    path, said = tmp_path / "records.jsonl", []
    bundles = open_all(toy_bundles)
    cells = cells_of(bundles)
    found = sweep.run(cells, [], path, told=said.append)
    assert [record["id"] for record in found] == [cell.id for cell in cells]
    assert records.read(path) == found
    assert said[0] == "opening 3 generators on onnxruntime"
    assert said[1].startswith("3 cells in 3 rounds take about 0:")
    assert sum(" round " in sentence for sentence in said) == 3
    for record in found:
        assert [run["round"] for run in record["runs"]] == [0, 1, 2]
        assert not [run["invalid_because"] for run in record["runs"] if not run["valid"]]
        assert all(len(run["latencies_ms"]) >= 22 for run in record["runs"])
        assert 0 < record["latency"]["p50"]["low"] <= record["latency"]["p50"]["value"]
        assert record["reference"] == "toy-linear on onnxruntime, single-stream"
        assert record["served"]["within"]
        assert record["served"]["images"] == 12
        assert not {"invalid", "few-queries", "served-differs", "cached"} & set(record["flags"])
    first = found[0]["latency"]["relative"]
    assert 0.5 < first["value"] < 2.0, "the reference, beside itself"
    assert not Journal.beside(path).path.exists()

    count = len(said)
    assert sweep.run(cells, [], path, told=said.append) == found, "a second run measures nothing"
    assert len(said) == count
    sweep.run(cells[:1], [], path, again=True, told=said.append)
    assert len(records.read(path)) == len(found) + 1


def test_what_decides_a_latency_is_part_of_its_identity(toy_bundles: Mapping[str, Path]) -> None:
    [cell] = cells_of([Bundle.open(toy_bundles["toy-linear"])])
    software, machine = cell.identity["software"], cell.identity["machine"]
    assert {"python", "numpy", "onnxruntime", "mlcommons_loadgen", "threads"} <= set(software)
    assert set(machine) == {"cpu", "cores", "memory_gb", "host"}
    assert "tritonserver" not in software
    served = dataclasses.replace(cell, runtime="triton").identity["software"]
    assert served["tritonserver"] == "2.51.0"
    assert served["model_onnxruntime"] == software["onnxruntime"]
    upgraded = {**cell.identity, "software": {**software, "onnxruntime": "99"}}
    assert records.id_of("cell", upgraded) != cell.id
    more = dataclasses.replace(cell, rounds=Rounds(7))
    assert more.id != cell.id


def test_a_run_that_is_stopped_goes_on_and_says_so(toy_bundles: Mapping[str, Path], tmp_path: Path) -> None:
    path, said = tmp_path / "records.jsonl", []
    cells = cells_of([Bundle.open(toy_bundles["toy-linear"])])

    def stop(sentence: str) -> None:
        said.append(sentence)
        if "round 2 of 3" in sentence:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep.run(cells, [], path, told=stop)
    assert said[-1].startswith("stopped: ")
    assert not path.exists()
    said.clear()
    [record] = sweep.run(cells, [], path, told=said.append)
    assert said[0].startswith("2 of 3 runs are kept from before, in ")
    assert [run["round"] for run in record["runs"]] == [0, 1, 2]
    assert sum(" round " in sentence for sentence in said) == 1


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_scenario_becomes_a_record(toy_bundles: Mapping[str, Path], tmp_path: Path, scenario: str) -> None:
    usual = workload.load(scenario, quick=True)
    load = dataclasses.replace(usual, queries=min(usual.queries, 40), seconds=0.1)
    cells = cells_of([Bundle.open(toy_bundles["toy-linear"])], load=load)
    [record] = sweep.run(cells, [], tmp_path / "records.jsonl", told=lambda _: None)
    assert record["identity"]["protocol"]["batch_size"] == BATCHES[scenario]
    assert record["latency"]["images_per_second"]["value"] > 0
    assert record["latency"]["relative"]["value"] > 0
    assert {"rate" in run for run in record["runs"]} == {scenario == "server"}
    assert (record["served"]["cache"] is None) == (scenario != "single-stream")
    [(caption, columns, [line])] = tables.of([record], price=1.0)
    assert caption.startswith(f"onnxruntime; {scenario}; 3 rounds; ")
    assert record["reference"] in caption
    assert len(line) == len(columns)


def test_what_is_invalid_is_shown_with_its_reasons(toy_bundles: Mapping[str, Path], tmp_path: Path) -> None:
    load = dataclasses.replace(LOAD, queries=5, seconds=0.0)
    cells = cells_of([Bundle.open(toy_bundles["toy-linear"])], load=load)
    said: list[str] = []
    [record] = sweep.run(cells, [], tmp_path / "records.jsonl", told=said.append)
    assert {"invalid", "few-queries"} <= set(record["flags"])
    assert "not: Early stopping satisfied" in record["runs"][0]["invalid_because"]
    assert "invalid" in said[-1]
    [(_, columns, [line])] = tables.of([record])
    assert "invalid" in line[columns.index("flags")]


def test_what_nobody_judges_is_in_no_table_of_quality() -> None:
    [(_, _, [line])] = tables.of([quality("known", 100, 1.0), quality("unknown", 60, 1.0, judged=False)])
    assert line[0] == "known"


def test_images_that_are_judged_come_from_the_endpoint(toy_bundles: Mapping[str, Path]) -> None:
    bundle = Bundle.open(toy_bundles["toy-diffusion"])
    [row] = sweep.rows([bundle], TWO_STEPS)
    asked: list[int] = []

    class Watched:
        def run(self, **tensors: np.ndarray) -> Tensors:
            asked.extend(tensors["seed"].reshape(-1).tolist())
            return generator.run(**tensors)

    generator = sweep.in_process(bundle)
    endpoint = sweep.Endpoint(row.spec, Watched, lambda: generator)
    request = SampleRequest(tuple(range(70)), setting=row.setting)
    assert np.array_equal(endpoint.sample(request), generator.sample(request))
    assert asked == list(range(70))


def test_who_is_not_judged_is_shown_and_said_with_the_reason(toy_bundles: Mapping[str, Path], tmp_path: Path) -> None:
    """Pictures that are kept need no session: the second time the graph is gone."""
    bundle, said = Bundle.open(shutil.copytree(toy_bundles["toy-linear"], tmp_path / "copy")), []
    wanted = sweep.judged(sweep.rows([bundle]), "onnxruntime", 100)
    [first] = sweep.run([], wanted, tmp_path / "records.jsonl", told=said.append)
    assert said[-1].endswith("1 of 1 judged: toy-linear: quality not judged: there are no judges of toys")
    assert (first["count"], first["metrics"], first["left_out"], first["flags"]) == (0, {}, {}, [])
    assert base64.b64decode(first["grid"]).startswith(b"\x89PNG")
    (tmp_path / "copy" / "generator.onnx").unlink()
    [again] = sweep.run([], wanted, tmp_path / "records.jsonl", again=True, told=said.append)
    assert (again["grid"], again["interpolation"]) == (first["grid"], first["interpolation"])
    assert not list(sweep.baselines(wanted, tmp_path / "records.jsonl"))


def test_a_users_net_judges_what_the_data_sets_own_nets_judge(tmp_path: Path) -> None:
    """What such a net measures is tests/benchmarks/quality/test_external.py's matter."""
    net = tmp_path / "encoder.onnx"
    assert sweep.judges_of("toys", (net,)) == judges.Judges("toys")
    with pytest.raises(ExternalNetError, match=r"encoder\.json does not describe encoder\.onnx"):
        sweep.judges_of(judges.FIRST, (net,))


def test_generators_that_do_not_fit_into_memory_are_parts(toy_bundles: Mapping[str, Path]) -> None:
    cells = cells_of(open_all(toy_bundles))
    assert len(sweep.parts(cells, [])) == 1
    apart = sweep.parts(cells, [], memory=1)
    assert [[cell.id for cell in part.cells] for part in apart] == [[cell.id] for cell in cells]
    assert {cell.reference for cell in cells} == {"toy-linear on onnxruntime, single-stream"}


def test_a_quick_choice_asks_by_examples_and_draws_no_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pictures take minutes and packages of their own, which who wants a first impression need not have."""
    monkeypatch.setattr(samples, "_held_out", lambda dataset: pytest.fail(f"{dataset} was drawn"))
    checkpoint = registry.checkpoint("t2i-lcm")
    bundle: Any = SimpleNamespace(
        name=checkpoint.name, served_spec=checkpoint.spec, assets=shelf.assets(checkpoint.name)
    )
    full, quick = (
        row for by_examples in (False, True)
        for row in sweep.rows([bundle], sweep.Choice((4,), by_examples=by_examples))
    )  # fmt: skip
    assert (full.conditions, quick.conditions) == (samples.OF_HELD_OUT, samples.DRAWN)
    assert quick.asked is bundle.assets
    assert full.judges.nets
    assert not quick.judges.nets, "a few examples are no sample"
    assert quick.judges.everybody, "but what they say can be read in their pictures"
    assert sweep.asked_of(quick) == {}


def test_the_reference_is_the_one_that_is_named_or_the_first(toy_bundles: Mapping[str, Path]) -> None:
    rows = sweep.rows(open_all(toy_bundles), sweep.Choice(steps=(2, 3)))
    assert [row.title for row in rows] == ["toy-linear", "toy-diffusion 2", "toy-diffusion 3", "toy-student 2"]
    assert sweep.reference_row(rows, "toy-diffusion 3").title == "toy-diffusion 3"
    assert sweep.reference_row(rows, "toy-student").title == "toy-student 2"
    assert sweep.reference_row(rows, "elsewhere").title == "toy-linear"
    with pytest.raises(WorkloadError, match="the reference 'toy-diffusion 4' is not among what is measured"):
        sweep.reference_row(rows, "toy-diffusion 4", required=True)


def test_a_quick_run_says_what_it_leaves_out(toy_bundles: Mapping[str, Path]) -> None:
    bundles = [Bundle.open(folder) for folder in toy_bundles.values()]
    choice = sweep.Choice(calls=4)
    assert sweep.left_out(bundles, choice) == ["toy-diffusion 5", "toy-diffusion 20"]
    assert {cell.title for cell in sweep.cells(sweep.rows(bundles, choice), ["torch"], [LOAD])} == {
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


def test_engines_are_gated_measured_and_named_with_their_gpu(
    toy_bundles: Mapping[str, Path], tmp_path: Path, gpu: TensorRT
) -> None:
    bundle = require(Bundle.open(toy_bundles["toy-linear"]))
    with pytest.MonkeyPatch.context() as real:
        real.delitem(sys.modules, "tensorrt_rtx")
        engine = build(bundle, bundle.entry)
    gpu.learn(engine, bundle)
    cells = cells_of([bundle], "onnxruntime", "tensorrt")
    on_cpu, on_gpu = sweep.run(cells, [], tmp_path / "records.jsonl", told=lambda _: None)
    assert on_gpu["identity"]["artifact"]["engines"] == {bundle.entry: engine.sha256}
    assert on_gpu["identity"]["machine"]["gpu"]["name"] == "NVIDIA L4"
    assert "gpu" not in on_cpu["identity"]["machine"]
    assert on_gpu["latency"]["p50"]["value"] > 0
    assert admission.generations(engine) == ("sm89",)
    admission.record(engine, Gpu("NVIDIA L4", "sm89", "580"), False, "toy-linear was refused: it is wrong", {})
    with pytest.raises(GateError, match="it is wrong; nothing of it is measured"):
        sweep.run(cells_of([bundle], "tensorrt"), [], tmp_path / "others.jsonl")
