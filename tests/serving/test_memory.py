"""Images through memory of who asks for them: the same, to nobody else, and nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from pathlib import Path

import numpy as np
import pytest

from serving import memory
from serving.client import TritonRunner, connected
from serving.server import TritonServer

SEEDS = np.arange(64, dtype=np.uint64)
IMAGES = np.arange(48, dtype=np.uint8).reshape(2, 4, 6, 1)


def held() -> int:
    """How many memories this process has."""
    found = set()
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # that of this very look
            found.add(os.readlink(each))
    return sum(each.startswith("/memfd:genzoo-") for each in found)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of what came through memory, of any size."""
    found, images = list[tuple[int, ...]](), memory.Memory.images

    def seen(self: memory.Memory, shape: tuple[int, ...]) -> np.ndarray:
        found.append(shape)
        return images(self, shape)

    monkeypatch.setattr(memory, "LARGE", 1)
    monkeypatch.setattr(memory.Memory, "images", seen)
    return found


@pytest.mark.parametrize("name", ["toy-gan", "toy-ddpm"])
def test_large_answers_come_through_memory_and_are_the_same(
    server: TritonServer, written: list[tuple[int, ...]], name: str
) -> None:
    runner = TritonRunner(server.grpc_url, name)
    runner.wire = True
    by_wire = runner.run(seed=SEEDS)["image"]
    assert not written
    runner.wire = False

    async def asked() -> np.ndarray:
        async with connected(server.grpc_url, [name]) as runners:
            return (await runners[name].run(seed=SEEDS))["image"]

    before, answers = held(), [runner.run(seed=SEEDS)["image"], asyncio.run(asked())]
    for images in answers:
        np.testing.assert_array_equal(images, by_wire)
    answers[0][:] = 0  # it is of who asked alone
    np.testing.assert_array_equal(runner.run(seed=SEEDS[::-1])["image"], by_wire[::-1])
    assert written == [by_wire.shape] * 3
    gc.collect()
    assert held() - before == 1, "the next request has the memory of the last"
    runner.close()
    del runner
    gc.collect()
    assert held() == before


def test_a_server_that_cannot_write_there_answers_by_wire(
    server: TritonServer, written: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = TritonRunner(server.grpc_url, "toy-gan")
    runner.wire = True
    expected = runner.run(seed=SEEDS)["image"]
    runner.wire = False
    monkeypatch.setattr(os, "getpid", lambda: 1)  # as in a namespace of its own
    for _ in range(2):
        np.testing.assert_array_equal(runner.run(seed=SEEDS)["image"], expected)
    assert not written


def test_what_is_handed_over_is_there() -> None:
    mine = memory.Memory(IMAGES.nbytes)
    said = mine.said
    assert memory.hand_over(said, IMAGES)
    np.testing.assert_array_equal(mine.images(IMAGES.shape), IMAGES)
    with pytest.raises(ValueError, match="more than the 48 bytes"):
        mine.images((3, 4, 6, 1))
    del mine
    gc.collect()
    assert not memory.hand_over(said, IMAGES), "nobody waits any more"


def test_memory_that_waits_is_bounded() -> None:
    memories, before = memory.Memories(most=100), held()
    first = memories.take(60)
    memories.give_back(first)
    assert memories.take(30) is first
    memories.give_back(first)
    assert memories.take(61) is not first
    assert memories.take(10) is not first, "much too large"
    memories.give_back(memory.Memory(50))
    del first
    gc.collect()
    assert held() == before + 1


def test_no_other_file_is_written_to(tmp_path: Path) -> None:
    """Of the same user, whatever a request says: a file, a memfd of another name or size, a pipe."""
    name = f"genzoo-{0:032x}"
    files = [tmp_path / name, tmp_path / f"memfd:{name} (deleted)"]
    for path in files:
        path.write_bytes(bytes(48))
    mine, other = memory.Memory(IMAGES.nbytes), memory.Memory(IMAGES.nbytes - 1)
    pipe = os.pipe()
    opened = [*(os.open(path, os.O_RDWR) for path in files), *pipe]
    try:
        process, place, _ = mine.said.split()
        for said in (
            *(f"{process} {each} {name}" for each in opened),
            f"{process} {place} {name}",
            other.said,
            f"{process} {place}/../../self/fd/1 {name}",
            f"self {place} {mine.said.split()[2]}",
            mine.said.replace(process, "1"),
            "",
            7,
        ):
            assert not memory.hand_over(said, IMAGES)
        assert not mine.images(IMAGES.shape).any()
        assert {path.read_bytes() for path in files} == {bytes(48)}
    finally:
        for each in opened:
            os.close(each)


@pytest.mark.parametrize(
    ("urls", "near"),
    [
        ("127.0.0.1:8001", True),
        ("localhost:1,127.0.0.1:2", True),
        ("10.0.0.7:8001", False),
        ("localhost:1,far:1", False),
    ],
)
def test_what_is_near(urls: str, near: bool) -> None:
    assert memory.is_near(urls) is near
