"""Pieces of work on a real cluster of Ray nodes: the same as here, whoever is lost."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest

from tests import pieces
from tests.clusters import ROOT, RayCluster, cluster
from zoo import fanout

pytest.importorskip("ray", reason="Ray is not installed: pip install genzoo[distributed]")


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    with cluster(tmp_path_factory.mktemp("two")) as made:
        made.add("one")
        made.add("two")
        yield made


def test_without_an_address_pieces_are_done_here_in_turn() -> None:
    with fanout.workers() as pool:
        assert list(pool.map(pieces.square, range(4))) == [(0, 0), (1, 1), (2, 4), (3, 9)]
        assert list(pool.everywhere(os.getpid).values()) == [os.getpid()]


def test_each_piece_is_done_once_and_every_node_does_some(two_nodes: RayCluster, tmp_path: Path) -> None:
    items = [(number, str(tmp_path)) for number in range(8)]
    with fanout.workers(two_nodes.address) as pool:
        found = dict(pool.map(pieces.slow_square, items))
        assert pool.everywhere(pieces.here) == {"one": "one", "two": "two"}
    assert {index: value for index, (value, _) in found.items()} == {number: number**2 for number in range(8)}
    assert {node for _, node in found.values()} == {"one", "two"}
    assert len(list(tmp_path.iterdir())) == 8


def test_what_a_piece_raises_is_raised_here(two_nodes: RayCluster) -> None:
    with (
        fanout.workers(two_nodes.address) as pool,
        pytest.raises(pieces.PieceError, match="the piece 2 is refused"),
    ):
        list(pool.map(pieces.refused, range(4)))


def test_exclusive_pieces_never_share_a_node(two_nodes: RayCluster) -> None:
    """Neither with each other nor with what another command draws there at the same time."""
    with fanout.workers(two_nodes.address) as pool:
        spans = [found for _, found in pool.map(pieces.span, [0.3] * 6, exclusive=True)]
    for node in ("one", "two"):
        ours = sorted((began, ended) for name, began, ended in spans if name == node)
        assert len(ours) >= 2
        assert all(ended <= began for (_, ended), (began, _) in pairwise(ours))


def test_files_travel_by_digest_and_are_verified(two_nodes: RayCluster, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    data = bytes(range(256)) * 80_000  # more than one chunk
    path.write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    with fanout.workers(two_nodes.address) as pool:
        found = list(pool.map(pieces.received, [sha256] * 2, cargo=lambda digest: {digest: path}))
        assert [value for _, value in found] == [data, data]
        wrong = "0" * 64
        with pytest.raises(fanout.FanOutError, match=f"arrived with sha256 {sha256[:12]}, expected 000000000000"):
            list(pool.map(pieces.received, [wrong], cargo=lambda digest: {digest: path}))
        with pytest.raises(fanout.FanOutError, match="did not come along"):
            list(pool.map(pieces.received, [sha256]))


def test_a_piece_that_kills_its_workers_ends_the_work_with_a_sentence(two_nodes: RayCluster) -> None:
    said: list[str] = []
    with (
        fanout.workers(two_nodes.address, said.append) as pool,
        pytest.raises(fanout.FanOutError, match="took 3 workers with it"),
    ):
        list(pool.map(pieces.killer, [1]))
    assert len(said) == 2
    assert all("its piece is done again" in line for line in said)


def test_a_killed_node_costs_its_pieces_only_and_a_new_one_helps(two_nodes: RayCluster, tmp_path: Path) -> None:
    said: list[str] = []
    items = [(number, str(tmp_path)) for number in range(24)]
    victim = two_nodes.add("victim")
    with fanout.workers(two_nodes.address, said.append) as pool:
        found = {}
        for count, (index, value) in enumerate(pool.map(pieces.slow_square, items)):
            found[index] = value
            if count == 3:
                two_nodes.kill(victim)
                late = two_nodes.add("late")
    two_nodes.kill(late)
    assert {index: value for index, (value, _) in found.items()} == {number: number**2 for number in range(24)}
    assert {node for _, node in found.values()} >= {"one", "two", "late"}
    assert any("victim" in line and "done again" in line for line in said)
    begun = [int(path.name.split("-")[0]) for path in tmp_path.iterdir()]
    assert sorted(set(begun)) == list(range(24))
    assert len(begun) <= 24 + 2, "more was done again than the victim had under way"


def another_numpy(folder: Path) -> None:
    """What an installed package of another version leaves on a path."""
    (folder / "numpy-0.1.dist-info").mkdir()
    (folder / "numpy-0.1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 0.1\n")


def test_a_worker_of_another_version_gets_no_work(two_nodes: RayCluster, tmp_path: Path) -> None:
    another_numpy(tmp_path)
    old = two_nodes.add("old", environment={"PYTHONPATH": f"{tmp_path}:{ROOT}"})
    said: list[str] = []
    with fanout.workers(two_nodes.address, said.append) as pool:
        assert {found for _, found in pool.map(pieces.who, range(6))} == {"one", "two"}
    two_nodes.kill(old)
    assert [line for line in said if line.startswith("the worker on old is refused: numpy is 0.1 there and ")]


def test_a_cluster_where_nobody_runs_what_runs_here_is_a_sentence(
    two_nodes: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    another_numpy(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    fanout.stamp.cache_clear()
    try:
        sentence = r"nobody at .* can take work: the worker on \w+ is refused: numpy is [0-9.]+ there and 0\.1 here"
        with pytest.raises(fanout.WorkerRefusedError, match=sentence), fanout.workers(two_nodes.address):
            pass
    finally:
        fanout.stamp.cache_clear()


def test_an_abandoned_map_ends_what_is_under_way(two_nodes: RayCluster) -> None:
    began = time.monotonic()
    with fanout.workers(two_nodes.address) as pool:
        found = pool.map(pieces.span, [0.1, 60.0, 60.0])
        next(found)
        with suppress(GeneratorExit):
            found.close()
        assert sorted(value for _, value in pool.map(pieces.square, [2, 3])) == [4, 9]
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


def test_a_killed_head_is_a_sentence_and_another_cluster_goes_on(tmp_path: Path) -> None:
    done: dict[int, int] = {}
    marks = tmp_path / "marks"
    marks.mkdir()
    with cluster(tmp_path) as made:
        made.add("one")

        def drawn() -> None:
            with fanout.workers(made.address, lambda _: None) as pool:
                for index, (value, _) in pool.map(pieces.slow_square, [(number, str(marks)) for number in range(8)]):
                    done[index] = value
                    if len(done) == 2:
                        made.kill_head()

        with pytest.raises(fanout.HeadLostError, match="does not answer any more; what was done is kept"):
            drawn()
    assert 2 <= len(done) < 8
    left = [number for number in range(8) if number not in done]
    with cluster(tmp_path) as made:
        made.add("another")
        with fanout.workers(made.address) as pool:
            for index, (value, _) in pool.map(pieces.slow_square, [(number, str(marks)) for number in left]):
                done[left[index]] = value
    assert done == {number: number**2 for number in range(8)}
