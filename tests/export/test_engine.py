"""Real engines, built by TensorRT-RTX ahead of time on a host without a GPU."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from export.bundle import Bundle
from export.engine import EngineError, Library, Target, build, deserialize, graphs_to_build, recorded
from export.exporter import export
from export.profiles import profile
from export.variant import LoopKind, Precision, Variant
from zoo.contract.graph import TensorSpec
from zoo.exchange import derived
from zoo.family import Checkpoint

needs_rtx = pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed")


def test_profiles_come_from_the_specs() -> None:
    tensors = (
        TensorSpec("noise", "float32", ("batch", "draws", 2, 4)),
        TensorSpec("table", "float32", ("batch", 3, 12)),
    )
    assert profile(tensors) == {
        "noise": ((1, 1, 2, 4), (8, 1, 2, 4), (64, 1000, 2, 4)),
        "table": ((1, 3, 12), (8, 3, 12), (64, 3, 12)),
    }


@needs_rtx
@pytest.mark.parametrize("name", ["toy-linear", "toy-diffusion"])
def test_a_portable_engine_is_built_once_and_recorded(toy_bundles: Mapping[str, Path], name: str) -> None:
    bundle = Bundle.open(toy_bundles[name])
    built = build(bundle, bundle.entry)
    assert built.path.stat().st_size == built.record["bytes"] > 1000
    assert built.record["inputs"]["bundle"] == bundle.digest
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
    plan.write_bytes(build(bundle, bundle.entry).path.read_bytes())
    assert recorded(plan) is not None, "the same bytes elsewhere are still those that were built here"
    plan.write_bytes(plan.read_bytes() + b"\0")
    with pytest.raises(EngineError, match="neither built here nor pulled"):
        deserialize(plan)


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="TensorRT is installed")
def test_missing_tensorrt_is_one_sentence(toy_bundles: Mapping[str, Path]) -> None:
    bundle = Bundle.open(toy_bundles["toy-linear"])
    with pytest.raises(EngineError, match=r"tensorrt is not installed .* build with --library tensorrt-rtx"):
        build(bundle, bundle.entry, Target.PORTABLE, Library.FULL)
