"""The fastest executor that is exact enough: what is tried, judged, measured, kept, and when it counts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from export.bundle import Bundle
from export.exporter import export
from export.gate import require
from export.runners import OnnxRuntimeRunner, TorchRunner, bundle_generator, cores
from export.runtimes import Executor, Runtime
from export.tiers import TIERS, tier
from export.tuning import host
from export.tuning.candidates import PEERS, UNTUNED, candidates, is_peer, keeps
from export.tuning.cli import table
from export.tuning.judging import Kept, judge
from export.tuning.opening import ByBatch
from export.tuning.record import Tuned, TuningError, chosen, nearest, path_of
from export.tuning.tune import Plan, tuning
from export.tuning.variants import beside
from export.variant import LoopKind, Precision, Variant
from serving import generators
from zoo.contract.feeds import Tensors
from zoo.contract.generator import Generator
from zoo.contract.request import SampleRequest, Setting
from zoo.family import Checkpoint

FOUND = [Runtime.ONNXRUNTIME, Runtime.TORCH]


@pytest.fixture(scope="module")
def bundle(toy_bundles: Mapping[str, Path]) -> Bundle:
    return require(Bundle.open(toy_bundles["toy-diffusion"]))


def test_candidates_are_the_forms_of_each_runtime(bundle: Bundle) -> None:
    every = [each for each in Runtime if not each.on_gpu and each is not Runtime.TRITON]
    for batch in (1, 16):
        found = candidates(bundle, batch, every)
        assert found[0] == UNTUNED
        assert len(set(found)) == len(found)
        assert {each.runtime for each in found} == set(every)
        assert {LoopKind.HOST, None} == {each.loop for each in found if each.runtime is Runtime.ONNXRUNTIME}
        assert {each.batch for each in found if each.runtime is Runtime.TORCH_COMPILE} == {batch}
        assert all((each.threads or 1) <= cores() for each in found)
        assert {each.runtime for each in found if is_peer(each)} == set(PEERS)
        assert not any(keeps(each) for each in found if each.runtime is Runtime.TORCH_COMPILE)
        exact = candidates(bundle, batch, every, exact=True)
        assert {each.precision for each in exact} == {Precision.FP32} < {each.precision for each in found}


class Spoiled:
    """A runner whose images are another's, altered."""

    def __init__(self, inner: Any, alter: Callable[[np.ndarray], np.ndarray]) -> None:
        self.inner, self.alter = inner, alter

    def run(self, **tensors: np.ndarray) -> Tensors:
        images = self.inner.run(**tensors)["images"].astype(int)
        return {"images": np.clip(self.alter(images), 0, 255).astype(np.uint8)}


def checkered(step: int) -> Callable[[np.ndarray], np.ndarray]:
    """Up and down by so many grey levels: no brightness moves."""
    signs = np.indices((8, 8)).sum(0)[None, :, :, None] % 2 * 2 - 1
    return lambda images: images + step * signs


@pytest.mark.parametrize(
    ("alter", "found"),
    [(checkered(0), "exact"), (checkered(1), "45dB"), (checkered(2), "40dB"), (checkered(4), None)],
)
def test_the_tier_of_images_is_the_tightest_that_holds(
    bundle: Bundle, alter: Callable[[np.ndarray], np.ndarray], found: str | None
) -> None:
    inner = bundle_generator(bundle)
    spoiled = Generator(inner.spec, Spoiled(inner.runner, alter), inner.feeds.assets, inner.feeds.encoders)
    judged = judge(bundle, Kept(bundle_generator(bundle)), spoiled, max_drift=0.5)
    assert judged["tier"] == found, judged["faults"]
    assert list(judged["faults"]) == [each.name for each in TIERS[: len(judged["faults"])]]


def test_a_window_of_drift_may_be_narrower(bundle: Bundle) -> None:
    inner = bundle_generator(bundle)
    brighter = Generator(inner.spec, Spoiled(inner.runner, lambda images: images + 1), inner.feeds.assets)
    reference = Kept(bundle_generator(bundle))
    assert judge(bundle, reference, brighter, max_drift=5.0)["tier"] == "45dB"
    judged = judge(bundle, reference, brighter, max_drift=1e-4)
    assert judged["tier"] is None
    assert "have drifted" in judged["faults"]["40dB"]


def test_the_tuned_batch_is_the_nearest_by_ratio() -> None:
    assert [nearest((1, 16), count) for count in (1, 3, 4, 5, 16, 64)] == [1, 1, 1, 16, 16, 16]
    assert nearest((8,), 1) == 8


class StoppedError(Exception):
    """In the middle of the rounds."""


@pytest.fixture
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks as small as the toys only wait for another core's threads."""
    monkeypatch.setattr("export.tuning.candidates.cores", lambda: 1)


def tuned(bundle: Bundle, tell: Callable[[str], None] = lambda _: None, **options: Any) -> Tuned:
    return tuning(bundle, Plan(batches=(1, 4), rounds=3, **options), FOUND, tell=tell).run()


@pytest.mark.usefixtures("one_core")
def test_what_was_tuned_is_kept_used_and_goes_stale(
    bundle: Bundle, toy_diffusion: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def stop(text: str) -> None:
        said.append(text)
        if "round 2 of 3" in text:
            raise StoppedError

    assert generators.tuned(bundle) == {}
    with pytest.raises(TuningError, match="nothing was tuned for toy-diffusion on this host: `genzoo tune"):
        generators.on_what_was_tuned(bundle, tier("45dB"))
    with pytest.raises(StoppedError):
        tuned(bundle, stop)
    kept = json.loads(path_of(bundle.name).with_suffix(".work.json").read_text())
    assert len(kept["rounds"]["1"]) == 2
    goes_on: list[str] = []
    found = tuned(bundle, goes_on.append)
    assert [each for each in goes_on if each.startswith("batch 1: round")] == ["batch 1: round 3 of 3, about 0 s left"]
    assert not path_of(bundle.name).with_suffix(".work.json").exists()
    assert found.batches == [1, 4]
    for batch in found.batches:
        lines = found.lines(batch)
        medians = [line["relative"]["median"] for line in lines]
        assert medians == sorted(medians)
        assert {"exact"} <= {line["tier"] for line in lines}
        assert {"onnxruntime", "torch"} == {line["executor"]["runtime"] for line in lines}
        untuned = next(line for line in lines if line["executor"] == {"runtime": "onnxruntime"})
        assert untuned["relative"] == {"median": 1.0, "low": 1.0, "high": 1.0}
        assert all(line["why"] for line in found.record["batches"][str(batch)]["lines"])
        fastest = found.fastest(batch, TIERS[0])
        assert fastest is not None
        assert fastest.precision is Precision.FP32
        assert fastest.title in "\n".join(table(found))
    assert set(chosen(bundle, tier("45dB"))) == {1, 4}
    peers = chosen(bundle, peers=True)
    assert {each.runtime for each in peers.values()} == {Runtime.TORCH}
    used(bundle, toy_diffusion)
    for name, value in (("versions", {**host.versions(), "onnxruntime": "0.1"}), ("machine", {"cpu": "another"})):
        with monkeypatch.context() as patch:
            patch.setattr(host, name, lambda value=value: value)
            warned: list[str] = []
            assert generators.tuned(bundle, report=warned.append) == {}
            assert "what was tuned for toy-diffusion is stale" in warned[0]
            with pytest.raises(TuningError, match=r"is stale, .*: `genzoo tune toy-diffusion` measures again"):
                generators.on_what_was_tuned(bundle, tier("40dB"))


def used(bundle: Bundle, checkpoint: Checkpoint) -> None:
    """By the command and the library, for batches of any size."""
    request = SampleRequest(tuple(range(6)), setting=Setting(3))
    expected = TorchRunner(checkpoint).generator.sample(request)
    generator = generators.in_process(str(bundle.path), None)
    assert isinstance(generator.runner, ByBatch)
    assert generators.runs_on(generator, None) == "tuned"
    assert np.abs(generator.sample(request).astype(int) - expected).max() <= 1
    untuned = generators.in_process(str(bundle.path), Runtime.ONNXRUNTIME)
    assert isinstance(untuned.runner, OnnxRuntimeRunner)


@pytest.mark.usefixtures("one_core")
def test_a_record_that_was_altered_is_said_to_be_so(bundle: Bundle) -> None:
    path = path_of(bundle.name)
    tuned(bundle, tier=TIERS[0])
    record = json.loads(path.read_text())
    record["batches"]["1"]["lines"][0]["executor"]["runtime"] = "abacus"
    path.write_text(json.dumps(record))
    with pytest.raises(TuningError, match=r"toy-diffusion.json cannot be used, .*abacus"):
        chosen(bundle)
    path.unlink()


def test_another_precision_is_of_the_same_weights(
    bundle: Bundle, toy_diffusion: Checkpoint, toy_bundles: Mapping[str, Path]
) -> None:
    export(toy_diffusion, Variant(precision=Precision.INT8))
    assert beside(bundle)(Executor()) is bundle
    other = Bundle.open(toy_bundles["toy-student"])
    with pytest.raises(TuningError, match="is of other weights than"):
        _ = beside(Bundle(other.path, {**other.manifest, "spec": bundle.manifest["spec"]}))(
            Executor(precision=Precision.INT8)
        )
