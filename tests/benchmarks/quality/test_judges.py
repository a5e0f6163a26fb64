"""Judges belong to a data set: their record is true of its nets, and nobody else's images are theirs to judge."""

from __future__ import annotations

import json

import onnx
import pytest

from benchmarks.quality import features, judges
from zoo.datasets import DATASETS, dataset


@pytest.mark.parametrize("name", judges.JUDGED)
def test_a_record_is_true_of_its_nets(name: str) -> None:
    who = judges.of(name)
    assert name in DATASETS
    assert who.dataset == name
    for net in who.nets:
        assert features.config(net.name)["dataset"] == name
        graph = onnx.load(judges.folder(net.name) / "model.onnx", load_external_data=False).graph
        shape = [axis.dim_value for axis in graph.input[0].type.tensor_type.shape.dim[1:]]
        assert tuple(shape) == net.image_shape
        assert [output.name for output in graph.output] == ["features", *(["logits"] if net.tells else [])]
        if net.tells:
            labels = dataset(name).labels[net.tells]
            assert graph.output[1].type.tensor_type.shape.dim[1].dim_value == len(labels)


def test_no_two_nets_have_one_name() -> None:
    names = [name for name, _ in judges.everybody()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", judges.JUDGED)
def test_every_net_can_be_made_again(name: str) -> None:
    pytest.importorskip("torch")
    for net in judges.of(name).names:
        assert callable(judges.training(net).train)
        assert json.loads((judges.folder(net) / "config.json").read_text())["recipe"]["images"]


def test_images_of_other_data_are_nobody_s_to_judge_whatever_their_size() -> None:
    clothes = judges.of("fashion_mnist")
    assert clothes.know((32, 32, 1))
    assert not clothes.know((16, 16, 1))
    for other in ("stripes", "openmoji", "unknown", ""):
        assert not judges.of(other).know((32, 32, 1)), other
        assert judges.of(other).judge == ""
