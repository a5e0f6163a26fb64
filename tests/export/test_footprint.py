"""What a graph holds, where it can be counted by hand, and what grows with what."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from export.bundle import Bundle
from export.footprint import Read, footprint, most
from zoo.contract.graph import BATCH, TensorSpec

BYTES = 4 * 1000  # of a value for one image


def test_values_are_held_from_where_they_are_made_to_where_they_are_read_last() -> None:
    """x -> a -> b -> c, c = b + a: a, b and c at once; x is held for as long as the execution lasts."""
    edge = helper.make_tensor_value_info
    proto = helper.make_graph(
        [
            helper.make_node("Relu", ["x"], ["a"]),
            helper.make_node("Mul", ["a", "weight"], ["b"]),
            helper.make_node("Add", ["b", "a"], ["c"]),
            helper.make_node("ReduceSum", ["c", "axis"], ["y"]),
        ],
        "by_hand",
        [edge("x", TensorProto.FLOAT, ["batch", 1000])],
        [edge("y", TensorProto.FLOAT, ["batch", 1])],
        [
            helper.make_tensor("weight", TensorProto.FLOAT, [1000], np.ones(1000)),
            helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        ],
    )
    tensors = {"weight": np.ones(1000, np.float32), "axis": np.array([1])}
    graph = Read(proto, tensors, (TensorSpec("x", "float32", (BATCH, 1000)),))
    assert most(graph, {BATCH: 1}) == 4 * BYTES
    assert most(graph, {BATCH: 8}) == 8 * 4 * BYTES


def test_a_bundle_holds_its_weights_and_more_with_each_image(toy_bundles: Mapping[str, Path]) -> None:
    for folder in toy_bundles.values():
        bundle = Bundle.open(folder)
        one, two, all_ = footprint(bundle, 1), footprint(bundle, 2), footprint(bundle)
        assert one.weights == (folder / bundle.manifest["weights"]["file"]).stat().st_size
        assert 0 < one.activations < two.activations <= 2 * one.activations
        assert all_.images == bundle.max_batch
        assert all_ == footprint(bundle, bundle.max_batch)


def test_what_loops_is_counted_by_its_rows_beside_what_it_takes(toy_bundles: Mapping[str, Path]) -> None:
    """The table of a thousand rows is held through the whole loop; the loop's own values are those of a step."""
    bundles = [Bundle.open(folder) for folder in toy_bundles.values()]
    looped = next(each for each in bundles if each.entry == "sampler" and not each.spec.sampling.steps)
    found = footprint(looped, 1)
    table = next(each for each in looped.inputs("sampler") if each.name == "table")
    assert found.whole
    assert found.activations > 1000 * table.shape[-1] * 4
