"""The transfer engine against mirrors that fail in every way: the right bytes in the store, or none and a reason."""

from __future__ import annotations

import errno
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest

from tests.examples import examples, seed
from tests.servers.fault import Fault, FaultServer, Kind, Seen, always, script
from tests.servers.fault_run import HASTY, QUICK, Tally, a_full_disk, entry, play_many, sources
from zoo.store.artifact import File, Manifest
from zoo.store.artifact import Kind as ArtifactKind
from zoo.store.digests import BLAKE3, SHA256
from zoo.store.local.blobs import BlobStore
from zoo.store.transfer.answers import PATIENCE, Patience
from zoo.store.transfer.fetch import fetch
from zoo.store.transfer.mirrors import Limits, Mirrors
from zoo.store.transfer.sources import SourceError, TransferError

CHUNK = 4096
DATA = random.Random(1).randbytes(40 * CHUNK + 77)
SLOW = (Kind.SILENCE, Kind.STALL, Kind.TRICKLE)
SMALL = {f"{number}.json": random.Random(number).randbytes(50 * number) for number in range(6)}


def manifest(contents: dict[str, bytes], chunk_hash: str = BLAKE3, chunk_bytes: int = CHUNK) -> Manifest:
    files = tuple(entry(name, data, chunk_bytes, chunk_hash) for name, data in contents.items())
    return Manifest("case", ArtifactKind.CHECKPOINT, 1, "none", files)


def pull(
    servers: Sequence[FaultServer],
    folder: Path,
    contents: dict[str, bytes] | None = None,
    limits: Limits = QUICK,
    chunk_hash: str = BLAKE3,
    progress: Callable[[int], None] = lambda _: None,
    patience: Patience = PATIENCE,
) -> None:
    """Fetch, and require that the store has exactly what was promised."""
    wanted, store, mirrors = (
        manifest(contents or {"a": DATA}, chunk_hash),
        BlobStore(folder),
        sources(servers, patience),
    )
    try:
        fetch(wanted, mirrors, store, progress, limits)
        for file in wanted.files:
            assert store.path(file.blob).read_bytes() == (contents or {"a": DATA})[file.path]
    finally:
        for mirror in mirrors:
            mirror.close()
        for file in wanted.files:
            if store.has(file.blob):
                assert store.path(file.blob).read_bytes() == (contents or {"a": DATA})[file.path]


@pytest.mark.parametrize("chunk_hash", [BLAKE3, SHA256, ""])
@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.MISSING])
def test_one_fault_does_not_stop_a_pull(kind: Kind, chunk_hash: str, tmp_path: Path) -> None:
    with FaultServer({"a": DATA}, script(None, None, None, Fault(kind, 0.3, 1))) as server:
        patience = HASTY if kind in SLOW else PATIENCE
        pull([server], tmp_path, chunk_hash=chunk_hash, patience=patience)
        assert server.faults[kind.value] == 1


@pytest.mark.parametrize("kind", [Kind.CUT, Kind.RESET, Kind.STALL, Kind.FLIP, Kind.RANGE, Kind.ERROR, Kind.GARBAGE])
def test_a_mirror_that_only_fails_is_given_up_and_named(kind: Kind, tmp_path: Path) -> None:
    with FaultServer({"a": DATA}, always(Fault(kind, 0.0, 1))) as server:
        with pytest.raises(
            TransferError, match=rf"^a of case cannot be had: {server.url}: .*verified is kept"
        ) as caught:
            pull([server], tmp_path, patience=HASTY if kind in SLOW else PATIENCE)
        assert "\n" not in str(caught.value)
        assert server.requests < 60
    with FaultServer({"a": DATA}) as server:
        pull([server], tmp_path)


def test_every_mirror_s_fault_is_told(tmp_path: Path) -> None:
    kinds = (Kind.MISSING, Kind.FLIP, Kind.DENIED)
    with ExitStack() as stack:
        servers = [stack.enter_context(FaultServer({"a": DATA}, always(Fault(kind, 0.5, 1)))) for kind in kinds]
        with pytest.raises(TransferError) as caught:
            pull(servers, tmp_path)
    for words in ("404", "not what the manifest promises", "403"):
        assert words in str(caught.value)


def test_another_mirror_goes_on_in_the_middle_of_a_chunk(tmp_path: Path) -> None:
    """The first mirror dies after 70 % of every chunk: the second sends the other 30 % and no more."""
    one_worker = Limits(connections=1, failures=3, backoff_s=10.0)
    with FaultServer({"a": DATA}, always(Fault(Kind.CUT, 0.7))) as first, FaultServer({"a": DATA}) as second:
        pull([first, second], tmp_path, limits=one_worker)
        assert first.sent == int(0.7 * CHUNK)
        assert first.sent + second.sent == len(DATA)


def test_a_mirror_that_vanishes_in_the_middle_of_a_file_is_replaced(tmp_path: Path) -> None:
    dying = script(*[None] * 10, *[Kind.RESET] * 500)
    with FaultServer({"a": DATA}, dying) as first, FaultServer({"a": DATA}) as second:
        pull([first, second], tmp_path)
        assert first.sent + second.sent < len(DATA) + 6 * CHUNK


def test_a_mirror_with_another_file_gives_no_byte_of_it(tmp_path: Path) -> None:
    other = random.Random(2).randbytes(len(DATA))
    for chunk_hash in (BLAKE3, SHA256, ""):
        with FaultServer({"a": other}) as wrong, FaultServer({"a": DATA}) as right:
            pull([wrong, right], tmp_path / f"by-{chunk_hash}", chunk_hash=chunk_hash)
            with pytest.raises(TransferError, match="not what the manifest promises"):
                pull([wrong], tmp_path / f"{chunk_hash}-alone", chunk_hash=chunk_hash)


def test_a_file_without_digests_that_changes_for_good_begins_anew(tmp_path: Path) -> None:
    """The old version's chunks are dropped as soon as the change is seen, not mixed with the new one's."""
    old = random.Random(2).randbytes(len(DATA))
    contents = {"a": old}

    def plan(seen: object) -> Fault | None:
        if server.requests == 9:
            contents["a"] = DATA
            return Fault(Kind.ETAG)
        return None

    with FaultServer(contents, plan) as server:
        pull([server], tmp_path, chunk_hash="")
        assert server.sent < 2 * len(DATA)


@pytest.mark.parametrize("chunk_hash", [BLAKE3, SHA256, ""])
def test_bytes_behind_every_answer_spoil_none(chunk_hash: str, tmp_path: Path) -> None:
    with FaultServer({"a": DATA}, always(Kind.EXTRA)) as server:
        pull([server], tmp_path, chunk_hash=chunk_hash)


def test_a_server_without_ranges_sends_a_file_once(tmp_path: Path) -> None:
    contents = {"a": DATA, "b": DATA[::-1], **SMALL}
    with FaultServer(contents, ranges=False) as server:
        pull([server], tmp_path, contents)
        assert server.sent_by_path["/a"] <= len(DATA)
        assert server.sent_by_path["/b"] <= len(DATA)


def test_a_server_without_ranges_does_not_cost_what_is_verified(tmp_path: Path) -> None:
    """Half is there; the rest is read in order, and a stream that breaks is taken up behind what was verified."""
    with FaultServer({"a": DATA}, script(*[None] * 20, *[Kind.MISSING] * 9)) as server, pytest.raises(TransferError):
        pull([server], tmp_path)
    got: list[int] = []
    with FaultServer({"a": DATA}, script(Fault(Kind.CUT, 0.8)), ranges=False) as server:
        pull([server], tmp_path, progress=got.append)
        assert server.requests == 2
    assert got[0] >= 10 * CHUNK  # told at once: what was there
    assert sum(got) == len(DATA)


def test_ranges_are_preferred_where_a_mirror_has_them(tmp_path: Path) -> None:
    with FaultServer({"a": DATA}, ranges=False) as plain, FaultServer({"a": DATA}) as ranged:
        pull([plain, ranged], tmp_path)
        assert ranged.sent >= len(DATA) - CHUNK
        assert plain.requests == 1


def test_the_faster_mirror_does_most_and_both_are_tried(tmp_path: Path) -> None:
    with FaultServer({"a": DATA}, always(Kind.TRICKLE)) as slow, FaultServer({"a": DATA}) as fast:
        slow.trickle_bytes, slow.trickle_s = 256, 0.002
        pull([slow, fast], tmp_path)
        assert slow.requests > 0
        assert fast.sent > 3 * slow.sent


def test_what_is_here_is_not_asked_for(tmp_path: Path) -> None:
    contents = {"a": DATA, **SMALL}
    with FaultServer(contents) as server:
        got: list[int] = []
        pull([server], tmp_path, contents, progress=got.append)
        assert sum(got) == sum(len(data) for data in contents.values())
        assert server.sent == sum(len(data) for data in contents.values())
        asked = server.requests
        pull([server], tmp_path, contents, progress=got.append)
        assert server.requests == asked
        assert sum(got) == 2 * sum(len(data) for data in contents.values())


def test_files_alike_are_fetched_once(tmp_path: Path) -> None:
    with FaultServer({"a": DATA, "b": DATA}) as server:
        pull([server], tmp_path, {"a": DATA, "b": DATA})
        assert server.sent == len(DATA)


def test_a_busy_mirror_is_left_alone_for_as_long_as_it_says(tmp_path: Path) -> None:
    """Another one is asked meanwhile; the busy one gets no request before its time."""
    patient = Limits(connections=4, retry_after_cap_s=60.0)
    with FaultServer({"a": DATA}, always(Fault(Kind.BUSY, value=1))) as busy, FaultServer({"a": DATA}) as other:
        busy.retry_after = "30"
        pull([busy, other], tmp_path, limits=patient)
        assert busy.requests <= 4


def test_the_disk_is_looked_at_before_the_first_byte(tmp_path: Path) -> None:
    huge = File("a", 1 << 49, "0" * 64, (), 64 << 20)
    with FaultServer({"a": DATA}) as server:
        [source] = sources([server])
        with pytest.raises(TransferError, match=r"562,949,953,421,312 bytes .* the disk has [\d,]+ free"):
            fetch(Manifest("case", ArtifactKind.CHECKPOINT, 1, "none", (huge,)), [source], BlobStore(tmp_path))
        assert server.requests == 0
        source.close()


@pytest.mark.parametrize("at", [1, 2, 3, 10, 30])
def test_a_disk_that_fills_up_keeps_what_was_verified(at: int, tmp_path: Path) -> None:
    with FaultServer({"a": DATA}) as server:
        before = list[int]()
        with a_full_disk(at, Tally()), pytest.raises(OSError, match="No space left") as caught:
            pull([server], tmp_path, progress=before.append)
        assert caught.value.errno == errno.ENOSPC
    with FaultServer({"a": DATA}) as server:  # another one, for the first may still be sending
        pull([server], tmp_path)
        assert server.sent <= len(DATA) - sum(before)


def test_a_source_that_raises_anything_else_ends_the_transfer(tmp_path: Path) -> None:
    class Broken:
        label = "broken"

        def read(self, file: File, offset: int, into: memoryview) -> None:
            raise RuntimeError("a bug")

        def close(self) -> None: ...

    with pytest.raises(RuntimeError, match="a bug"):
        fetch(manifest({"a": DATA}), [Broken()], BlobStore(tmp_path))


class Sleepy:
    """A mirror that takes a moment for every chunk, and knows who asked."""

    label = "sleepy"

    def __init__(self) -> None:
        self.workers: set[int] = set()

    def read(self, file: File, offset: int, into: memoryview) -> None:
        self.workers.add(threading.get_ident())
        time.sleep(0.01)
        into[:] = DATA[offset : offset + len(into)]

    def close(self) -> None: ...


@pytest.mark.parametrize("quick_bytes_per_s", [1.0, inf])
def test_others_join_where_large_chunks_are_waited_for(tmp_path: Path, quick_bytes_per_s: float) -> None:
    mirror, limits = Sleepy(), Limits(small_bytes=CHUNK - 1, quick_bytes_per_s=quick_bytes_per_s)
    fetch(manifest({"a": DATA}), [mirror], BlobStore(tmp_path), limits=limits)
    assert len(mirror.workers) <= limits.connections
    assert (len(mirror.workers) > limits.beginners) == (quick_bytes_per_s == inf)


def test_without_mirrors_there_is_nothing_to_ask(tmp_path: Path) -> None:
    with pytest.raises(TransferError, match="there is no mirror"):
        fetch(manifest({"a": DATA}), [], BlobStore(tmp_path))


def test_failures_at_the_same_time_count_once() -> None:
    class Silent:
        label = "silent"

        def read(self, file: File, offset: int, into: memoryview) -> None: ...

        def close(self) -> None: ...

    mirrors = Mirrors([Silent()], Limits(failures=3, backoff_s=1.0))
    mirror, file = mirrors.all[0], File("a", 1, "0" * 64)
    for _ in range(8):
        mirror.failed(SourceError("down"), file, began=1.0)
    assert mirror.failures == 1
    assert not mirror.dropped


@pytest.mark.longer
def test_a_hail_of_faults() -> None:
    """The seed is the first case's number, and a case that fails names its own."""
    tally = play_many(faults=examples(1_000), seed=seed(), kill_every=20)
    assert set(tally.kinds) >= {kind.value for kind in Kind}
    assert tally.bad_bytes == 0
    assert tally.lost_bytes <= 0.01 * tally.verified_bytes


LARGE = 512 << 10
PATIENT = replace(QUICK, connections=1, failures=3)


def cutting(after: int, until: float = inf) -> Callable[[Seen], Fault | None]:
    """Every answer ends after so many bytes; from the `until`-th request on, after none."""

    def plan(seen: Seen) -> Fault | None:
        first, last = seen.headers["range"].removeprefix("bytes=").split("-")
        length = int(last) - int(first) + 1
        return Fault(Kind.CUT, 0.0 if seen.number >= until else min(1.0, after / length)) if length > after else None

    return plan


@pytest.mark.parametrize("chunk_hash", [BLAKE3, SHA256])
def test_a_server_that_ends_every_answer_early_is_one_that_works(chunk_hash: str, tmp_path: Path) -> None:
    data = random.Random(3).randbytes(3 * LARGE + 7)
    with FaultServer({"a": data}, cutting(100_000)) as server:
        store, wanted = BlobStore(tmp_path), manifest({"a": data}, chunk_hash, LARGE)
        [source] = sources([server], PATIENCE)
        fetch(wanted, [source], store, limits=PATIENT)
        assert store.path(wanted.files[0].blob).read_bytes() == data
        assert server.sent <= len(data) + 100
        source.close()


@pytest.mark.parametrize("chunk_hash", [BLAKE3, SHA256])
def test_what_arrived_of_a_chunk_counts_in_the_next_attempt(chunk_hash: str, tmp_path: Path) -> None:
    data = random.Random(3).randbytes(3 * LARGE + 7)
    wanted = manifest({"a": data}, chunk_hash, LARGE)
    with FaultServer({"a": data}, cutting(100_000, until=3)) as server:
        [source] = sources([server], PATIENCE)
        with pytest.raises(TransferError, match="the body ended"):
            fetch(wanted, [source], BlobStore(tmp_path), limits=PATIENT)
        arrived = server.sent
        source.close()
    assert 100_000 <= arrived < LARGE
    with FaultServer({"a": data}) as server:
        [source] = sources([server], PATIENCE)
        store = BlobStore(tmp_path)
        fetch(wanted, [source], store, limits=PATIENT)
        assert server.sent == len(data) - arrived
        assert store.path(wanted.files[0].blob).read_bytes() == data
        source.close()


def test_what_arrived_of_a_wrong_chunk_accuses_nobody_later(tmp_path: Path) -> None:
    data = random.Random(3).randbytes(2 * LARGE)
    wanted = manifest({"a": data}, BLAKE3, LARGE)
    with FaultServer({"a": data[::-1]}, cutting(100_000, until=3)) as server:
        [source] = sources([server], PATIENCE)
        with pytest.raises(TransferError):
            fetch(wanted, [source], BlobStore(tmp_path), limits=PATIENT)
        source.close()
    with FaultServer({"a": data}) as server:
        [source] = sources([server], PATIENCE)
        fetch(wanted, [source], BlobStore(tmp_path), limits=replace(PATIENT, bad_chunks=1))
        assert BlobStore(tmp_path).path(wanted.files[0].blob).read_bytes() == data
        source.close()
