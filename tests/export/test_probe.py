"""A bundle is probed at the ends of its sizes and between them; what is wrong at one shape alone is found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from export.bundle import Bundle
from export.engine import Target
from export.engine_build import build
from export.probe import Probed, Shape, cliffs, probe, shapes
from export.runtimes import Runtime
from zoo.files import HOME_VARIABLE


def test_the_shapes_are_the_ends_the_optimum_and_random_ones(toy_bundles: Mapping[str, Path]) -> None:
    found = shapes(Bundle.open(toy_bundles["toy-diffusion"]))
    assert found[:2] == [Shape(1, 1, ()), Shape(8, 4, ())]
    assert max(each.batch for each in found) == 64
    assert max(each.steps for each in found) == 1000
    assert found == shapes(Bundle.open(toy_bundles["toy-diffusion"])), "the random ones are the same every time"
    assert {each.steps for each in shapes(Bundle.open(toy_bundles["toy-student"]))} == {2}
    assert {each.steps for each in shapes(Bundle.open(toy_bundles["toy-linear"]))} == {0}


def test_each_bucket_has_its_ends_its_optimum_and_random_shapes(toy_bundles: Mapping[str, Path]) -> None:
    bundle = Bundle.open(toy_bundles["toy-linear"])
    found = [each.batch for each in shapes(bundle, {"batch": (1, 16)})]
    assert found[:3] == [1, 2, 8]
    assert {16, 17, 64} < set(found)
    for low, high in ((2, 16), (17, 64)):
        assert len([each for each in found if low <= each <= high]) > 4, "random ones too"


def test_a_sound_bundle_is_right_at_every_shape(toy_bundles: Mapping[str, Path]) -> None:
    bundle = Bundle.open(toy_bundles["toy-student"])
    found = list(probe(bundle, Runtime.ONNXRUNTIME))
    assert [each.shape for each in found] == shapes(bundle)
    assert [each.fault for each in found] == [None] * len(found)


def test_an_engine_is_probed_in_each_of_its_buckets(
    toy_bundles: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """By a stand-in, whose second bucket makes what is wrong."""
    pytest.importorskip("tensorrt_rtx")
    bundle = Bundle.open(toy_bundles["toy-linear"])
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    engine = build(bundle, bundle.entry, Target.SM89, ends={"batch": (16,)})
    library = request.getfixturevalue("gpu")
    library.learn(engine, bundle)
    found = list(probe(bundle, Runtime.TENSORRT))
    assert [each.shape for each in found] == shapes(bundle, {"batch": (16,)})
    assert [each.fault for each in found] == [None] * len(found)
    execute = library.IExecutionContext._execute

    def wrong(self: Any, shapes: Any, addresses: dict[str, int]) -> None:
        execute(self, shapes, addresses)
        if self.active_optimization_profile == 1:
            self._tensor("images", (shapes["noise"][0], 8, 8, 2), addresses["images"])[...] = 7

    monkeypatch.setattr(library.IExecutionContext, "_execute", wrong)
    faults = {each.shape.batch: each.fault for each in probe(bundle, Runtime.TENSORRT)}
    assert {batch for batch, fault in faults.items() if fault} == {batch for batch in faults if batch > 16}


def test_a_cliff_is_a_shape_that_costs_more_than_a_larger_one() -> None:
    def at(batch: int, steps: int, seconds: float) -> Probed:
        return Probed(Shape(batch, steps, ()), seconds, 200.0, None)

    assert cliffs([at(1, 1, 0.01), at(8, 1, 0.02), at(64, 4, 0.3)]) == []
    (told,) = cliffs([at(1, 1, 0.01), at(8, 1, 0.9), at(64, 4, 0.3), at(4, 50, 2.0)])
    assert told == "batch 8, 1 steps takes 900.0 ms, the larger batch 64, 4 steps 300.0 ms"
