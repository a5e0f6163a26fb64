"""Judges belong to a data set: their record is true of its nets, and nobody else's images are theirs to judge."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks import statistics
from benchmarks.quality import features, judges, metrics
from tests.datasets import stripes
from zoo.datasets import DATASETS, dataset
from zoo.family import Recipe


@pytest.mark.parametrize("name", judges.JUDGED)
def test_a_record_is_true_of_its_nets(name: str) -> None:
    who = judges.of(name)
    assert name in DATASETS
    assert who.dataset == name
    assert all(features.config(each.name)["files"] for each in who.everybody)
    assert who.know(dataset(name).image_shape)
    for net in who.nets:
        assert features.config(net.name)["dataset"] in DATASETS
        graph = onnx.load(judges.folder(net.name) / "model.onnx", load_external_data=False).graph
        shape = [axis.dim_value for axis in graph.input[0].type.tensor_type.shape.dim[1:]]
        assert tuple(shape) == net.image_shape
        assert tuple(output.name for output in graph.output) == net.outputs
        assert net.outputs[0] == "features"
        assert ("logits" in net.outputs) == bool(net.tells)
        if net.tells:
            labels = dataset(name).labels[net.tells]
            assert graph.output[1].type.tensor_type.shape.dim[1].dim_value == len(labels)


@pytest.mark.parametrize("name", judges.JUDGED)
def test_a_net_has_seen_every_data_set_that_it_judges(name: str) -> None:
    theirs = judges.judged_with(name)
    assert theirs[0] == name
    for net in judges.of(name).nets:
        files = {features.reference_file(net.name, each) for each in theirs}
        assert set(features.config(net.name)["files"]) == {"model.onnx", "model.safetensors", *files}
        for each in theirs:
            seen = features.reference(net.name, each)
            assert len(seen.test.features) == dataset(each).counts["test"]
            assert set(features.digests(net.name, each).values()) >= {seen.digest}
            assert len(features.digests(net.name, each)) == 3, "another data set changes nothing of this one's records"


def test_a_data_set_is_judged_by_those_of_the_one_that_it_names() -> None:
    assert set(judges.judged_with("designs")) > {"designs", "critters", "drawings"}
    critters, drawings, designs = (judges.of(name) for name in ("critters", "drawings", "designs"))
    assert critters.names == drawings.names == designs.names
    assert (critters.dataset, critters.reader, critters.pair) == ("critters", designs.reader, designs.pair)
    assert (drawings.reader, drawings.pair, drawings.judge) == (None, None, ""), "nobody reads a drawing's caption"
    assert critters.know(dataset("critters").image_shape)
    assert not judges.of("faces").everybody
    assert {dataset(name).judged_by for name in DATASETS} <= {"", *judges.JUDGED}


def test_a_net_is_shown_only_what_it_judges() -> None:
    pytest.importorskip("torch")
    from benchmarks.quality.feature_export import refer

    for net, other in (("classifier", "openmoji"), ("design_pair", "critters")):
        with pytest.raises(features.FeatureNetError, match=f"{net} takes no distances to {other}"):
            refer(net, other)


def test_no_two_judges_have_one_name() -> None:
    names = [name for name, _ in judges.everybody()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", judges.JUDGED)
def test_every_net_can_be_made_again(name: str) -> None:
    pytest.importorskip("torch")
    for each in judges.of(name).everybody:
        assert callable(judges.training(each.name).train)
        assert json.loads((judges.folder(each.name) / "config.json").read_text())["recipe"]["images"]


def test_images_of_other_data_are_nobody_s_to_judge_whatever_their_size() -> None:
    clothes = judges.of("fashion_mnist")
    assert clothes.know((32, 32, 1))
    assert not clothes.know((16, 16, 1))
    for other in ("stripes", "openmoji", "unknown", ""):
        assert not judges.of(other).know((32, 32, 1)), other
        assert judges.of(other).judge == ""


JUDGES = '''
"""The judge of stripes: it tells how many light rows a picture has."""
import torch
from torch import nn

from benchmarks.quality.judges import Judges, Net

JUDGES = Judges("stripes", (Net("counter", (32, 32, 1), tells="class_id", sees="light rows"),))


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(32, 10)

    def forward(self, images):
        rows = images.float().mean((2, 3)) / 255.0
        return rows, self.head(rows)
'''


@pytest.fixture
def counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[judges.Judges]:
    """The judges of a data set of the test's own: a folder and a word, and a net that was trained in closed form."""
    torch = pytest.importorskip("torch")
    from benchmarks.quality.feature_export import publish

    name = stripes(monkeypatch, tmp_path)
    (tmp_path / "judges" / name).mkdir(parents=True)
    (tmp_path / "judges" / name / "__init__.py").write_text(JUDGES)
    monkeypatch.setattr(judges, "__path__", [*judges.__path__, str(tmp_path / "judges")])
    monkeypatch.setattr(judges, "JUDGED", (*judges.JUDGED, name))
    monkeypatch.setattr(judges, "FOLDER", tmp_path / "judges")
    module = importlib.import_module("benchmarks.quality.judges.stripes")
    net, seen = module.Counter(), dataset(name).load("train", None)
    rows = torch.from_numpy(seen.images).float().mean((2, 3)) / 255.0
    wanted = torch.nn.functional.one_hot(torch.from_numpy(np.asarray(seen.conditions["class_id"])), 10).float()
    with torch.no_grad():
        solved = torch.linalg.lstsq(torch.cat([rows, torch.ones(len(rows), 1)], 1), wanted).solution
        net.head.weight.copy_(solved[:-1].T)
        net.head.bias.copy_(solved[-1])
    record = {
        "images": 100,
        "minutes": 0.1,
        "hardware": "a desk",
        "torch": "2",
        "curves": [{"images": 100, "loss": 0.0}],
    }
    publish("counter", net, Recipe("closed_form", 100), record, name, "It counts.", "It is small.")
    yield judges.of(name)
    features.load.cache_clear()
    features.reference.cache_clear()
    metrics._held_out.cache_clear()


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's exporter of its own tree specs
def test_a_data_set_s_judges_are_a_folder_and_a_word(counter: judges.Judges) -> None:
    card = (judges.folder("counter") / "README.md").read_text()
    assert "uint8 (N, 32, 32, 1) in" in card
    assert "features of the 100 test pictures, moments of the 100 training pictures" in card
    floor, ceiling = metrics.floor(counter, 50), metrics.ceiling(counter, 50)
    assert floor["judge"] == "counter"
    assert floor["metrics"]["accuracy_50_counter"]["value"] > 0.9
    assert floor["metrics"]["classes_50_counter"]["value"] > 9.0
    assert ceiling["metrics"]["accuracy_50_counter"]["value"] < 0.5
    assert ceiling["metrics"]["fd_50_counter"]["value"] > 10.0 * floor["metrics"]["fd_50_counter"]["value"]
    assert counter.know((32, 32, 1))


def test_a_reader_judges_where_no_net_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a picture of stripes has the period that was asked for, by counting; noise has none."""

    def right(images: np.ndarray, asked: np.ndarray) -> np.ndarray:
        light = images.mean((2, 3)) > 127
        expected = (np.arange(32) // (asked[:, None] + 1)) % 2 == 1
        return (light == expected).all(1)

    who = judges.Judges(
        stripes(monkeypatch, tmp_path), reader=judges.Reader("ruler", (32, 32, 1), reads="class_id", right=right)
    )
    assert (who.judge, who.shapes, who.names) == ("ruler", "32x32x1", ())
    assert who.know((32, 32, 1))
    seen = dataset("stripes").load("test", None)
    asked = np.asarray(seen.conditions["class_id"])
    found = metrics.judged(who, seen.images, {"class_id": np.where(np.arange(100) < 75, asked, (asked + 1) % 10)})
    right = statistics.mean(np.arange(100) < 75, share=True)
    assert found["metrics"] == {"accuracy_100_ruler": asdict(right.estimate())}
    assert found["left_out"] == {"accuracy_100_ruler": right.left_out.tolist()}
    assert (found["count"], found["judge"], found["references"]) == (100, "ruler", {})
    assert metrics.floor(who, 50)["metrics"]["accuracy_50_ruler"]["value"] == 1.0
    assert metrics.ceiling(who, 50)["metrics"]["accuracy_50_ruler"]["value"] < 0.1
    assert not metrics.judged(who, seen.images, {})["metrics"], "nobody asked for anything"
