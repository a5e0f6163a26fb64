"""Publish a trained feature net: a graph for ONNX Runtime, weights in float16, and what it sees in real pictures.

It sees those of the data set whose folder it is in, and of every other that is judged by that one's judges.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import save_file
from torch import nn

from benchmarks.quality import features, judges
from benchmarks.quality.distances import moments
from benchmarks.templates import template
from zoo import files
from zoo.datasets import dataset
from zoo.family import Recipe


def publish(
    name: str,
    network: nn.Module,
    recipe: Recipe,
    record: dict[str, Any],
    trained_on: str,
    purpose: str,
    faults: str,
) -> Path:
    """Write the folder that `benchmarks.quality.features` reads. Raises DatasetError."""
    folder, judge = judges.folder(name), judges.net(name)
    folder.mkdir(parents=True, exist_ok=True)
    example = torch.zeros(2, *judge.image_shape, dtype=torch.uint8)
    export(network, folder, {"images": example}, judge.outputs)
    config: dict[str, Any] = {
        "name": name,
        "purpose": purpose,
        "faults": faults,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "dataset": trained_on,
        "files": {file: files.sha256(folder / file) for file in ("model.onnx", "model.safetensors")},
        "recipe": dataclasses.asdict(recipe),
        "training": record,
    }
    files.write_json(folder / "config.json", config)
    for data_set in judges.judged_with(judges.dataset_of(name)):
        refer(name, data_set)
    return folder


def refer(name: str, data_set: str) -> Path:
    """Write what a published net sees in a data set that it judges, and its card; the reference's path.

    Raises FeatureNetError for a data set that is not its to judge, DatasetError for one that is not here.
    """
    theirs = judges.judged_with(judges.dataset_of(name))
    if data_set not in theirs or name not in judges.of(theirs[0]).names:
        raise features.FeatureNetError(
            f"{name} takes no distances to {data_set}: the record of a data set says by whom it is judged"
        )
    folder, known = judges.folder(name), dataset(data_set)
    config = features.config(name)
    net, unseen = features.FeatureNet(folder / "model.onnx"), known.load("test", None)
    train, test = moments(net(known.load("train", None).images).features), net(unseen.images)
    tensors = {"train_mean": train.mean.astype(np.float32), "train_covariance": train.covariance.astype(np.float32)}
    tensors["test_features"] = test.features.astype(np.float16)
    if teller := judges.of(known.name).teller:
        tensors["class_ids"] = np.asarray(unseen.conditions[teller.tells]).astype(np.uint8)
    if test.predicted is not None and test.logits is not None:
        tensors["test_logits"] = test.logits.astype(np.float16)
        tensors["test_predicted"] = test.predicted.astype(np.uint8)
        config["training"]["test_accuracy"] = float((test.predicted == tensors["class_ids"]).mean())
    file = features.reference_file(name, data_set)
    with files.atomic(folder / file) as temporary:
        save_numpy(tensors, temporary)
    config["width"] = len(train.mean)
    config["files"][file] = files.sha256(folder / file)
    files.write_json(folder / "config.json", config)
    features.reference.cache_clear()
    write_card(name)
    return folder / file


def write_card(name: str) -> None:
    """Write a published net's README.md from its `config.json`."""
    folder, judge = judges.folder(name), judges.net(name)
    config = json.loads((folder / "config.json").read_text())
    seen = {features.reference_file(name, each): dataset(each) for each in judges.judged_with(judges.dataset_of(name))}
    card: str = template("feature_card.md.j2").render(
        config=config,
        trained_on=dataset(config["dataset"]),
        seen={file: known for file, known in seen.items() if file in config["files"]},
        image_shape=judge.image_shape,
    )
    with files.atomic(folder / "README.md") as temporary:
        temporary.write_text(card)


def export(network: nn.Module, folder: Path, inputs: Mapping[str, torch.Tensor], outputs: Sequence[str]) -> None:
    """A graph in float32 whose weights are float16 tensors of the `model.safetensors` beside it.

    `inputs` are examples of batches, `outputs` the names of as many results as the network has, at most.
    """
    import onnx

    batch = torch.export.Dim("batch", min=1)
    example = tuple(inputs.values())
    count = len(network.eval()(*example))
    program = torch.onnx.export(
        network,
        example,
        input_names=list(inputs),
        output_names=list(outputs[:count]),
        dynamic_shapes=tuple({0: batch} for _ in inputs),
        opset_version=20,
        dynamo=True,
        optimize=False,
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    halves = {
        key: value.half()
        for key, value in network.state_dict().items()
        if key in {t.name for t in model.graph.initializer}
    }
    with files.atomic(folder / "model.safetensors") as temporary:
        save_file(halves, temporary, metadata={"format": "pt"})
    _point_into(model, folder / "model.safetensors")
    with files.atomic(folder / "model.onnx") as temporary:
        onnx.save(model, temporary)


def _point_into(model: Any, path: Path) -> None:
    """Replace each initializer that `path` holds by a float16 one stored there and a Cast."""
    import onnx

    header_bytes = int.from_bytes(path.read_bytes()[:8], "little")
    header = json.loads(path.read_bytes()[8 : 8 + header_bytes])
    kept, nodes = [], []
    for tensor in model.graph.initializer:
        if tensor.name not in header:
            kept.append(tensor)
            continue
        begin, end = header[tensor.name]["data_offsets"]
        half = onnx.TensorProto(name=f"{tensor.name}.half", data_type=onnx.TensorProto.FLOAT16, dims=tensor.dims)
        half.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", path.name), ("offset", 8 + header_bytes + begin), ("length", end - begin)):
            half.external_data.add(key=key, value=str(value))
        kept.append(half)
        nodes.append(onnx.helper.make_node("Cast", [half.name], [tensor.name], to=onnx.TensorProto.FLOAT))
    nodes += model.graph.node
    for node in nodes:
        del node.metadata_props[:]
    del model.graph.initializer[:], model.graph.node[:], model.graph.value_info[:], model.graph.metadata_props[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(nodes)
