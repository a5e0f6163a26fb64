"""A user's own feature net: described in a file beside it, checked by digest, and a metric's net like any other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.quality import external, features, judges, metrics
from benchmarks.quality.external import ExternalNet, ExternalNetError
from tests.datasets import stripes
from zoo.datasets import dataset

SIDE = 16


def network(folder: Path, **described: Any) -> Path:
    """(N, 3, 16, 16) -> `tokens` (N, 16, 48), its patches of 4x4 pixels, and `means` (N, 48), over patches."""
    nodes = [
        helper.make_node("SpaceToDepth", ["picture"], ["patches"], blocksize=4),
        helper.make_node("Reshape", ["patches", "flat"], ["columns"]),
        helper.make_node("Transpose", ["columns"], ["tokens"], perm=[0, 2, 1]),
        helper.make_node("ReduceMean", ["tokens", "axis"], ["means"], keepdims=0),
    ]
    shapes = {"picture": ["n", 3, SIDE, SIDE], "tokens": ["n", 16, 48], "means": ["n", 48], "patches": ["n", 48, 4, 4]}
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()}
    constants = {"flat": [0, 48, 16], "axis": [1]}
    graph = helper.make_graph(
        nodes,
        "patches",
        [values["picture"]],
        [values["means"], values["tokens"], values["patches"]],
        [numpy_helper.from_array(np.array(each), name) for name, each in constants.items()],
    )
    path = folder / "encoder.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    said = {"name": "patches", "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "size": SIDE, **described}
    path.with_suffix(".json").write_text(json.dumps(said))
    return path


@pytest.fixture
def striped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[judges.Judges]:
    """A data set of 100 and 100 pictures, whose judges are whatever a test gives."""
    yield judges.Judges(stripes(monkeypatch, tmp_path))
    features._added.clear()
    features.reference.cache_clear()
    metrics._held_out.cache_clear()


def test_pictures_are_prepared_as_described(tmp_path: Path) -> None:
    image = np.zeros((1, SIDE, SIDE, 1), np.uint8)
    image[0, :, 8:] = 255
    net = ExternalNet(network(tmp_path, mean=[0.5, 0.0, 0.0], std=[0.5, 1.0, 0.25], output="patches", pool="mean"))
    given = external.prepared(image, net.description)
    assert given.shape == (1, 3, SIDE, SIDE)
    np.testing.assert_allclose(given[0, :, 0, 0], [-1.0, 0.0, 0.0])
    np.testing.assert_allclose(given[0, :, 0, -1], [1.0, 1.0, 4.0])
    np.testing.assert_allclose(net(image).features.reshape(16, 3).mean(0), [0.0, 0.5, 2.0], atol=1e-6)
    last = external.prepared(image, replace(net.description, layout="NHWC"))
    np.testing.assert_array_equal(last.transpose(0, 3, 1, 2), given)
    grey = external.prepared(image, replace(net.description, mean=(0.0,), std=(1.0,), size=8))
    assert grey.shape == (1, 1, 8, 8)


def test_tokens_are_pooled(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    means = ExternalNet(network(tmp_path))(image).features
    pooled = ExternalNet(network(tmp_path, output="tokens", pool="mean"))(image).features
    first = ExternalNet(network(tmp_path, output="tokens", pool="first"))(image).features
    np.testing.assert_allclose(pooled, means, atol=1e-6)
    assert first.shape == means.shape
    assert not np.allclose(first, means)


def test_metrics_are_measured_in_it(tmp_path: Path, striped: judges.Judges) -> None:
    path = network(tmp_path, mean=[0.5] * 3, std=[0.5] * 3)
    who = external.with_nets(striped, [path])
    assert who.names == ("patches",)
    train, test = (dataset(striped.dataset).load(split, None).images for split in ("train", "test"))
    seen = features.reference("patches", striped.dataset)
    here = ExternalNet(path)(train).features.astype(np.float64)
    np.testing.assert_allclose(seen.train.mean, here.mean(0), atol=1e-9)
    np.testing.assert_allclose(seen.train.covariance, np.cov(here.T), atol=1e-9)
    np.testing.assert_allclose(seen.test.features, ExternalNet(path)(test).features, atol=1e-3)
    found = metrics.judged(who, test, {})
    assert found["references"] == {"patches": seen.digest}
    assert found["metrics"]["fd_100_patches"]["value"] < 1.0
    noise = metrics.judged(who, metrics.noise_images(who.nets[0], 100), {})
    assert noise["metrics"]["fd_100_patches"]["value"] > 10.0 * max(found["metrics"]["fd_100_patches"]["value"], 0.01)


def test_a_look_at_real_pictures_that_stops_goes_on_and_is_kept(
    tmp_path: Path, home: Path, striped: judges.Judges, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = ExternalNet(network(tmp_path))
    whole = external.reference(net, striped.dataset)
    [kept] = (home / "nets").rglob("reference.safetensors")
    kept.unlink()
    monkeypatch.setattr(external, "CHUNK", 30)
    calls: list[int] = []

    class Stops(ExternalNet):
        def __call__(self, images: np.ndarray) -> features.View:
            calls.append(len(images))
            if len(calls) == 4:
                raise KeyboardInterrupt
            return super().__call__(images)

    stops = Stops.__new__(Stops)
    stops.__dict__.update(net.__dict__)
    with pytest.raises(KeyboardInterrupt):
        external.reference(stops, striped.dataset)
    assert calls == [30, 30, 30, 10]
    again = external.reference(stops, striped.dataset)
    assert calls[4:] == [10, 30, 30, 30, 10], "what was seen before is not looked at again"
    np.testing.assert_allclose(again.train.covariance, whole.train.covariance, atol=1e-9)
    np.testing.assert_array_equal(again.test.features, whole.test.features)
    calls.clear()
    external.reference(stops, striped.dataset)
    assert not calls


@pytest.mark.parametrize(
    ("described", "said"),
    [
        ({"sha256": "0" * 64}, "has sha256 .* expected 000000000000 by encoder.json"),
        ({"sha256": "no"}, "expected 64 hex digits"),
        ({"size": 8}, "does not take 1x3x8x8"),
        ({"size": 0}, "expected 8 to 1024"),
        ({"layout": "NHWC"}, "does not take 1x16x16x3"),
        ({"layout": "HW"}, "expected NCHW or NHWC"),
        ({"mean": [0.5], "std": [0.5]}, "does not take 1x1x16x16"),
        ({"mean": [0.5], "std": [0.0]}, "std positive"),
        ({"output": "logits"}, "choose one of means, tokens, patches"),
        ({"output": "tokens"}, "say how to pool it"),
        ({"pool": "max"}, "expected first or mean"),
        ({"name": "Big Net"}, "expected small letters"),
        ({"name": "critic"}, "a judge of the zoo has"),
        ({"flavour": "mint"}, "has 'flavour': expected some of name, sha256"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(tmp_path: Path, described: dict[str, Any], said: str) -> None:
    with pytest.raises(ExternalNetError, match=said):
        ExternalNet(network(tmp_path, **described))


def test_files_that_are_missing_or_no_net(tmp_path: Path) -> None:
    path = network(tmp_path)
    path.with_suffix(".json").unlink()
    with pytest.raises(ExternalNetError, match=r"encoder.json does not describe encoder.onnx .*give name, sha256"):
        ExternalNet(path)
    path = network(tmp_path)
    path.unlink()
    with pytest.raises(ExternalNetError, match="put the net beside it"):
        ExternalNet(path)
    path.write_bytes(b"no graph")
    digest = hashlib.sha256(b"no graph").hexdigest()
    path.with_suffix(".json").write_text(json.dumps({"name": "x", "sha256": digest, "size": 16}))
    with pytest.raises(ExternalNetError, match="does not load in ONNX Runtime"):
        ExternalNet(path)
