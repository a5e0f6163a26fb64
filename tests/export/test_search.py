"""The precision search: what it chooses holds the tier, is the same each time, and goes on where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from export.bundle import Bundle
from export.exporter import ExportError, export, resolve
from export.gate import gate
from export.onnx_graph import OnnxGraph, to_onnx
from export.runners import TorchRunner
from export.search import SEEDS, SearchError, search
from export.searched import Found
from export.tiers import tier
from export.variant import LoopKind, Precision, Variant
from zoo import registry
from zoo.family import Checkpoint
from zoo.files import HOME_VARIABLE


def traced(checkpoint: Checkpoint) -> tuple[TorchRunner, dict[str, OnnxGraph]]:
    module = registry.load_module(checkpoint)
    graphs = registry.family(checkpoint.spec.family).graphs(module, checkpoint)
    return TorchRunner(checkpoint, module), {graph.name: to_onnx(graph) for graph in graphs}


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.BF16, Precision.MIXED])
def test_what_it_chooses_is_admitted_and_told(toy_diffusion: Checkpoint, precision: Precision) -> None:
    bundle = export(toy_diffusion, Variant(precision=precision, tier="40dB"))
    assert bundle.path.name == f"{precision}-40db"
    plan = bundle.manifest["plan"]
    text = (bundle.path / "manifest.json").read_text().splitlines()
    [islands] = [line for line in text if '"islands"' in line]
    assert "denoiser/embed" in islands, "what tells the noise level stays float32"
    kinds = {Precision.INT8: {"int8"}, Precision.BF16: {"bf16"}, Precision.MIXED: {"int8", "bf16"}}[precision]
    assert kinds <= set(plan)
    assert "onnxruntime" in bundle.manifest["versions"]
    judged, guided = plan["searched"].values()
    assert judged["ok"]
    assert judged["worst"] <= judged["mean"]
    assert guided["mean"] < 100.0, "told, and not promised"
    verdict = gate(bundle)
    assert verdict.admitted, verdict.message


def test_first_and_last_layers_stay_float_in_int8(toy_diffusion: Checkpoint) -> None:
    bundle = export(toy_diffusion, Variant(precision=Precision.INT8, tier="40dB"))
    assert bundle.manifest["plan"]["int8"] == "denoiser/inner"
    islands = bundle.manifest["plan"]["islands"].split()
    assert {"denoiser/first", "denoiser/last"} <= set(islands)
    assert any(name.startswith("decoder/") for name in islands), "the decoder's one convolution is its first and last"


def test_a_loop_of_another_form_has_the_same_plan(toy_diffusion: Checkpoint) -> None:
    plans = [
        export(toy_diffusion, Variant(loop, Precision.INT8, tier="40dB")).manifest["plan"]
        for loop in (LoopKind.ONNX, LoopKind.HOST)
    ]
    assert plans[0] == plans[1]


def test_what_was_stopped_goes_on_and_finds_the_same(
    toy_diffusion: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, graphs = traced(toy_diffusion)
    told: list[str] = []

    def stop(what: str, done: int, count: int) -> None:
        told.append(what)
        if len(told) == 4:
            raise KeyboardInterrupt

    def found(home: Path, progress: object = None) -> Found:
        monkeypatch.setenv(HOME_VARIABLE, str(home))
        return search(reference, graphs, Precision.BF16, tier("45dB"), progress)  # type: ignore[arg-type]

    with pytest.raises(KeyboardInterrupt):
        found(tmp_path / "stopped", stop)
    [journal] = (tmp_path / "stopped" / "searches").iterdir()
    kept = json.loads(journal.read_text())
    assert len(kept) == 2, "calibration was told, and two layers were measured before the third"
    marked = {name: 0.5 * value for name, value in kept.items()}
    journal.write_text(json.dumps(marked))
    resumed, whole = found(tmp_path / "stopped"), found(tmp_path / "whole")
    again = json.loads(journal.read_text())
    assert {name: again[name] for name in marked} == marked, "what was measured is not measured again"
    assert resumed.plan == whole.plan
    assert whole.plan == found(tmp_path / "whole").plan
    images = [value for name, value in again.items() if name.startswith("images")]
    assert {len(value) for value in images} == {len(SEEDS), 8}, "the tier, and every other sampler"


def test_a_tier_that_nothing_holds_is_refused_in_words(toy_diffusion: Checkpoint) -> None:
    reference, graphs = traced(toy_diffusion)
    with pytest.raises(SearchError, match="no layer of toy-diffusion can be in int8 within the tier exact"):
        search(reference, graphs, Precision.INT8, tier("exact"))


def test_what_has_no_meaning_is_refused(toy_diffusion: Checkpoint) -> None:
    with pytest.raises(ExportError, match="fp32 has no layers to choose"):
        resolve(toy_diffusion, Variant(tier="45dB"))
    with pytest.raises(ExportError, match="give --tier"):
        resolve(toy_diffusion, Variant(precision=Precision.MIXED))


def test_the_bundle_makes_other_images_than_float32_does(toy_diffusion: Checkpoint) -> None:
    from export.runners import bundle_generator
    from zoo.contract.request import SampleRequest

    request = SampleRequest(tuple(range(8)))
    plain, few = (
        bundle_generator(Bundle.open(export(toy_diffusion, variant).path)).sample(request)
        for variant in (Variant(), Variant(precision=Precision.INT8, tier="40dB"))
    )
    assert (plain != few).any()
    assert np.abs(plain.astype(int) - few).mean() < 3.0
