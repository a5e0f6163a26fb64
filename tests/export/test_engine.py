"""Real engines, built by TensorRT-RTX ahead of time on a host without a GPU."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from export.bundle import Bundle
from export.cuda import Gpu
from export.engine import (
    Engine,
    EngineError,
    Library,
    Target,
    choose,
    deserialize,
    for_gpu,
    graphs_to_build,
    placed,
    recorded,
)
from export.engine_build import build, changed
from export.engine_key import first_inputs, is_of
from export.exporter import export
from export.profiles import ALONE, BucketError, Range, axes, buckets, parse, profile
from export.variant import LoopKind, Precision, Variant
from zoo import files
from zoo.contract.graph import TensorSpec
from zoo.contract.spec import Axis, Sampling
from zoo.exchange import derived
from zoo.family import Checkpoint, class_conditional
from zoo.files import HOME_VARIABLE

needs_rtx = pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed")


GUIDED = Sampling(samplers=("ddim", "ddpm", "heun"), num_steps=50, max_guidance_scale=4.0)


@pytest.mark.parametrize(
    ("sampling", "terms", "draws", "rows"),
    [
        (GUIDED, (1, 1, 5), (1, 1, 1000), (1, 50, 1999)),
        (replace(GUIDED, max_guidance_scale=1.0), (1, 1, 1), (1, 1, 1000), (1, 50, 1999)),
        (replace(GUIDED, samplers=("ddim",), steps=(2, 4), num_steps=4), (1, 1, 5), (1, 1, 1), (1, 4, 4)),
        (replace(GUIDED, samplers=("ddpm",), steps=(4,), num_steps=4), (1, 1, 5), (1, 4, 4), (1, 4, 4)),
        (replace(GUIDED, samplers=("consistency",), steps=(1, 4), num_steps=4), (1, 1, 5), (1, 4, 4), (1, 4, 4)),
    ],
)
def test_sizes_come_from_the_spec(sampling: Sampling, terms: Any, draws: Any, rows: Any) -> None:
    spec = class_conditional("toy", "toy", (1, 8, 8), (8, 8, 1), 10, sampling)
    found = {name: (size.minimum, size.optimum, size.maximum) for name, size in axes(spec, 16).items()}
    ours = {"batch": (1, 8, 16), "terms": terms, "draws": draws, "rows": rows}
    assert found.pop("conditions") == terms
    assert found == ours | {"weight_rows": (1, 1, rows[2]), "kept": (1, 1, 64)}
    assert axes(replace(spec, sampling=None), 4) == {"batch": Range(1, 4, 4)}


def test_profiles_come_from_the_sizes() -> None:
    tensors = (
        TensorSpec("noise", "float32", ("batch", "draws", 2, 4)),
        TensorSpec("table", "float32", ("batch", 3, 12)),
    )
    assert profile(tensors, {"batch": Range(1, 8, 64), "draws": Range(1, 1, 1000)}) == {
        "noise": ((1, 1, 2, 4), (8, 1, 2, 4), (64, 1000, 2, 4)),
        "table": ((1, 3, 12), (8, 3, 12), (64, 3, 12)),
    }


def test_an_axis_is_cut_into_buckets_each_with_an_optimum_of_its_own() -> None:
    spec = replace(
        class_conditional("toy", "toy", (6,), (8, 8, 2), 3),
        axes=(Axis("height", 128, 256, 512, 64),),
    )
    found = buckets(spec, 64, parse(["height=256", "batch=16,1"]))
    assert list(found) == [f"batch {a}, height {b}" for a in ("1", "2-16", "17-64") for b in ("128-256", "320-512")]
    last = found["batch 17-64, height 320-512"]
    assert (last["batch"], last["height"]) == (Range(17, 17, 64), Range(320, 320, 512))
    assert found["batch 2-16, height 128-256"]["batch"] == Range(2, 8, 16)
    assert list(buckets(spec, 1, ALONE)) == ["batch 1"]
    assert list(buckets(spec, 64, parse(["one"]))) == ["all sizes"]
    assert buckets(spec, 64, {}) == {"all sizes": axes(spec, 64)}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["batch"], "buckets 'batch': write an axis and where its buckets end, like batch=1,16, or one"),
        (["batch=1,x"], "buckets 'batch=1,x': write an axis"),
        (["batch=" + "9" * 5000], "write an axis"),
        (["steps=4"], "toy has no buckets of steps: it has batch"),
        (["batch=0"], "a bucket of toy ends at batch 0: its batch is 1-64"),
        (["batch=65"], "a bucket of toy ends at batch 65: its batch is 1-64"),
        (["batch=" + ",".join(map(str, range(1, 12)))], "toy would get 12 buckets, at most 8 are built"),
    ],
)
def test_buckets_that_cannot_be_are_refused(words: list[str], sentence: str) -> None:
    with pytest.raises(BucketError, match=sentence):
        buckets(class_conditional("toy", "toy", (6,), (8, 8, 2), 3), 64, parse(words))


@needs_rtx
def test_an_engine_is_of_its_buckets(toy_one_shot: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = export(toy_one_shot)
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    one, two = (build(bundle, bundle.entry, ends=ends) for ends in (None, ALONE))
    assert (one.profiles, one.ends) == (1, {})
    assert (two.profiles, two.ends) == (2, {"batch": [1]})
    assert two.record["inputs"]["profiles"]["batch 2-64"]["noise"] == [[2, 1, 6], [8, 1, 6], [64, 1, 6]]
    assert build(bundle, bundle.entry, ends=ALONE).record == two.record, "it is there"
    assert choose(bundle, bundle.entry, [Target.PORTABLE]) == two, "any buckets hold every request"
    assert changed(bundle, bundle.entry, Target.PORTABLE, Library.RTX, ALONE) == []
    told = changed(bundle, bundle.entry, Target.PORTABLE, Library.RTX)
    assert told
    assert any(each.startswith("ends ") for each in told), told


@needs_rtx
@pytest.mark.parametrize("name", ["toy-linear", "toy-diffusion"])
def test_a_portable_engine_is_built_once_and_recorded(toy_bundles: Mapping[str, Path], name: str) -> None:
    bundle = Bundle.open(toy_bundles[name])
    built = build(bundle, bundle.entry)
    assert built.path.stat().st_size == built.record["bytes"] > 1000
    assert built.record["bundle"] == bundle.digest
    written = built.path.stat().st_mtime_ns
    assert build(bundle, bundle.entry).path.stat().st_mtime_ns == written
    again = json.loads(derived.built(built.sha256).read_text())
    assert again == built.record


@needs_rtx
@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16, Precision.INT8])
def test_engines_of_every_precision_for_a_named_generation(toy_student: Checkpoint, precision: Precision) -> None:
    bundle = export(toy_student, Variant(precision=precision))
    assert build(bundle, bundle.entry, Target.SM89).record["inputs"]["target"] == "sm89"


@needs_rtx
def test_a_host_loop_builds_its_step_and_its_decoder(toy_diffusion: Checkpoint) -> None:
    bundle = export(toy_diffusion, Variant(LoopKind.HOST))
    assert graphs_to_build(bundle) == ("step", "decoder")
    assert build(bundle, "step").record["bytes"] > 1000


@needs_rtx
def test_only_engines_that_were_built_here_are_loaded(toy_bundles: Mapping[str, Path], tmp_path: Path) -> None:
    bundle = Bundle.open(toy_bundles["toy-linear"])
    plan = tmp_path / "foreign.plan"
    built = build(bundle, bundle.entry)
    plan.write_bytes(built.path.read_bytes())
    assert recorded(plan) is not None, "the same bytes elsewhere are still those that were built here"
    altered = replace(built, path=plan)
    plan.write_bytes(plan.read_bytes() + b"\0")
    assert recorded(plan) is None
    with pytest.raises(EngineError, match="is not the plan that its record describes"):
        deserialize(altered)
    with pytest.raises(EngineError, match="has no record beside it"):
        placed(plan)
    with pytest.raises(EngineError, match=r"could not be loaded by tensorrt-rtx \d"):
        deserialize(built)


@needs_rtx
def test_a_plan_loads_only_in_the_release_that_built_it(toy_bundles: Mapping[str, Path]) -> None:
    bundle = Bundle.open(toy_bundles["toy-linear"])
    built = build(bundle, bundle.entry)
    older = Engine(built.path, {**built.record, "inputs": {**built.record["inputs"], "version": "1.3.0"}})
    with pytest.raises(EngineError, match=r"was built by tensorrt-rtx 1\.3\.0, here is \d.*a plan loads only in"):
        deserialize(older)


@needs_rtx
def test_a_gpu_gets_its_own_generation_s_engine_before_a_portable_one(
    toy_student: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = export(toy_student)
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))  # without the engines that other tests built
    ada, ampere = Gpu("NVIDIA L4", "sm89", "580"), Gpu("NVIDIA A10", "sm86", "580")
    portable, own = (build(bundle, bundle.entry, target) for target in (Target.PORTABLE, Target.SM89))
    assert for_gpu(bundle, bundle.entry, ada) == own
    assert for_gpu(bundle, bundle.entry, ampere) == portable
    assert choose(bundle, bundle.entry, [Target.SM120]) is None
    with pytest.raises(EngineError, match=r"has no engine of its decoder for NVIDIA L4 \(sm89, driver 580\)"):
        for_gpu(bundle, "decoder", ada)
    with pytest.raises(EngineError, match=r"makes one, with --target portable$"):
        for_gpu(bundle, "decoder", Gpu("Tesla T4", "sm75", "580"))


@needs_rtx
def test_a_library_that_makes_nothing_without_a_gpu_is_one_sentence(
    toy_bundles: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Full TensorRT's bindings raise where TensorRT-RTX's give an object."""
    import tensorrt_rtx

    bundle = Bundle.open(toy_bundles["toy-linear"])
    built = build(bundle, bundle.entry)

    def nothing(logger: object) -> None:
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(tensorrt_rtx, "Runtime", nothing)
    monkeypatch.setattr(tensorrt_rtx, "Builder", nothing)
    with pytest.raises(EngineError, match=r"could not be loaded by .*returned nullptr; is there an NVIDIA GPU\?"):
        deserialize(built)
    with pytest.raises(EngineError, match=r"has no builder here: .*is there an NVIDIA GPU\?"):
        build(bundle, bundle.entry, Target.SM120)


@needs_rtx
def test_the_library_says_which_generations_it_does_not_know(toy_bundles: Mapping[str, Path]) -> None:
    bundle = Bundle.open(toy_bundles["toy-linear"])
    with pytest.raises(EngineError, match="tensorrt-rtx knows no sm90: build on such a GPU with --library tensorrt"):
        build(bundle, bundle.entry, Target.SM90)


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="TensorRT is installed")
def test_missing_tensorrt_is_one_sentence(toy_bundles: Mapping[str, Path]) -> None:
    bundle = Bundle.open(toy_bundles["toy-linear"])
    with pytest.raises(EngineError, match=r"tensorrt is not installed .* build with --library tensorrt-rtx"):
        build(bundle, bundle.entry, Target.PORTABLE, Library.FULL)


@needs_rtx
def test_only_the_graph_that_changed_is_built_again(
    toy_diffusion: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder that was trained further leaves the step's engine as it is, and --why says what changed."""
    bundle = export(toy_diffusion, Variant(LoopKind.HOST))
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    assert changed(bundle, "step", Target.PORTABLE, Library.RTX) is None
    before = {graph: build(bundle, graph) for graph in graphs_to_build(bundle)}
    shutil.copytree(bundle.path, tmp_path / "bundle")
    weights = load_file(tmp_path / "bundle" / "model.safetensors")
    name = next(key for key in weights if key.startswith("decoder") and key.endswith("bias"))
    weights[name] = weights[name] + 1
    save_file(weights, tmp_path / "bundle" / "model.safetensors", metadata={"format": "pt"})
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    manifest["weights"]["sha256"] = files.sha256(tmp_path / "bundle" / "model.safetensors")
    (tmp_path / "bundle" / "manifest.json").write_text(json.dumps(manifest))
    further = Bundle.open(tmp_path / "bundle")
    assert changed(further, "step", Target.PORTABLE, Library.RTX) == []
    (told,) = changed(further, "decoder", Target.PORTABLE, Library.RTX) or ()
    assert told.startswith("weights_sha256 was ")
    assert build(further, "step").sha256 == before["step"].sha256
    assert build(further, "decoder").record["bundle"] == further.digest
    record = before["step"].record
    older = {**record, "inputs": {**record["inputs"], "version": "1.3.0"}}
    files.write_json(derived.built(before["step"].sha256), older)
    version = Library.RTX.version
    assert changed(further, "step", Target.PORTABLE, Library.RTX) == [f"version was 1.3.0, is {version}"]


@needs_rtx
def test_an_engine_of_the_first_records_is_known_as_long_as_its_whole_bundle_is_the_same(
    toy_student: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = export(toy_student)
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    engine = build(bundle, bundle.entry)
    made_from = first_inputs(bundle, bundle.entry, Target.PORTABLE, Library.RTX) | {"version": Library.RTX.version}
    for digest, found in ((bundle.digest, True), ("0" * 64, False)):
        old = {**engine.record, "inputs": json.loads(json.dumps({**made_from, "bundle": digest}))}
        files.write_json(derived.built(engine.sha256), old)
        assert (choose(bundle, bundle.entry, [Target.PORTABLE]) is not None) == found
        assert is_of(old, bundle, bundle.entry) == found
