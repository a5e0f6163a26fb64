"""Publish a trained feature net: a graph for ONNX Runtime, weights in float16, and what it sees in real pictures."""

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


def publish(name: str, network: nn.Module, recipe: Recipe, record: dict[str, Any], purpose: str, faults: str) -> Path:
    """Write the folder that `benchmarks.quality.features` reads."""
    folder, judge, known = judges.folder(name), judges.net(name), dataset(judges.dataset_of(name))
    folder.mkdir(parents=True, exist_ok=True)
    example = torch.zeros(2, *judge.image_shape, dtype=torch.uint8)
    export(network, folder, {"images": example}, judge.outputs)
    net = features.FeatureNet(folder / "model.onnx")
    unseen = known.load("test", None)
    train, test = moments(net(known.load("train", None).images).features), net(unseen.images)
    tensors = {"train_mean": train.mean.astype(np.float32), "train_covariance": train.covariance.astype(np.float32)}
    tensors["test_features"] = test.features.astype(np.float16)
    if teller := judges.of(known.name).teller:
        tensors["class_ids"] = np.asarray(unseen.conditions[teller.tells]).astype(np.uint8)
    if test.predicted is not None and test.logits is not None:
        tensors["test_logits"] = test.logits.astype(np.float16)
        tensors["test_predicted"] = test.predicted.astype(np.uint8)
        record = {**record, "test_accuracy": float((test.predicted == tensors["class_ids"]).mean())}
    with files.atomic(folder / "reference.safetensors") as temporary:
        save_numpy(tensors, temporary)
    digests = {
        file: files.sha256(folder / file) for file in ("model.onnx", "model.safetensors", "reference.safetensors")
    }
    parameters = sum(parameter.numel() for parameter in network.parameters())
    config: dict[str, Any] = {
        "name": name,
        "width": len(train.mean),
        "parameters": parameters,
        "dataset": known.name,
        "files": digests,
        "recipe": dataclasses.asdict(recipe),
        "training": record,
    }
    files.write_json(folder / "config.json", config)
    write_card(name, purpose, faults)
    return folder


def write_card(name: str, purpose: str, faults: str) -> None:
    """Write a published net's README.md from its `config.json`."""
    folder, judge = judges.folder(name), judges.net(name)
    config = json.loads((folder / "config.json").read_text())
    known = dataset(judges.dataset_of(name))
    card: str = template("feature_card.md.j2").render(
        config=config, purpose=purpose, faults=faults, dataset=known, image_shape=judge.image_shape
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
