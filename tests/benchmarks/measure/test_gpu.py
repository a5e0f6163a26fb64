"""The command for a host with a GPU, on the processor: the same path, but for the device's name."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks import records
from benchmarks.cli import app
from benchmarks.measure import contenders, floor
from benchmarks.measure import gpu as gpu_run
from benchmarks.measure.floor import Ceilings, Work
from benchmarks.report import html
from export.engine import Target, choose
from export.runners import bundle_runner
from tests.benchmarks.made_up import made_up
from tests.examples import at_random
from tests.stand_ins import TensorRT
from zoo import registry
from zoo.contract.errors import RequestError
from zoo.family import Checkpoint

torch = pytest.importorskip("torch")
CPU = ("--device", "cpu", "--contender", "torch", "--contender", "onnxruntime-cuda", "--batch", "1", "--batch", "3")


def test_what_is_measured_is_a_record_like_any_other(toy_student: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    done = CliRunner().invoke(app, ["gpu", "toy-student", *CPU, "--records", str(path), "--json"])
    assert done.exit_code == 0, done.exception
    [record] = records.read(path)
    assert json.loads(done.output) == record
    assert record["identity"]["kind"] == "gpu"
    assert record["identity"]["setting"]["num_steps"] == 2
    assert (record["check"]["lsb"], record["check"]["differing"]) == (0, 0.0)
    first, second, refused = record["lines"]
    assert (first["runtime"], first["batch"], second["batch"]) == ("torch", 1, 3)
    assert first["ms"]["p50"] > first["floor_ms"] > 0.0
    assert second["floor_ms"] > first["floor_ms"]
    assert "has no CUDAExecutionProvider" in refused["error"]
    page = html.render([record, *made_up("fast", 1.0, 100, 3.0)])
    assert "fast" in page, "a report stumbles over no record"


@pytest.mark.longer
@pytest.mark.skipif(not at_random, reason="it compiles for half a minute: in `make fuzz`")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # by torch's own compiler, of its own modules
def test_what_is_compiled_makes_the_same_images(toy_one_shot: Checkpoint) -> None:
    tensors = contenders.request(toy_one_shot, range(5))
    eager, compiled = (contenders.contender(name, toy_one_shot, "cpu") for name in ("torch", "torch-compile"))
    assert np.abs(eager(tensors).astype(int) - compiled(tensors).astype(int)).max() <= 1
    assert [len(part["noise"]) for part in contenders.split(tensors, 2)] == [2, 2, 1]


def test_an_engine_is_built_for_the_gpu_that_it_is_timed_on(gpu: TensorRT, toy_student: Checkpoint) -> None:
    bundle = contenders.bundle_of(toy_student)
    assert choose(bundle, bundle.entry, list(Target)) is None
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(sys.modules, "tensorrt_rtx")  # the real library builds, the stand-in executes
        contenders.build_engines(bundle)
    engine = choose(bundle, bundle.entry, list(Target))
    assert engine is not None
    assert engine.target is Target.SM89
    gpu.learn(engine, bundle)
    tensors = contenders.request(toy_student, range(5))
    made = contenders.contender("tensorrt", toy_student, "cuda")(tensors)
    np.testing.assert_array_equal(made, bundle_runner(bundle).run(**tensors)["images"])


def test_a_ceiling_is_the_fastest_of_some_runs() -> None:
    found = Ceilings.of(1000, np.array([4.0, 2.0, 8.0]), 10, np.array([5.0, 9.0]))
    assert found == Ceilings(bytes_per_second=500_000.0, operations_per_second=2000.0)


def test_a_floor_is_what_takes_longer_bytes_or_operations() -> None:
    ceilings = Ceilings(bytes_per_second=1e9, operations_per_second=1e12)
    assert ceilings.floor_ms(Work(bytes=10**6, operations=10**6, calls=2)) == pytest.approx(2.0)
    assert ceilings.floor_ms(Work(bytes=10, operations=10**9, calls=3)) == pytest.approx(3.0)
    linear = torch.nn.Linear(6, 4)
    counted = floor.work_of(linear, [torch.zeros(5, 6)], 1)
    assert counted == Work(bytes=4 * (6 * 4 + 4 + 5 * 6 + 5 * 4), operations=2 * 5 * 6 * 4, calls=1)


def test_it_ends_in_time_and_keeps_what_it_has(toy_student: Checkpoint, toy_diffusion: Checkpoint) -> None:
    plan = gpu_run.Plan(("toy-student", "toy-diffusion"), ("toy-student",), ("toy-diffusion",), ("torch",), (1,), "cpu")
    said: list[str] = []
    over = gpu_run.Clock.of(0.0)
    assert list(gpu_run.run(plan, over, over, said.append)) == []
    assert any("no time is left for toy-diffusion and what comes after it" in each for each in said)
    assert "toy-diffusion is not done: the same command goes on with it" in said
    began = time.monotonic()
    with pytest.raises(gpu_run.TimeUp), gpu_run.Clock.of(0.1 / 60).limited():
        time.sleep(30)
    assert time.monotonic() - began < 10


def test_a_queued_training_is_kept_when_the_time_is_over(
    toy_families: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real one of the zoo, cut off after a moment; the loop's own tests go on with such a state."""
    monkeypatch.setenv("GENZOO_HOME", str(tmp_path))
    monkeypatch.setenv("GENZOO_CHECKPOINTS", str(tmp_path / "own"))
    said: list[str] = []
    gpu_run.train("vae", "cpu", gpu_run.Clock.of(6 / 60), said.append)
    assert said == ["vae is not done: the same command goes on with it"]
    assert len(list((tmp_path / "training" / "vae").rglob("state.safetensors"))) == 1
    assert not list((tmp_path / "own").glob("*"))


def test_a_host_without_a_gpu_is_one_sentence(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["gpu", "--records", str(tmp_path / "records.jsonl")])
    assert isinstance(result.exception, gpu_run.GpuRunError)
    assert "finds no NVIDIA GPU here; --device cpu does the same without one" in str(result.exception)
    assert result.exit_code != 0
    unknown = CliRunner().invoke(app, ["gpu", "--contender", "torch-compiled"])
    assert isinstance(unknown.exception, RequestError)
    assert "did you mean torch-compile" in str(unknown.exception)


def test_the_usual_plan_times_one_of_each_family() -> None:
    plan = gpu_run.usual("cpu")
    families = [registry.entry(name).spec.family for name in plan.timed]
    assert len(families) == len(set(families))
    assert set(plan.timed) <= set(plan.checked)
