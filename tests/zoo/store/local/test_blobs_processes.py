"""Many processes and one store: killed at every step, out of space at every write, taken over, and all at once."""

from __future__ import annotations

import errno
import itertools
import os
import random
import resource
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.examples import at_random, examples
from tests.zoo import processes
from tests.zoo.stocking import CHUNK, bare, make_file, publish, put
from zoo.shelf import StoreError
from zoo.store.artifact import File
from zoo.store.local import garbage, owner, verification
from zoo.store.local.blobs import BlobStore, BusyError, Ref
from zoo.store.local.owner import Owner

CHUNKS = 6


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "store")


def fetch(store: BlobStore, file: File, data: bytes, log: Path, pause_s: float = 0.0, deaths: int = 0) -> None:
    """Receive a file; `log` gets a line when it begins to write, and one for every chunk that was acknowledged.

    The first `deaths` writers are killed, each after five chunks.
    """
    descriptor = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
    with store.receive(file) as partial:
        if partial is None:
            return
        _write(descriptor, b"begin\n")
        for count, index in enumerate(sorted(set(range(file.chunk_count)) - partial.done), start=1):
            start, length = file.chunk_range(index)
            time.sleep(pause_s)
            partial.write(index, data[start : start + length])
            _write(descriptor, b"%d\n" % index)
            if count == 5 and log.read_text().count("begin") <= deaths:
                os.kill(os.getpid(), signal.SIGKILL)


_write = os.write  # the log is written whatever breaks


def broken(at: int, how: Callable[..., Any], job: Callable[[], object]) -> tuple[int, bool]:
    """Run a job in a child whose n-th call goes wrong: how it ended, and whether it came that far."""
    reader, writer = os.pipe()

    def child() -> None:
        breaker = processes.Breaker(at, how)
        breaker.install()
        job()
        _write(writer, b"x" if breaker.count < at else b"")

    code = processes.run(child)
    os.close(writer)
    reached = os.read(reader, 1) != b"x"
    os.close(reader)
    return code, reached


def check_whole(store: BlobStore, file: File, data: bytes) -> None:
    """What is visible under the final name is the file, read-only."""
    path = store.root / "blobs" / file.blob[:2] / file.blob
    if path.exists():
        assert path.read_bytes() == data


@pytest.mark.parametrize("digests", [True, False])
@pytest.mark.parametrize(
    ("how", "size"),
    [
        (processes.kill, CHUNK - 3),
        (processes.kill, CHUNKS * CHUNK - 3),
        (processes.kill_within, CHUNKS * CHUNK - 3),
        (processes.no_space, CHUNKS * CHUNK - 3),
    ],
)
def test_broken_at_every_step_nothing_wrong_is_seen_and_nothing_verified_is_lost(
    tmp_path: Path, how: Callable[..., Any], size: int, digests: bool
) -> None:
    file, data = make_file(tmp_path, size)
    file = file if digests else bare(file)
    for step in itertools.count(1):
        store, log = BlobStore(tmp_path / f"store{step}"), tmp_path / f"log{step}"
        code, reached = broken(step, how, lambda: fetch(store, file, data, log))  # noqa: B023
        check_whole(store, file, data)
        if not reached:
            assert code == 0
            break
        assert code in ((3, 0) if how is processes.no_space else (-signal.SIGKILL,))
        acknowledged = {int(line) for line in log.read_text().split() if line.isdecimal()} if log.exists() else set()
        assert not any((store.root / "blobs").rglob("*.*"))
        with store.receive(file, wait_s=20) as partial:  # the dead one's lock is nobody's
            if partial is not None:
                if file.chunk_count > 1:
                    assert partial.done >= acknowledged
                for index in set(range(file.chunk_count)) - partial.done:
                    start, length = file.chunk_range(index)
                    partial.write(index, data[start : start + length])
        assert store.path(file.blob).read_bytes() == data
        garbage.collect(store, grace_s=-1, dry_run=False) if step % 7 == 0 else None
    assert step > (8 if file.chunk_count == 1 else 8 + 2 * CHUNKS)


@pytest.mark.parametrize("how", [processes.kill, processes.kill_within, processes.no_space])
def test_a_ref_and_a_view_are_old_or_new_at_every_step(tmp_path: Path, how: Callable[..., Any]) -> None:
    store = BlobStore(tmp_path / "store")
    first, second = (publish(store, tmp_path, version=version, kind="bundle") for version in (1, 2))
    for step in itertools.count(1):
        store.set_ref(Ref("toy", first.digest, 1), allow_rollback=True)

        def update() -> None:
            store.set_ref(Ref("toy", second.digest, 2), allow_rollback=True)
            store.view(second)

        _, reached = broken(step, how, update)
        ref = store.ref("toy")
        assert ref is not None
        assert store.manifest(ref) in (first, second)
        for manifest in (first, second):
            folder = store.root / "views" / manifest.digest
            if folder.exists():
                weights = folder / manifest.files[0].path
                assert weights.read_bytes() == store.path(manifest.files[0].blob).read_bytes()
        if not reached:
            break
        assert (store.view(second) / "genzoo.json").read_bytes() == second.to_bytes()
        _forget_views(store)
    assert step > 12


def _forget_views(store: BlobStore) -> None:
    for folder in (store.root / "views").glob("[!.]*"):
        folder.rename(folder.with_name(".done"))
        for path in (folder.with_name(".done")).iterdir():
            path.unlink()
        folder.with_name(".done").rmdir()


@pytest.mark.parametrize("how", [processes.kill, processes.no_space])
def test_a_collection_broken_at_every_step_keeps_what_is_needed(tmp_path: Path, how: Callable[..., Any]) -> None:
    store = BlobStore(tmp_path / "store")
    kept = publish(store, tmp_path, name="kept")
    for step in itertools.count(1):
        publish(store, tmp_path, name="toy", version=step + 1)
        orphan = store.add_bytes(b"orphan %d" % step)
        _, reached = broken(step, how, lambda: garbage.collect(store, grace_s=-1))
        names = [ref.name for ref in store.refs()]
        assert names == ["kept", "toy"]
        for ref in store.refs():
            for file in store.manifest(ref).files:
                assert store.has(file.blob)
        assert not verification.verify(store).damaged
        garbage.collect(store, grace_s=-1)
        assert not store.has(orphan)
        if not reached:
            break
    assert step > 5
    assert store.has(kept.files[0].blob)


@pytest.mark.longer
def test_many_processes_fetch_one_blob_once(store: BlobStore, tmp_path: Path) -> None:
    file, data = make_file(tmp_path, 20 * CHUNK)
    log, count = tmp_path / "log", 64 if at_random else 16
    children = [processes.fork(lambda: fetch(store, file, data, log, 0.005)) for _ in range(count)]
    assert [processes.wait(child) for child in children] == [0] * count
    lines = log.read_text().split()
    assert lines.count("begin") == 1
    assert len(lines) == 1 + 20
    assert store.path(file.blob).read_bytes() == data


def test_whoever_is_killed_another_goes_on_with_what_there_is(store: BlobStore, tmp_path: Path) -> None:
    """Sixteen processes; the one that writes is killed, again and again."""
    file, data = make_file(tmp_path, 40 * CHUNK)
    log = tmp_path / "log"
    children = [processes.fork(lambda: fetch(store, file, data, log, 0.005, deaths=5)) for _ in range(16)]
    assert sorted(processes.wait(child) for child in children) == [-signal.SIGKILL] * 5 + [0] * 11
    chunks = [line for line in log.read_text().split() if line.isdecimal()]
    assert len(chunks) == len(set(chunks))  # none that was acknowledged was written again
    assert store.path(file.blob).read_bytes() == data


def test_a_lock_of_another_host_holds_while_it_beats(store: BlobStore, tmp_path: Path) -> None:
    file, data = make_file(tmp_path, 2 * CHUNK)
    lock = store.root / "locks" / f"{file.blob}.lock"
    lock.parent.mkdir(parents=True)
    for text, stale_s in ((str(Owner("anotherhost", 1, "1", "0" * 8)), 60), ("", 2), ("not a record \xff", 2)):
        lock.write_text(text)
        with pytest.raises(BusyError, match="wait for it"), store.receive(file, wait_s=0.05):
            pass
        os.utime(lock, (time.time() - stale_s - 1,) * 2)
        with suppress(ZeroDivisionError), store.receive(file, wait_s=0) as partial:
            assert partial is not None
            raise ZeroDivisionError
        assert not lock.exists()
    put(store, file, data)


def test_one_that_was_only_asleep_shares_no_file_with_its_successor(tmp_path: Path) -> None:
    """A writer of another host stops, is taken over, wakes up and finishes: two downloads, no wrong byte."""
    file, data = make_file(tmp_path, CHUNKS * CHUNK)
    file = bare(file)  # nothing but ownership would keep wrong bytes out
    store = BlobStore(tmp_path / "store", stale_s=0.3)
    log = tmp_path / "log"

    def elsewhere() -> None:
        owner._world = lambda: "anotherhost"  # type: ignore[assignment]
        with store.receive(file) as partial:
            assert partial is not None
            for index in range(CHUNKS):
                if index == 3:
                    log.write_text("asleep")
                    os.kill(os.getpid(), signal.SIGSTOP)
                partial.write(index, data[index * CHUNK :][:CHUNK])

    child = processes.fork(elsewhere)
    os.waitpid(child, os.WUNTRACED)
    assert log.read_text() == "asleep"
    (theirs,) = (store.root / "partial").iterdir()
    inode = theirs.stat().st_ino
    with store.receive(file) as partial:
        assert partial is not None
        assert partial.done == {0, 1, 2}
        assert partial.path.stat().st_ino != inode
        os.kill(child, signal.SIGCONT)
        assert processes.wait(child) == 0
        assert store.path(file.blob).read_bytes() == data
        for index in range(3, CHUNKS):
            partial.write(index, data[index * CHUNK :][:CHUNK])
    assert store.path(file.blob).read_bytes() == data


@pytest.mark.longer
def test_takers_of_one_dead_lock_do_not_all_get_it(store: BlobStore, tmp_path: Path) -> None:
    file, data = make_file(tmp_path, 3 * CHUNK)
    log = tmp_path / "log"
    for number in range(examples(3)):
        dead = processes.fork(lambda: None)
        processes.wait(dead)
        fresh = BlobStore(tmp_path / f"store{number}")
        lock = fresh.root / "locks" / f"{file.blob}.lock"
        lock.parent.mkdir(parents=True)
        lock.write_text(str(Owner(Owner.new().world, dead, "1", "0" * 8)))
        children = [processes.fork(lambda: fetch(fresh, file, data, log, 0.003)) for _ in range(12)]  # noqa: B023
        assert [processes.wait(child) for child in children] == [0] * 12
        assert fresh.path(file.blob).read_bytes() == data
    assert log.read_text().count("begin") == examples(3)


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that another user can reach, unlike pytest's."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_read_only_store_is_read(public_folder: Path) -> None:
    store = BlobStore(public_folder / "store")
    manifest = publish(store, public_folder)
    store.view(manifest)
    digest = manifest.files[0].blob
    for path in [store.root, *store.root.rglob("*")]:
        os.utime(path, (0, 0))
        path.chmod(0o555 if path.is_dir() else 0o444)

    def read() -> None:
        if os.getuid() == 0:  # whom modes do not stop
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        reader = BlobStore(store.root)
        ref = reader.ref("toy")
        assert ref is not None
        assert reader.manifest(ref) == manifest
        with reader.lease([digest]), reader.receive(manifest.files[0]) as partial:
            assert partial is None
            assert reader.path(digest).read_bytes() == (reader.view(manifest) / "model.safetensors").read_bytes()
        assert not verification.verify(reader).damaged
        for refused in (lambda: reader.add_bytes(b"new"), lambda: reader.set_ref(Ref("toy", "0" * 64, 2))):
            with pytest.raises(OSError) as caught:  # noqa: PT011
                refused()
            assert caught.value.errno in (errno.EACCES, errno.EROFS)

    try:
        assert processes.run(read) == 0
    finally:
        for path in [store.root, *(path for path in store.root.rglob("*") if path.is_dir())]:
            path.chmod(0o755)


def test_no_room_is_known_before_the_first_byte(store: BlobStore, tmp_path: Path) -> None:
    """The kernel refuses to make a file that large: the room is asked for before anything is fetched."""
    file = File("model.safetensors", 64 << 20, "0" * 64)

    def receive() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (16 << 20, 16 << 20))
        with pytest.raises(OSError, match="File too large"), store.receive(file):
            raise AssertionError("it began")

    assert processes.run(receive) == 0
    assert not list((store.root / "partial").iterdir())
    assert not list((store.root / "locks").iterdir())


def test_reads_during_collections_of_another_process_get_all_or_a_sentence(store: BlobStore) -> None:
    data = random.Random(0).randbytes(CHUNK)
    digest = store.add_bytes(data)

    def collect() -> None:
        while True:
            with suppress(BusyError):
                garbage.collect(store, grace_s=-1, wait_s=0)
            store.add_bytes(data)

    collectors = [processes.fork(collect) for _ in range(2)]
    try:
        whole = 0
        for _ in range(2000):
            with suppress(StoreError, FileNotFoundError):
                assert store.path(digest).read_bytes() == data
                whole += 1
        store.add_bytes(data)
        with store.lease([digest]):
            for _ in range(500):
                with suppress(StoreError):  # it may have gone just before the lease
                    store.path(digest)
                    break
                store.add_bytes(data)
            for _ in range(500):
                assert store.path(digest).read_bytes() == data
    finally:
        for collector in collectors:
            os.kill(collector, signal.SIGKILL)
            processes.wait(collector)
    assert whole
