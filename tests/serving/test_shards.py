"""One request by many workers: the images of one process, to the byte."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from export.bundle import Bundle
from export.pieces import Export, checkpoint_folder
from export.runtimes import Runtime, generator
from export.variant import Variant
from genzoo import cli
from serving.shards import SHARD, Sharded
from tests import pieces
from tests.clusters import RayCluster, cluster
from zoo import fanout
from zoo.contract.errors import RequestError
from zoo.contract.request import SampleRequest, Setting

pytest.importorskip("ray", reason="Ray is not installed: pip install genzoo[distributed]")
SEEDS = tuple(range(2 * SHARD + 10))


@pytest.fixture(scope="module")
def three_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    with cluster(tmp_path_factory.mktemp("three")) as made:
        for name in ("one", "two", "three"):
            made.add(name)
        yield made


def test_one_and_three_workers_make_the_same_bytes(toy_bundles: Mapping[str, Path], three_nodes: RayCluster) -> None:
    bundle = Bundle.open(toy_bundles["toy-diffusion"])
    request = SampleRequest(SEEDS, setting=Setting(3, "ddpm", 2.0))
    with fanout.workers() as alone, fanout.workers(three_nodes.address) as many:
        by_one = Sharded(bundle, Runtime.ONNXRUNTIME, alone).sample(request)
        by_three = Sharded(bundle, Runtime.ONNXRUNTIME, many).sample(request)
    np.testing.assert_array_equal(by_one, by_three)
    assert len(np.unique(by_one.reshape(len(SEEDS), -1), axis=0)) == len(SEEDS)
    whole = generator(bundle, Runtime.ONNXRUNTIME, 1).sample(request)
    np.testing.assert_array_equal(by_one, whole)


def test_a_bundle_that_a_worker_lacks_travels_to_it(
    toy_bundles: Mapping[str, Path], three_nodes: RayCluster, tmp_path: Path
) -> None:
    known = fanout.Folder.of(toy_bundles["toy-linear"], "fp32")
    elsewhere = fanout.Folder("/nowhere/on/this/host", "fp32", known.files)
    with fanout.workers(three_nodes.address) as many:
        found = [place for _, place in many.map(pieces.opened, [elsewhere] * 3, cargo=lambda _: known.cargo)]
        assert set(found) <= {
            str(three_nodes.folder / name / "received" / fanout.received(known.files).name / "fp32")
            for name in ("one", "two", "three")
        }
        with pytest.raises(fanout.FanOutError, match="did not come along"):
            list(many.map(pieces.opened, [fanout.Folder("/nowhere", "other", known.files[:2])]))


def test_what_a_generator_cannot_do_is_refused_before_anything_travels(
    toy_bundles: Mapping[str, Path], three_nodes: RayCluster
) -> None:
    bundle = Bundle.open(toy_bundles["toy-student"])
    with fanout.workers(three_nodes.address) as many, pytest.raises(RequestError, match="trained for 2 steps"):
        Sharded(bundle, Runtime.ONNXRUNTIME, many).sample(SampleRequest((1,), setting=Setting(7)))


def test_an_export_elsewhere_is_the_export_here(three_nodes: RayCluster) -> None:
    """Byte for byte, and the checkpoint came along where the worker's own tree has another."""
    piece = Export(checkpoint_folder("gan"), Variant())
    here = {name: path.read_bytes() for name, path in _exported(piece)}
    with fanout.workers(three_nodes.address) as many:
        [(_, sent)] = fanout.run([piece], many)
    there = dict(sent)
    assert {name for name in there if name.endswith((".onnx", ".safetensors"))} == {
        name for name in here if name.endswith((".onnx", ".safetensors"))
    }
    assert there == here


def _exported(piece: Export) -> Iterator[tuple[str, Path]]:
    from export import exporter
    from zoo import registry

    folder = exporter.export(registry.checkpoint(piece.checkpoint.name), piece.variant).path
    yield from ((path.name, path) for path in folder.iterdir() if path.is_file())


def test_the_commands_take_an_address(toy_bundles: Mapping[str, Path], three_nodes: RayCluster, tmp_path: Path) -> None:
    output = tmp_path / "images.npz"
    words = ["sample", str(toy_bundles["toy-linear"]), "--seeds", "0-299", "-o", str(output), "--ungated", "--json"]
    result = CliRunner().invoke(cli.app, [*words, "--ray", three_nodes.address])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["images"] == 300
    by_workers = np.load(output)["images"]
    assert CliRunner().invoke(cli.app, words).exit_code == 0
    np.testing.assert_array_equal(by_workers, np.load(output)["images"])
    refused = CliRunner().invoke(cli.app, [*words, "--runtime", "triton", "--ray", three_nodes.address])
    assert isinstance(refused.exception, RequestError)
    assert "--ray makes the images of seeds by bundles" in str(refused.exception)
