"""Every data set's record is true of what it loads, and a name that nobody knows is one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from genzoo import cli as command_line
from tests.datasets import stripes
from zoo import index, registry
from zoo.datasets import DATASETS, Data, DatasetError, dataset

READ = [name for name in DATASETS if "sample" not in dataset(name).verified]  # drawn in minutes, tested by a part


def loaded(name: str, split: str) -> Data:
    try:
        return dataset(name).load(split, None)
    except DatasetError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", READ)
def test_a_record_is_true_of_its_pictures(name: str, split: str) -> None:
    known, data = dataset(name), loaded(name, split)
    assert (data.images.dtype, data.images.shape[1:]) == (np.uint8, known.image_shape)
    assert len(data) == known.counts[split]
    assert all(len(values) == len(data) for values in data.conditions.values())
    for condition, labels in known.labels.items():
        assert sorted(set(np.asarray(data.conditions[condition]).tolist())) == list(range(len(labels)))


@pytest.mark.parametrize("name", READ)
def test_no_picture_is_in_both_splits(name: str) -> None:
    train, test = ({picture.tobytes() for picture in loaded(name, split).images} for split in ("train", "test"))
    assert not train & test


@pytest.mark.parametrize("name", DATASETS)
def test_a_record_says_whose_it_is(name: str) -> None:
    known = dataset(name)
    assert known.name == name
    assert set(known.counts) == {"train", "test"}
    assert all((known.title, known.licence, known.credit, known.shows, known.prepared, known.verified))


def test_an_unknown_data_set_names_the_nearest() -> None:
    with pytest.raises(DatasetError, match=r"unknown data set 'fashion-mnist': did you mean fashion_mnist\?"):
        dataset("fashion-mnist")


def test_a_data_set_is_one_file_and_one_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dataset(stripes(monkeypatch, tmp_path)).labels["class_id"][0] == "period 2"


def test_show_tells_what_the_classes_are_called() -> None:
    shown = json.loads(CliRunner().invoke(command_line.app, ["show", "gan", "--json"]).stdout)
    assert shown["labels"]["class_id"][9] == "Ankle boot"


def test_every_checkpoint_s_data_set_is_here_and_has_its_classes_and_colours() -> None:
    for checkpoint in map(registry.entry, index.records()):
        shown = dataset(checkpoint.dataset)
        assert checkpoint.spec.image_shape[2] == shown.image_shape[2], checkpoint.name
        for condition in checkpoint.spec.conditions:
            if condition.name in shown.labels:
                assert condition.options.count == len(shown.labels[condition.name]), checkpoint.name
    assert {registry.entry(name).dataset for name in index.records()} <= set(DATASETS)
