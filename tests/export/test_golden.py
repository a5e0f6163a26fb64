"""A record of golden seeds is replayed to the bit, and each kind of change is named where it first shows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from export import replay
from export.bundle import Bundle
from export.exporter import export
from export.golden import GoldenError, Replay, check, compact, compare, distance, record
from export.runners import graph_runner
from export.runtimes import Runtime
from export.stages import by_graphs
from export.variant import LoopKind, Variant
from genzoo import cli
from zoo import files
from zoo.contract import request
from zoo.contract.feeds import Runner, Tensors
from zoo.family import Checkpoint
from zoo.sampling import samplers


def made(bundle: Bundle, runtime: Runtime = Runtime.ONNXRUNTIME) -> dict[str, Any]:
    """A record as it comes back from its file."""
    found = record(bundle, runtime.value, replay.stages_on(bundle, runtime))
    return dict(json.loads(json.dumps(found)))


@pytest.fixture(scope="module")
def bundle(toy_bundles: Mapping[str, Path]) -> Bundle:
    return Bundle.open(toy_bundles["toy-diffusion"])


@pytest.fixture(scope="module")
def golden(bundle: Bundle) -> dict[str, Any]:
    return made(bundle)


def fault(found: Replay) -> tuple[str, int | None]:
    assert found.fault, found.message
    return found.fault.component, found.fault.row


def test_what_did_not_change_is_the_same_to_the_bit(bundle: Bundle, golden: dict[str, Any]) -> None:
    found = compare(bundle, golden, made(bundle))
    assert (found.first, found.fault, found.differing, found.changes) == (None, None, 0, [])
    assert found.tensors > 100
    assert "to the bit; nothing that is recorded changed" in found.message
    assert len(json.dumps(golden)) < 200_000
    stages = golden["requests"][0]["stages"]
    seen = [(stage["component"], stage["row"]) for stage in stages]
    assert seen[0] == ("noise", None)
    assert [each for each in seen if each[0] == "denoiser"] == [("denoiser", row) for row in range(4)]
    assert seen[-2:] == [("decoder", None), ("sampler", None)]


@pytest.mark.parametrize("variant", [Variant(LoopKind.UNROLLED, steps=2), Variant(LoopKind.HOST)])
def test_every_form_of_the_loop_can_be_held(toy_diffusion: Checkpoint, variant: Variant) -> None:
    bundle = export(toy_diffusion, variant)
    assert compare(bundle, made(bundle), made(bundle)).first is None


def test_torch_is_held_too_and_the_two_agree(toy_bundles: Mapping[str, Path]) -> None:
    """One's record replayed on the other: rounding differs, the numbers do not."""
    bundle = Bundle.open(toy_bundles["toy-student"])
    found = compare(bundle, made(bundle, Runtime.TORCH), made(bundle))
    assert found.fault is None, found.message
    assert found.first
    assert found.first.component not in ("noise", "table", "conditions")


def test_one_altered_weight_is_named_by_its_graph_and_row(
    bundle: Bundle, golden: dict[str, Any], tmp_path: Path
) -> None:
    shutil.copytree(bundle.path, tmp_path / "altered")
    path = tmp_path / "altered" / "model.safetensors"
    weights = load_file(path)
    name = next(key for key in weights if key.endswith("inner.bias"))
    weights[name] = weights[name].copy()
    weights[name][3] += 0.01
    save_file(weights, path, metadata={"format": "pt"})
    manifest = json.loads((tmp_path / "altered" / "manifest.json").read_text())
    manifest["weights"]["sha256"] = files.sha256(path)
    (tmp_path / "altered" / "manifest.json").write_text(json.dumps(manifest))
    altered = Bundle.open(tmp_path / "altered")
    found = compare(altered, golden, made(altered))
    assert fault(found) == ("denoiser", 0)
    assert found.fault
    assert 1e-4 < found.fault.error < 1.0
    assert [change.split(" was ")[0] for change in found.changes] == ["made_of.weights"]


def test_an_altered_row_is_named_before_what_it_leads_to(
    bundle: Bundle, golden: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def altered(sigmas: np.ndarray) -> samplers.Rows:
        rows = samplers.ddim(sigmas)
        for row in rows[2:3]:
            row["b"] += 1e-3
        return rows

    monkeypatch.setitem(samplers.SAMPLERS, "ddim", samplers.Sampler(altered, 1, False, "nobody's"))
    request._plan.cache_clear()
    try:
        found = compare(bundle, golden, made(bundle))
    finally:
        request._plan.cache_clear()
    assert fault(found) == ("table", 2)
    assert "table at row 2" in found.message


class DrawsItself:
    """A runner that takes another draw than it was given."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner

    def run(self, **tensors: np.ndarray) -> Tensors:
        draw = np.random.default_rng(1).normal(size=tensors["noise"].shape).astype(np.float32)
        return self.runner.run(**{**tensors, "noise": draw})


@pytest.mark.parametrize(("graph", "row"), [("sampler", None), ("step", 0)])
def test_a_runner_that_draws_other_noise_is_named(
    bundle: Bundle, golden: dict[str, Any], graph: str, row: int | None
) -> None:
    def runner_of(name: str) -> Runner:
        found = graph_runner(bundle, name)
        return DrawsItself(found) if name == graph else found

    now = record(bundle, "onnxruntime", partial(by_graphs, bundle, runner_of, bundle.graphs))
    found = compare(bundle, golden, now)
    assert found.fault
    assert found.fault.component == graph
    if row is not None:  # of a sampler that draws; the first, which does not, is as it was
        assert "sampled by ddpm" in found.fault.asked


def test_a_sketch_tells_how_far_two_tensors_are() -> None:
    rng = np.random.default_rng(0)
    one = rng.normal(size=(2, 3, 40, 40)).astype(np.float32)
    for scale in (1e-6, 1e-3, 1.0):
        off = (scale * rng.normal(size=one.shape)).astype(np.float32)
        found = distance(compact(one), compact(one + off))
        assert found == pytest.approx(float(np.sqrt(np.square((one + off) - one).mean())), rel=0.6)
    single = one.copy()
    single[1, 2, 3, 4] += 0.5
    assert distance(compact(one), compact(single)) == pytest.approx(0.5 / np.sqrt(one.size), rel=1e-3)
    assert distance(compact(one), compact(one.astype(np.float64))) == np.inf
    assert distance(compact(one), compact(np.full_like(one, np.nan))) == np.inf
    assert distance(compact(one), compact(one.copy())) == 0.0
    zeros = np.zeros_like(one)
    assert distance(compact(zeros), compact(zeros + 1)) == pytest.approx(1.0, rel=0.6)


def test_what_is_not_finite_is_recorded_for_nobody(golden: dict[str, Any]) -> None:
    check("toy", golden)
    broken = json.loads(json.dumps(golden))
    broken["requests"][1]["stages"][-3]["tensors"]["x_next"]["rms"] = None
    with pytest.raises(GoldenError, match=r"toy gives values that are not finite, first step at row \d"):
        check("toy", broken)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[dict[str, Any]], str]:
    with pytest.raises(SystemExit) as left:
        cli.main([*words, "--json"])
    out, err = capsys.readouterr()
    assert isinstance(left.value.code, int)
    return left.value.code, [json.loads(line) for line in out.splitlines()], err


def test_the_commands_write_replay_and_refuse(
    toy_bundles: Mapping[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, path = str(toy_bundles["toy-linear"]), tmp_path / "golden.json"
    assert [each["state"] for each in run(capsys, "gate", source, "--golden", str(path))[1]] == ["recorded"]
    assert [each["state"] for each in run(capsys, "gate", source, "--golden", str(path))[1]] == ["kept"]
    code, (found,), _ = run(capsys, "gate", source, "--against", str(path))
    assert (code, found["first"], found["differing"]) == (0, None, 0)
    whole = json.loads(path.read_text())
    (name,) = whole["records"]
    stage = whole["records"][name]["requests"][0]["stages"][-1]
    stage["tensors"]["images"] |= {"digest": "0" * 16, "shape": [1]}
    whole["records"][name]["versions"]["onnxruntime"] = "1.0"
    path.write_text(json.dumps(whole))
    code, (found,), err = run(capsys, "gate", source, "--against", str(path))
    assert code == 1
    assert found["fault"]["component"] == "generator"
    assert found["fault"]["error"] is None
    assert "versions.onnxruntime was 1.0, is " in found["message"]
    assert "departed from their record: toy-linear" in err
    other = str(toy_bundles["toy-student"])
    assert "has no record of toy-student fp32-onnx onnxruntime" in run(capsys, "gate", other, "--against", str(path))[2]
    path.write_text('{"format": "genzoo-golden/9"}')
    assert "has format 'genzoo-golden/9', expected" in run(capsys, "gate", source, "--against", str(path))[2]
    both = ("--golden", str(path), "--against", str(path))
    assert "give one of them" in run(capsys, "gate", source, *both)[2]
