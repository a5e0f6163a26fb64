"""A bundle is probed at the ends of its sizes and between them; what is wrong at one shape alone is found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from export.bundle import Bundle
from export.probe import Probed, Shape, cliffs, probe, shapes
from export.runtimes import Runtime


def test_the_shapes_are_the_ends_the_optimum_and_random_ones(toy_bundles: Mapping[str, Path]) -> None:
    found = shapes(Bundle.open(toy_bundles["toy-diffusion"]))
    assert found[:2] == [Shape(1, 1, ()), Shape(8, 4, ())]
    assert max(each.batch for each in found) == 64
    assert max(each.steps for each in found) == 1000
    assert found == shapes(Bundle.open(toy_bundles["toy-diffusion"])), "the random ones are the same every time"
    assert {each.steps for each in shapes(Bundle.open(toy_bundles["toy-student"]))} == {2}
    assert {each.steps for each in shapes(Bundle.open(toy_bundles["toy-linear"]))} == {0}


def test_a_sound_bundle_is_right_at_every_shape(toy_bundles: Mapping[str, Path]) -> None:
    bundle = Bundle.open(toy_bundles["toy-student"])
    found = list(probe(bundle, Runtime.ONNXRUNTIME))
    assert [each.shape for each in found] == shapes(bundle)
    assert [each.fault for each in found] == [None] * len(found)


def test_a_cliff_is_a_shape_that_costs_more_than_a_larger_one() -> None:
    def at(batch: int, steps: int, seconds: float) -> Probed:
        return Probed(Shape(batch, steps, ()), seconds, 200.0, None)

    assert cliffs([at(1, 1, 0.01), at(8, 1, 0.02), at(64, 4, 0.3)]) == []
    (told,) = cliffs([at(1, 1, 0.01), at(8, 1, 0.9), at(64, 4, 0.3), at(4, 50, 2.0)])
    assert told == "batch 8, 1 steps takes 900.0 ms, the larger batch 64, 4 steps 300.0 ms"
