"""Plans in a model repository: which backend, for which GPUs, and that the gate has admitted them there."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from google.protobuf import json_format, text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup
from typer.testing import CliRunner

from export import admission
from export.bundle import Bundle
from export.cuda import Gpu, GpuError
from export.engine import Engine, EngineError, Library, Target, placed, plan_path
from export.engine_build import build
from export.engine_gate import admit
from export.engine_key import inputs
from export.exporter import export
from export.gate import require
from export.profiles import Ends
from export.runners import bundle_runner
from serving import cli, model_repository
from serving.client import TritonRunner
from serving.engines import EngineNotServedError, Wanted
from serving.model_config import Placement
from serving.places import BACKENDS
from serving.server import TritonServer
from tests.stand_ins import TensorRT
from zoo import files
from zoo.contract.errors import RequestError
from zoo.contract.generator import Generator
from zoo.contract.request import SampleRequest
from zoo.exchange import derived
from zoo.family import Checkpoint

pytest.importorskip("tensorrt_rtx")
SEEDS = SampleRequest(tuple(range(5)))


@pytest.fixture
def bundle(toy_student: Checkpoint) -> Bundle:
    return require(export(toy_student))


@pytest.fixture(autouse=True)
def nothing_admitted(toy_families: tuple[str, ...]) -> None:
    """As on a host on which no engine went before the gate."""
    for path in derived.admitted("x").parent.glob("*"):
        path.unlink()


def by_tensorrt(bundle: Bundle, target: Target, ends: Ends | None = None) -> Engine:
    """A plan as full TensorRT records it; its bytes are nobody's."""
    path = plan_path(bundle, bundle.entry, target, Library.FULL)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(f"a plan for {target}".encode())
    made_from = {**inputs(bundle, bundle.entry, target, Library.FULL, ends=ends), "version": "10.9.0.34"}
    return Engine(path, {"name": bundle.name, "file": path.name, "sha256": files.sha256(path), "inputs": made_from})


def admitted(engine: Engine, generation: str) -> Engine:
    admission.record(engine, Gpu("a GPU", generation, "580.95.05"), True, "admitted", {})
    return engine


def config_of(folder: Path, bundle: Bundle, engines: list[Engine], **options: Any) -> ModelConfig:
    """The graph's configuration in a new repository, by the strict parser of Triton's own message."""
    repository = model_repository.write([bundle], folder / "models", engines={bundle.name: engines}, **options)
    model = repository.path / f"{bundle.name}_{bundle.entry}"
    config = text_format.Parse((model / "config.pbtxt").read_text(), ModelConfig())
    for engine in engines:
        copy = placed(model / "1" / f"{engine.target}.plan")
        assert files.sha256(copy.path) == engine.sha256 == copy.sha256
        assert (copy.library, copy.version) == (engine.library, engine.version)
    return config


def test_a_plan_of_tensorrt_rtx_gets_a_backend_of_ours(bundle: Bundle, tmp_path: Path) -> None:
    engine = admitted(build(bundle, bundle.entry, Target.SM89), "sm89")
    config = config_of(tmp_path, bundle, [engine], placement=Placement((0, 2), 3))
    assert (config.backend, config.platform, config.default_model_filename) == ("tensorrt_rtx", "", "")
    assert dict(config.cc_model_filenames) == {"8.9": "sm89.plan"}
    (group,) = config.instance_group
    assert (group.kind, list(group.gpus), group.count) == (ModelInstanceGroup.KIND_GPU, [0, 2], 3)
    assert config.parameters["sm89.plan"].string_value == f"tensorrt-rtx {engine.version} sha256:{engine.sha256}"
    assert (BACKENDS / config.backend / "model.py").is_file()
    warm_ups = {warmup.batch_size: warmup.inputs for warmup in config.model_warmup}
    assert set(warm_ups) == {1, 64}
    assert list(warm_ups[64]["table"].dims) == [2, 13], "a student of two steps has no other table"


def test_a_plan_of_tensorrt_gets_triton_s_own_backend(bundle: Bundle, tmp_path: Path) -> None:
    engines = [admitted(by_tensorrt(bundle, target), target) for target in (Target.SM90, Target.SM120)]
    config = config_of(tmp_path, bundle, engines)
    assert (config.platform, config.backend) == ("tensorrt_plan", "")
    assert dict(config.cc_model_filenames) == {"9.0": "sm90.plan", "12.0": "sm120.plan"}
    assert [(group.kind, list(group.gpus)) for group in config.instance_group] == [(ModelInstanceGroup.KIND_GPU, [])]


def test_triton_is_told_of_every_bucket_and_warms_up_the_first_and_the_last(bundle: Bundle, tmp_path: Path) -> None:
    engine = admitted(by_tensorrt(bundle, Target.SM90, Library.FULL.ends), "sm90")
    config = config_of(tmp_path, bundle, [engine])
    assert [list(group.profile) for group in config.instance_group] == [["0", "1"]]
    assert {warm_up.batch_size for warm_up in config.model_warmup} == {1, 64}
    other = admitted(by_tensorrt(bundle, Target.SM120), "sm120")
    with pytest.raises(EngineNotServedError, match=r"has engines of 1 and 2 buckets: .* with the same --buckets"):
        config_of(tmp_path / "two", bundle, [engine, other])


def test_plans_of_two_libraries_are_not_one_model(bundle: Bundle, tmp_path: Path) -> None:
    engines = [by_tensorrt(bundle, Target.SM90), build(bundle, bundle.entry, Target.SM89)]
    with pytest.raises(EngineNotServedError, match="engines by tensorrt and tensorrt-rtx: a model has one backend"):
        config_of(tmp_path, bundle, engines, allow_unadmitted=True)
    assert list(tmp_path.iterdir()) == []


def test_an_engine_of_another_bundle_is_refused(
    bundle: Bundle, toy_bundles: Mapping[str, Path], tmp_path: Path
) -> None:
    other = Bundle.open(toy_bundles["toy-linear"])
    with pytest.raises(EngineNotServedError, match="was not built from"):
        config_of(tmp_path, bundle, [build(other, other.entry)], allow_unadmitted=True)


def test_a_portable_plan_goes_where_it_was_admitted_and_nowhere_else(bundle: Bundle, tmp_path: Path) -> None:
    portable, own = build(bundle, bundle.entry), admitted(build(bundle, bundle.entry, Target.SM89), "sm89")
    for generation in ("sm86", "sm89"):
        admitted(portable, generation)
    config = config_of(tmp_path, bundle, [portable, own])
    assert dict(config.cc_model_filenames) == {"8.6": "portable.plan", "8.9": "sm89.plan"}
    assert not config.default_model_filename


def test_what_was_not_admitted_on_its_generation_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    engine = admitted(build(bundle, bundle.entry, Target.SM89), "sm86")
    with pytest.raises(EngineNotServedError, match=r"plan \w+, was not before the gate on such a GPU.*--ungated"):
        config_of(tmp_path, bundle, [engine])
    assert list(tmp_path.iterdir()) == []
    config = config_of(tmp_path, bundle, [engine, build(bundle, bundle.entry)], allow_unadmitted=True)
    assert dict(config.cc_model_filenames) == {"8.9": "sm89.plan"}
    assert config.default_model_filename == "portable.plan"


def test_the_gate_admits_an_engine_on_a_gpu_of_its_target(bundle: Bundle, gpu: TensorRT, tmp_path: Path) -> None:
    engine = built_by_the_real_library(gpu, bundle, Target.SM89)
    gpu.learn(engine, bundle)
    verdict = admit(bundle)
    assert verdict.admitted, verdict.message
    entry = admission.found(engine)["sm89"]
    assert [entry[key] for key in ("gpu", "driver", "library", "version")] == [
        "NVIDIA L4", "for CUDA 13.0", "tensorrt-rtx", engine.version,
    ]  # fmt: skip
    assert engine.sha256[:12] in entry["message"]
    assert entry["requests"][0]["lsb"] == 0
    assert config_of(tmp_path, bundle, [engine]).backend == "tensorrt_rtx"


def test_the_gate_refuses_an_engine_and_nothing_publishes_it(
    bundle: Bundle, toy_diffusion: Checkpoint, gpu: TensorRT, tmp_path: Path
) -> None:
    engine = built_by_the_real_library(gpu, bundle, Target.SM89)
    gpu.learn(engine, Bundle(export(toy_diffusion).path, bundle.manifest))  # another's weights: other images
    verdict = admit(bundle)
    assert not verdict.admitted
    assert "was refused: sampler is wrong" in verdict.message
    with pytest.raises(EngineNotServedError, match=r"was refused by the gate .*sampler is wrong"):
        config_of(tmp_path, bundle, [engine])


def built_by_the_real_library(gpu: TensorRT, bundle: Bundle, target: Target) -> Engine:
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(sys.modules, "tensorrt_rtx")
        return build(bundle, bundle.entry, target)


def test_our_backend_runs_the_plan_for_its_gpu(
    bundle: Bundle, gpu: TensorRT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton gives it the configuration as JSON, and the folder of the model's version."""
    engine = admitted(built_by_the_real_library(gpu, bundle, Target.SM89), "sm89")
    gpu.learn(engine, bundle)
    config = json_format.MessageToDict(config_of(tmp_path, bundle, [engine]), preserving_proto_field_name=True)
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", ModuleType("triton_python_backend_utils"))
    spec = importlib.util.spec_from_file_location("rtx_model", BACKENDS / "tensorrt_rtx" / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.TritonPythonModel()
    folder = tmp_path / "models" / config["name"] / "1"
    made = Generator(bundle.spec, model.open(folder, config, 0)).sample(SEEDS)
    np.testing.assert_array_equal(made, Generator(bundle.spec, bundle_runner(bundle)).sample(SEEDS))
    with pytest.raises(EngineError, match=r"has no plan for NVIDIA L4 .*admitted none"):
        model.open(folder, {**config, "cc_model_filenames": {"8.6": "sm86.plan"}}, 0)
    with pytest.raises(EngineError, match=r"has no plan for NVIDIA L4 .*admitted none"):
        model.open(folder, {**config, "cc_model_filenames": {}, "default_model_filename": "model.plan"}, 0)
    record = folder / "sm89.plan.json"
    older = json.loads(record.read_text())
    older["inputs"]["version"] = "1.3.0"
    record.write_text(json.dumps(older))
    with pytest.raises(EngineError, match=r"was built by tensorrt-rtx 1\.3\.0, here is"):
        model.open(folder, config, 0)


def test_the_command_builds_what_is_missing_and_says_what_is_ungated(bundle: Bundle, tmp_path: Path) -> None:
    words = ["repository", str(bundle.path), "-o", str(tmp_path / "m"), "--engine", "sm86", "--gpus", "1"]
    refused = CliRunner().invoke(cli.app, words)
    assert isinstance(refused.exception, EngineNotServedError)
    assert not (tmp_path / "m").exists()
    done = CliRunner().invoke(cli.app, [*words, "--ungated"])
    assert done.exit_code == 0, done.output
    assert f"not admitted by the gate: {bundle.name} for sm86" in done.output
    assert "load only with tensorrt-rtx==" in done.output
    assert f" RTX={Library.RTX.version} GPUS=2 docker compose" in done.output
    variables = re.findall(r"(\w+)=", done.output.rpartition("next: ")[2])
    read = re.findall(r"\$\{(\w+)", (BACKENDS.parent / "deploy" / "compose.yaml").read_text())
    assert sorted(variables) == sorted(read), "the container is told all that the command says"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [(("--gpus", "0"), "give --engine TARGET too"), (("--engine", "sm89", "--gpus", "0,a"), "write numbers like 0,1")],
)
def test_options_that_make_no_sense(bundle: Bundle, tmp_path: Path, options: tuple[str, ...], sentence: str) -> None:
    result = CliRunner().invoke(cli.app, ["repository", str(bundle.path), "-o", str(tmp_path / "m"), *options])
    assert isinstance(result.exception, RequestError)
    assert sentence in str(result.exception)


def test_no_engine_is_wanted_by_default() -> None:
    assert Wanted.of(None, None, None, 1) is None


def test_a_gpu_that_is_named_twice_is_one() -> None:
    wanted = Wanted.of([Target.SM89, Target.SM89], None, "1,0,1", 2)
    assert wanted == Wanted((Target.SM89,), None, Placement((1, 0), 2))


@pytest.mark.parametrize("target", [Target.PORTABLE, Target.SM89])
def test_triton_itself_loads_such_a_repository_where_our_backend_is(
    bundle: Bundle, tmp_path: Path, target: Target
) -> None:
    """The real server, with ONNX Runtime in the backend's place, since this host has no GPU to put the model on."""
    engine = build(bundle, bundle.entry, target)
    repository = model_repository.write(
        [bundle], tmp_path / "models", engines={bundle.name: [engine]}, allow_unadmitted=True
    )
    config = repository.path / f"{bundle.name}_{bundle.entry}" / "config.pbtxt"
    config.write_text(config.read_text().replace("KIND_GPU", "KIND_AUTO"))
    with TritonServer(repository, tmp_path / "log", config="", canary_seconds=0) as server:
        made = TritonRunner(server.grpc_url, bundle.name).run(seed=np.arange(5, dtype=np.uint64))["image"]
    expected = Generator(bundle.spec, bundle_runner(bundle)).sample(SEEDS)
    np.testing.assert_array_equal(made, expected)


def test_a_pulled_engine_of_another_export_is_not_built_over(bundle: Bundle) -> None:
    engine, wanted = build(bundle, bundle.entry, Target.SM86), Wanted((Target.SM86,), None, Placement())
    made_from = {**engine.record["inputs"], "bundle": "0" * 64}
    files.write_json(derived.built(engine.sha256), {**engine.record, "inputs": made_from, "admitted_by": "alice"})
    with pytest.raises(EngineNotServedError, match="signed by alice, was built from another export than"):
        wanted.engines(bundle)
    assert files.sha256(engine.path) == engine.sha256
    files.write_json(derived.built(engine.sha256), {**engine.record, "inputs": made_from})
    (ours,) = wanted.engines(bundle)
    assert ours.record["bundle"] == bundle.digest


def test_a_killed_process_of_our_backend_is_replaced(bundle: Bundle, tmp_path: Path) -> None:
    """As where CUDA failed in it, after which it can do nothing more; the public model calls it and lives on."""
    repository = model_repository.write([bundle], tmp_path / "models")
    with TritonServer(repository, tmp_path / "log", config="", canary_seconds=0.5) as server:
        assert server.supervisor is not None
        children = Path(f"/proc/{server.pid}/task").glob("*/children")
        pids = {int(pid) for each in children for pid in each.read_text().split()}
        commands = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in pids}
        (ours,) = [pid for pid, command in commands.items() if f"/{bundle.name}_{bundle.entry}/" in command]
        os.kill(ours, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while server.supervisor.heals[bundle.name] == 0 and time.monotonic() < deadline:
            time.sleep(0.1)
        made = TritonRunner(server.grpc_url, bundle.name, timeout_s=5).run(seed=np.arange(5, dtype=np.uint64))["image"]
    np.testing.assert_array_equal(made, Generator(bundle.spec, bundle_runner(bundle)).sample(SEEDS))


def test_serving_engines_needs_a_gpu(bundle: Bundle) -> None:
    result = CliRunner().invoke(cli.app, ["serve", str(bundle.path), "--engine", "portable"])
    assert isinstance(result.exception, GpuError)
    assert "no NVIDIA GPU can be used here" in str(result.exception)


def test_a_sample_by_an_engine_is_the_same_file(bundle: Bundle, gpu: TensorRT, tmp_path: Path) -> None:
    gpu.learn(built_by_the_real_library(gpu, bundle, Target.PORTABLE), bundle)
    gpu.learn(built_by_the_real_library(gpu, bundle, Target.SM89), bundle)
    for runtime in ("onnxruntime", "tensorrt"):
        output = str(tmp_path / f"{runtime}.npz")
        words = ["sample", str(bundle.path), "--seeds", "0-9", "--runtime", runtime, "-o", output]
        done = CliRunner().invoke(cli.app, words)
        assert done.exit_code == 0, done.exception
    with np.load(tmp_path / "onnxruntime.npz") as here, np.load(tmp_path / "tensorrt.npz") as there:
        np.testing.assert_array_equal(here["images"], there["images"])
