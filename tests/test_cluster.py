"""A real cluster of Ray nodes on loopback: the same as here, whoever is lost, and nobody of another version.

All that needs one is in this file: it takes long to start, and is shared.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks import records, studies
from benchmarks.measure import distributed, sweep
from benchmarks.measure.rounds import Rounds
from benchmarks.measure.workload import Load
from export import exporter
from export.bundle import Bundle
from export.pieces import Export, checkpoint_folder
from export.runtimes import Runtime, generator
from export.variant import Variant
from genzoo import cli
from serving.shards import SHARD, Sharded
from tests import pieces
from tests.clusters import ROOT, RayCluster, cluster
from tests.servers.static import StaticServer
from tests.zoo.keys import pair
from zoo import fanout, registry
from zoo.contract.errors import RequestError
from zoo.contract.request import SampleRequest, Setting
from zoo.store.local.blobs import BlobStore

pytest.importorskip("ray", reason="Ray is not installed: pip install genzoo[distributed]")
NODES = ("one", "two", "three")
SEEDS = tuple(range(2 * SHARD + 10))
LOAD = Load(queries=22, seconds=0.05, warm_up=1)


@pytest.fixture(scope="module")
def cluster_of_three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    with cluster(tmp_path_factory.mktemp("three")) as made:
        for name in NODES:
            made.add(name)
        yield made


@pytest.fixture(scope="module")
def told() -> list[str]:
    """What the driver of `three` said, from the beginning."""
    return []


@pytest.fixture(scope="module")
def three(cluster_of_three: RayCluster, told: list[str]) -> Iterator[fanout.Workers]:
    """One connection for all that does not ask how one begins or ends: each starts processes of its own everywhere."""
    with fanout.workers(cluster_of_three.address, told.append) as pool:
        yield pool


def test_without_an_address_pieces_are_done_here_in_turn() -> None:
    with fanout.workers() as pool:
        assert list(pool.map(pieces.square, range(4))) == [(0, 0), (1, 1), (2, 4), (3, 9)]
        assert list(pool.everywhere(os.getpid).values()) == [os.getpid()]


def test_each_piece_is_done_once_and_every_node_does_some(three: fanout.Workers, tmp_path: Path) -> None:
    items = [(number, str(tmp_path)) for number in range(9)]
    found = dict(three.map(pieces.slow_square, items))
    assert three.everywhere(pieces.here) == {name: name for name in NODES}
    assert {index: value for index, (value, _) in found.items()} == {number: number**2 for number in range(9)}
    assert {node for _, node in found.values()} == set(NODES)
    assert len(list(tmp_path.iterdir())) == 9


def test_what_a_piece_raises_is_raised_here(three: fanout.Workers) -> None:
    with pytest.raises(pieces.PieceError, match="the piece 2 is refused"):
        list(three.map(pieces.refused, range(4)))


def test_exclusive_pieces_never_share_a_node(three: fanout.Workers) -> None:
    """Neither with each other nor with what another command draws there at the same time."""
    spans = [found for _, found in three.map(pieces.span, [0.2] * 9, exclusive=True)]
    for node in NODES:
        ours = sorted((began, ended) for name, began, ended in spans if name == node)
        assert len(ours) >= 2
        assert all(ended <= began for (_, ended), (began, _) in pairwise(ours))


def test_files_travel_by_digest_and_are_verified(three: fanout.Workers, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    data = bytes(range(256)) * 80_000  # more than one chunk
    path.write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    found = list(three.map(pieces.received, [sha256] * 3, cargo=lambda digest: {digest: path}))
    assert [value for _, value in found] == [data] * 3
    wrong = "0" * 64
    with pytest.raises(fanout.FanOutError, match=f"arrived with sha256 {sha256[:12]}, expected 000000000000"):
        list(three.map(pieces.received, [wrong], cargo=lambda digest: {digest: path}))
    with pytest.raises(fanout.FanOutError, match="did not come along"):
        list(three.map(pieces.received, [sha256]))


def test_a_piece_that_kills_its_workers_ends_the_work_with_a_sentence(three: fanout.Workers, told: list[str]) -> None:
    before = len(told)
    with pytest.raises(fanout.FanOutError, match="took 3 workers with it"):
        list(three.map(pieces.killer, [1]))
    said = told[before:]
    assert len(said) == 2
    assert all("its piece is done again" in line for line in said)


def test_a_killed_node_costs_its_pieces_only_and_a_new_one_helps(
    cluster_of_three: RayCluster, three: fanout.Workers, told: list[str], tmp_path: Path
) -> None:
    before = len(told)
    items = [(number, str(tmp_path)) for number in range(24)]
    victim = cluster_of_three.add("victim")
    found = {}
    for count, (index, value) in enumerate(three.map(pieces.patient_square, items)):
        found[index] = value
        if count == 3:
            cluster_of_three.kill(victim)
            late = cluster_of_three.add("late")
    cluster_of_three.kill(late)
    assert {index: value for index, (value, _) in found.items()} == {number: number**2 for number in range(24)}
    assert {node for _, node in found.values()} >= {*NODES, "late"}
    assert any("victim" in line and "done again" in line for line in told[before:])
    begun = [int(path.name.split("-")[0]) for path in tmp_path.glob("*-*")]
    assert sorted(set(begun)) == list(range(24))
    assert len(begun) <= 24 + 2, "more was done again than the victim had under way"


def another_numpy(folder: Path) -> None:
    """What an installed package of another version leaves on a path."""
    (folder / "numpy-0.1.dist-info").mkdir()
    (folder / "numpy-0.1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 0.1\n")


def test_a_worker_of_another_version_gets_no_work(
    cluster_of_three: RayCluster, three: fanout.Workers, told: list[str], tmp_path: Path
) -> None:
    another_numpy(tmp_path)
    old = cluster_of_three.add("old", environment={"PYTHONPATH": f"{tmp_path}:{ROOT}"})
    before = len(told)
    assert {found for _, found in three.map(pieces.who, range(9))} == set(NODES)
    cluster_of_three.kill(old)
    assert [line for line in told[before:] if line.startswith("the worker on old is refused: numpy is 0.1 there and ")]


def test_a_cluster_where_nobody_runs_what_runs_here_is_a_sentence(
    cluster_of_three: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    another_numpy(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    sentence = r"nobody at .* can take work: the worker on \w+ is refused: numpy is [0-9.]+ there and 0\.1 here"
    with pytest.raises(fanout.WorkerRefusedError, match=sentence), fanout.workers(cluster_of_three.address):
        pass


def test_an_abandoned_map_ends_what_is_under_way(three: fanout.Workers) -> None:
    began = time.monotonic()
    found = three.map(pieces.span, [0.1, 60.0, 60.0])
    next(found)
    with suppress(GeneratorExit):
        found.close()
    assert sorted(value for _, value in three.map(pieces.square, [2, 3])) == [4, 9]
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("nowhere", "expected the head's host:port"),
        ("ray://127.0.0.1:10001", "expected the head's host:port"),
        ("127.0.0.1:1", "no cluster answers at 127.0.0.1:1"),
    ],
)
def test_an_address_without_a_cluster_is_a_sentence(address: str, sentence: str) -> None:
    with pytest.raises(fanout.FanOutError, match=sentence), fanout.workers(address):
        pass


def test_one_and_three_workers_make_the_same_bytes(toy_bundles: Mapping[str, Path], three: fanout.Workers) -> None:
    bundle = Bundle.open(toy_bundles["toy-diffusion"])
    request = SampleRequest(SEEDS, setting=Setting(3, "ddpm", 2.0))
    with fanout.workers() as alone:
        by_one = Sharded(bundle, Runtime.ONNXRUNTIME, alone).sample(request)
    by_three = Sharded(bundle, Runtime.ONNXRUNTIME, three).sample(request)
    np.testing.assert_array_equal(by_one, by_three)
    assert len(np.unique(by_one.reshape(len(SEEDS), -1), axis=0)) == len(SEEDS)
    whole = generator(bundle, Runtime.ONNXRUNTIME, 1).sample(request)
    np.testing.assert_array_equal(by_one, whole)


def test_a_bundle_that_a_worker_lacks_travels_to_it(
    toy_bundles: Mapping[str, Path], cluster_of_three: RayCluster, three: fanout.Workers
) -> None:
    known = fanout.Folder.of(toy_bundles["toy-linear"], "fp32")
    elsewhere = fanout.Folder("fp32", tuple((*each, f"/nowhere/{each[0]}") for each in known.digests))
    found = [place for _, place in three.map(pieces.opened, [elsewhere] * 3, cargo=lambda _: known.cargo)]
    assert set(found) <= {
        str(cluster_of_three.folder / name / "received" / fanout.received(known.digests).name / "fp32")
        for name in NODES
    }
    with pytest.raises(fanout.FanOutError, match="did not come along"):
        list(three.map(pieces.opened, [fanout.Folder("other", elsewhere.files)]))


def test_what_a_generator_cannot_do_is_refused_before_anything_travels(
    toy_bundles: Mapping[str, Path], three: fanout.Workers
) -> None:
    bundle = Bundle.open(toy_bundles["toy-student"])
    with pytest.raises(RequestError, match="trained for 2 steps"):
        Sharded(bundle, Runtime.ONNXRUNTIME, three).sample(SampleRequest((1,), setting=Setting(7)))


def test_an_export_elsewhere_is_the_export_here(three: fanout.Workers) -> None:
    """Byte for byte, and the checkpoint came along where the worker's own tree has another."""
    piece = Export(checkpoint_folder("gan"), Variant())
    here = {name: path.read_bytes() for name, path in _exported(piece)}
    [(_, sent)] = fanout.run([piece], three)
    there = dict(sent)
    assert {name for name in there if name.endswith((".onnx", ".safetensors"))} == {
        name for name in here if name.endswith((".onnx", ".safetensors"))
    }
    assert there == here


def _exported(piece: Export) -> Iterator[tuple[str, Path]]:
    folder = exporter.export(registry.checkpoint(piece.checkpoint.name), piece.variant).path
    yield from ((path.name, path) for path in folder.iterdir() if path.is_file())


def test_the_commands_take_an_address(
    toy_bundles: Mapping[str, Path], cluster_of_three: RayCluster, tmp_path: Path
) -> None:
    output = tmp_path / "images.npz"
    words = ["sample", str(toy_bundles["toy-linear"]), "--seeds", "0-299", "-o", str(output), "--ungated", "--json"]
    result = CliRunner().invoke(cli.app, [*words, "--ray", cluster_of_three.address])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["images"] == 300
    by_workers = np.load(output)["images"]
    assert CliRunner().invoke(cli.app, words).exit_code == 0
    np.testing.assert_array_equal(by_workers, np.load(output)["images"])
    refused = CliRunner().invoke(cli.app, [*words, "--runtime", "triton", "--ray", cluster_of_three.address])
    assert isinstance(refused.exception, RequestError)
    assert "--ray makes the images of seeds by bundles" in str(refused.exception)


@pytest.fixture(scope="module")
def two_rows(tmp_path_factory: pytest.TempPathFactory) -> tuple[sweep.Row, ...]:
    """Two generators that every worker knows by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENZOO_HOME", str(tmp_path_factory.mktemp("bundles")))
        bundles = [exporter.export(registry.checkpoint(name)) for name in ("gan", "vae")]
    return tuple(sweep.Row(bundle, Setting()) for bundle in bundles)


def swept(
    rows: tuple[sweep.Row, ...], path: Path, workers: fanout.Workers, said: list[str], count: int = 300
) -> list[records.Record]:
    protocol = Rounds(3)
    cells = sweep.cells(rows, ["onnxruntime"], [LOAD], protocol)
    judged = [sweep.Judged(rows[0], "onnxruntime", count)]  # judging takes most of a sweep: one of them is enough
    reference = sweep.reference_cell(rows[0], ["onnxruntime"], protocol)
    return distributed.run(cells, judged, path, workers, reference=reference, told=said.append)


def test_quality_is_the_same_by_one_and_by_three_workers(
    two_rows: tuple[sweep.Row, ...], cluster_of_three: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last digit, and the shards to the byte; cells tell how they were on the nodes."""
    found, kept = [], []
    for home, address in (("here", None), ("there", cluster_of_three.address)):
        monkeypatch.setenv("GENZOO_HOME", str(tmp_path / home))
        with fanout.workers(address, lambda _: None) as workers:
            found.append(swept(two_rows, tmp_path / f"{home}.jsonl", workers, []))
        kept.append({path.name: path.read_bytes() for path in (tmp_path / home / "samples").iterdir()})
    here, there = ([each for each in each_way if each["identity"]["kind"] == "quality"] for each_way in found)
    assert [each["metrics"] for each in here] == [each["metrics"] for each in there]
    assert [each["left_out"] for each in here] == [each["left_out"] for each in there]
    assert {each["id"] for each in here} == {each["id"] for each in there}
    assert kept[0] == kept[1]
    assert len(kept[0]) == 2, "two shards"
    cells = [each for each in found[1] if each["identity"]["kind"] == "cell"]
    assert len(cells) == 2
    assert all(len(each["runs"]) == 3 and each["latency"]["relative"]["value"] > 0 for each in cells)


def test_a_sweep_whose_head_is_killed_goes_on_by_another_cluster(
    two_rows: tuple[sweep.Row, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENZOO_HOME", str(tmp_path / "home"))
    path = tmp_path / "records.jsonl"

    class Killing(list[str]):
        def append(self, sentence: str) -> None:
            super().append(sentence)
            if sentence.startswith("[1/3]"):
                made.kill_head()

    with cluster(tmp_path) as made:
        made.add("first")
        said = Killing()
        with (
            pytest.raises(fanout.HeadLostError, match="the same command with its address goes on"),
            fanout.workers(made.address, lambda _: None) as workers,
        ):
            swept(two_rows, path, workers, said)
    before = records.read(path)
    assert 1 <= len(before) < 3
    with cluster(tmp_path) as made:
        made.add("second")
        with fanout.workers(made.address) as workers:
            found = swept(two_rows, path, workers, again := [])
    assert {each["id"] for each in before} < {each["id"] for each in found}
    assert len(found) == 3
    assert records.read(path)[: len(before)] == before
    assert again[-1].startswith(f"[{3 - len(before)}/{3 - len(before)}]")


def test_a_study_is_done_elsewhere_and_kept_here(three: fanout.Workers) -> None:
    """Its identity and its checkpoints travel: a worker finds those that it was sent."""
    piece = studies.Piece.of("straightness")
    [(_, found)] = three.map(pieces.study_checkpoints, [piece], cargo=lambda each: each.cargo)
    assert found == studies.identity("straightness")["checkpoints"]


def test_a_pull_reaches_every_node_and_the_remote_sends_it_once(
    cluster_of_three: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signed, and verified by each node by itself, by the key that travelled."""
    remote, key = tmp_path / "remote", pair(tmp_path, "publisher")
    words = ["push", "gan", str(remote), "--sign-key", str(key.private)]
    assert CliRunner().invoke(cli.app, words).exit_code == 0
    monkeypatch.setenv("GENZOO_HOME", str(tmp_path / "home"))
    with StaticServer(remote) as server:
        words = ["pull", "gan", "--from", server.url, "--key", str(key.public), "--json"]
        result = CliRunner().invoke(cli.app, [*words, "--ray", cluster_of_three.address])
        sent = [path for method, path in server.requests if method == "GET" and path.endswith(".safetensors")]
    assert result.exit_code == 0, result.output
    assert len(sent) == 1
    for name in NODES:
        store = BlobStore(cluster_of_three.folder / name)
        ref = store.ref("gan")
        assert ref is not None
        assert ref.source == server.url
        assert ref.signer
        assert {path.name for path in store.view(store.manifest(ref)).iterdir()} >= {"model.safetensors", "config.json"}
        assert not list((cluster_of_three.folder / name).glob(".arrival-*"))
