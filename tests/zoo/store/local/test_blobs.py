"""The local store, one process: what has its name is whole, what was verified survives, and names never go back."""

from __future__ import annotations

import random
import stat
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.zoo.stocking import CHUNK, bare, make_file, older, publish, put
from zoo.shelf import StoreError
from zoo.store.artifact import SIGNATURE, File, Kind, Manifest, describe
from zoo.store.digests import BLAKE3, HASHERS
from zoo.store.local import garbage, verification
from zoo.store.local.blobs import BlobStore, BusyError, ChunkError, Ref, RollbackError
from zoo.store.local.journal import RECORD_BYTES


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "store")


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK, 5 * CHUNK + 7])
@pytest.mark.parametrize("described", ["now", "by older manifests", "without chunks"])
def test_what_was_received_in_any_order_is_there_and_read_only(
    store: BlobStore, tmp_path: Path, size: int, described: str
) -> None:
    file, data = make_file(tmp_path, size)
    file = {"now": file, "by older manifests": older(file, data), "without chunks": bare(file)}[described]
    assert file.is_tree == (described == "now" and size > CHUNK)
    order = random.Random(size).sample(range(file.chunk_count), file.chunk_count)
    put(store, file, data, order)
    path = store.path(file.blob)
    assert path.read_bytes() == data
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert not list((store.root / "partial").iterdir())
    assert not list((store.root / "locks").iterdir())
    with store.receive(file) as again:
        assert again is None


def test_many_threads_write_one_blob(store: BlobStore, tmp_path: Path) -> None:
    file, data = make_file(tmp_path, 200 * CHUNK + 1)
    ranges = [file.chunk_range(index) for index in range(file.chunk_count)]
    with store.receive(file) as partial, ThreadPoolExecutor(8) as pool:
        assert partial is not None
        jobs = [
            pool.submit(partial.write, index, memoryview(data)[start : start + length])
            for index, (start, length) in list(enumerate(ranges)) * 2  # each of them twice, at the same time
        ]
        for job in jobs:
            job.result()
    assert store.path(file.blob).read_bytes() == data


def test_a_wrong_chunk_is_named_and_not_stored(store: BlobStore, tmp_path: Path) -> None:
    file, data = make_file(tmp_path, 3 * CHUNK)
    wrong = HASHERS[BLAKE3](bytes(CHUNK)).hexdigest()
    with pytest.raises(ChunkError, match=f"chunk 1 has digest {wrong[:12]}, expected {file.chunks[1][:12]}") as caught:  # noqa: PT012, SIM117
        with store.receive(file) as partial:
            assert partial is not None
            partial.write(0, data[:CHUNK])
            partial.write(1, bytes(CHUNK))
    assert caught.value.index == 1
    assert not store.has(file.blob)
    with store.receive(file) as partial:
        assert partial is not None
        assert partial.done == {0}
        with pytest.raises(ChunkError, match="65535 bytes, expected 65536"):
            partial.write(1, data[CHUNK : 2 * CHUNK - 1])
        with pytest.raises(ChunkError, match="there is no chunk 3"):
            partial.write(3, b"")
        for index in (1, 2):
            partial.write(index, data[index * CHUNK :][:CHUNK])
    assert store.path(file.blob).read_bytes() == data


@pytest.mark.parametrize("size", [CHUNK // 2, 3 * CHUNK])
def test_a_manifest_that_contradicts_itself_cannot_take_another_blob_s_name(
    store: BlobStore, tmp_path: Path, size: int
) -> None:
    victim, _ = make_file(tmp_path, size, seed=1)
    evil, data = make_file(tmp_path, size, seed=2)
    with pytest.raises(ChunkError, match="contradicts itself") as caught:
        put(store, replace(older(evil, data), sha256=victim.sha256), data)
    assert caught.value.index is None
    assert not store.has(victim.blob)
    assert not store.has(victim.sha256)
    assert not list((store.root / "partial").iterdir())


def test_a_claimed_sha256_gives_no_name(store: BlobStore, tmp_path: Path) -> None:
    victim, right = make_file(tmp_path, 3 * CHUNK, seed=1)
    evil, wrong = make_file(tmp_path, 3 * CHUNK, seed=2)
    put(store, replace(evil, sha256=victim.sha256), wrong)
    assert store.path(evil.blob).read_bytes() == wrong
    for wanted in (victim, bare(victim), older(victim, right)):
        assert not store.has(wanted.blob)
    put(store, bare(victim), right)
    put(store, victim, right)
    assert store.path(victim.blob).read_bytes() == store.path(victim.sha256).read_bytes() == right


def test_what_is_here_by_its_sha256_is_not_fetched_again_by_its_chunks(store: BlobStore, tmp_path: Path) -> None:
    file, data = make_file(tmp_path, 3 * CHUNK + 1)
    put(store, older(file, data), data)
    with store.receive(file) as partial:
        assert partial is not None
        assert partial.done == {0, 1, 2, 3}
    assert store.path(file.blob).read_bytes() == data
    lie = replace(make_file(tmp_path, 3 * CHUNK + 1, seed=2)[0], sha256=file.sha256)
    with pytest.raises(StoreError, match="4 chunks are missing"):
        put(store, lie, b"", [])


@pytest.mark.parametrize("size", [CHUNK // 2, 3 * CHUNK])
def test_without_chunk_digests_the_whole_decides_and_nothing_wrong_is_kept(
    store: BlobStore, tmp_path: Path, size: int
) -> None:
    file, data = make_file(tmp_path, size)
    file = bare(file)
    with pytest.raises(ChunkError, match="fetch it again"):
        put(store, file, data[:-1] + bytes([data[-1] ^ 1]))
    assert not store.has(file.blob)
    put(store, file, data)
    assert store.path(file.blob).read_bytes() == data


def test_leaving_early_keeps_every_verified_chunk(store: BlobStore, tmp_path: Path) -> None:
    file, data = make_file(tmp_path, 10 * CHUNK)
    with pytest.raises(StoreError, match="8 chunks are missing"):
        put(store, file, data, [7, 3])
    with store.receive(file) as partial:
        assert partial is not None
        assert partial.done == {3, 7}
        for index in set(range(10)) - partial.done:
            partial.write(index, data[index * CHUNK :][:CHUNK])
    assert store.path(file.blob).read_bytes() == data


def test_a_journal_that_is_torn_or_ahead_of_its_data_is_not_believed(store: BlobStore, tmp_path: Path) -> None:
    file, data = make_file(tmp_path, 6 * CHUNK)
    with pytest.raises(StoreError, match="2 chunks are missing"):
        put(store, file, data, [0, 1, 2, 3])
    (part,) = (store.root / "partial").iterdir()
    with part.open("r+b") as stream:
        stream.seek(2 * CHUNK)
        stream.write(bytes(CHUNK))  # a power cut kept the record, and lost the bytes
        stream.truncate(6 * CHUNK + 5 * RECORD_BYTES - 9)  # and tore the last record
    with store.receive(file) as partial:
        assert partial is not None
        assert partial.done == {0, 1}
        for index in range(2, 6):
            partial.write(index, data[index * CHUNK :][:CHUNK])
    assert store.path(file.blob).read_bytes() == data


def test_what_another_manifest_left_is_judged_by_this_one(store: BlobStore, tmp_path: Path) -> None:
    file, data = make_file(tmp_path, 4 * CHUNK)
    file = older(file, data)
    with pytest.raises(StoreError, match="missing"):
        put(store, bare(file), bytes(CHUNK) + data[CHUNK:], [0, 1])
    with store.receive(file) as partial:
        assert partial is not None
        assert partial.done == {1}
        for index in (0, 2, 3):
            partial.write(index, data[index * CHUNK :][:CHUNK])
    assert store.path(file.blob).read_bytes() == data


def test_other_chunks_begin_anew(store: BlobStore, tmp_path: Path) -> None:
    file, data = make_file(tmp_path, 4 * CHUNK)
    with pytest.raises(StoreError, match="missing"):
        put(store, bare(file), data, [0])
    other = bare(describe(tmp_path / "source-model.safetensors-0", file.path, CHUNK // 2))
    put(store, other, data)
    assert store.path(file.sha256).read_bytes() == data


def test_a_thread_does_not_wait_for_itself_and_others_may_give_up(store: BlobStore, tmp_path: Path) -> None:
    file, data = make_file(tmp_path, 2 * CHUNK)
    with store.receive(file) as partial:
        with pytest.raises(BusyError, match="this very thread"), store.receive(file):
            pass
        with ThreadPoolExecutor(1) as pool, pytest.raises(BusyError, match="another process"):
            pool.submit(lambda: store.receive(file, wait_s=0).__enter__()).result()
        assert partial is not None
        for index in range(2):
            partial.write(index, data[index * CHUNK :][:CHUNK])


def test_a_thread_that_waits_gets_what_another_fetched(store: BlobStore, tmp_path: Path) -> None:
    file, data = make_file(tmp_path, 2 * CHUNK)
    found: list[object] = []

    def wait() -> None:
        with store.receive(file) as partial:
            found.append(partial)

    waiter = threading.Thread(target=wait)
    with store.receive(file) as partial:
        waiter.start()
        assert partial is not None
        for index in range(2):
            partial.write(index, data[index * CHUNK :][:CHUNK])
    waiter.join()
    assert found == [None]


def test_a_chunk_that_comes_too_late_writes_nowhere(store: BlobStore, tmp_path: Path) -> None:
    file, data = make_file(tmp_path, 2 * CHUNK)
    with pytest.raises(ZeroDivisionError), store.receive(file) as partial:
        raise ZeroDivisionError
    assert partial is not None
    with pytest.raises(StoreError, match="comes too late"):
        partial.write(0, data[:CHUNK])


def test_files_are_added_by_their_bytes(store: BlobStore, tmp_path: Path) -> None:
    file, data = make_file(tmp_path, 3 * CHUNK + 1)
    added = store.add(tmp_path / "source-model.safetensors-0", "weights")
    assert (added.path, added.sha256, added.bytes) == ("weights", file.sha256, file.bytes)
    assert store.path(added.blob).read_bytes() == data
    assert store.add_bytes(data) == file.sha256
    assert store.path(file.sha256).read_bytes() == data
    assert not list((store.root / "partial").iterdir())
    with pytest.raises(StoreError, match="is not in"):
        store.path("0" * 64)
    with pytest.raises(StoreError, match="is no digest"):
        store.has("../../etc/passwd")


def test_a_version_never_goes_back_silently(store: BlobStore, tmp_path: Path) -> None:
    second = publish(store, tmp_path, version=2)
    old = Ref("toy", "0" * 64, 1)
    with pytest.raises(RollbackError, match="version 1, but version 2 was here"):
        store.set_ref(old)
    store.remove_ref("toy")
    assert store.ref("toy") is None
    with pytest.raises(RollbackError):
        store.set_ref(old)
    store.set_ref(old, allow_rollback=True)
    assert store.ref("toy") == old
    with pytest.raises(RollbackError):  # going back once does not open the door
        store.set_ref(old)
    with pytest.raises(RollbackError, match="a version never changes"):
        store.set_ref(Ref("toy", "1" * 64, 2))
    store.set_ref(Ref("toy", second.digest, 2))
    store.set_ref(Ref("toy", second.digest, 2, signer="someone"))
    assert [ref.signer for ref in store.refs()] == ["someone"]


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[]", b"[" * 100_000, b'{"name": "toy"}', b'{"name":"toy","manifest":"x","version":1}'],
)
def test_a_damaged_ref_is_named_with_its_cure(store: BlobStore, tmp_path: Path, damage: bytes) -> None:
    manifest = publish(store, tmp_path)
    (store.root / "refs" / "toy.json").write_bytes(damage)
    with pytest.raises(StoreError, match=r"refs/toy\.json is damaged.*genzoo pull toy"):
        store.ref("toy")
    with pytest.raises(StoreError, match="is damaged"):  # and nothing is removed while it is unknown what is needed
        garbage.collect(store, grace_s=0)
    assert verification.verify(store).faults
    store.set_ref(Ref("toy", manifest.digest, 1))
    assert store.manifest(next(store.refs())) == manifest


def test_names_stay_in_their_folder(store: BlobStore) -> None:
    for name in ("../evil", "a/b", "", "/etc/passwd", "A"):
        with pytest.raises(Exception, match="is no artifact's name"):
            store.set_ref(Ref(name, "0" * 64, 1))


def test_an_altered_manifest_is_refused(store: BlobStore, tmp_path: Path) -> None:
    manifest = publish(store, tmp_path)
    path = store.path(manifest.digest)
    path.chmod(0o644)
    path.write_bytes(manifest.to_bytes().replace(b"MIT", b"GPL"))
    ref = store.ref("toy")
    assert ref is not None
    with pytest.raises(StoreError, match="genzoo verify"):
        store.manifest(ref)


@pytest.mark.parametrize("kind", ["checkpoint", "bundle", "engine"])
def test_a_view_has_links_for_checkpoints_and_copies_for_runtimes(store: BlobStore, tmp_path: Path, kind: str) -> None:
    manifest = publish(store, tmp_path, kind=kind)
    folder = store.view(manifest)
    weights = folder / manifest.files[0].path
    assert weights.read_bytes() == store.path(manifest.files[0].blob).read_bytes()
    assert weights.stat().st_nlink == (2 if kind == "checkpoint" else 1)
    assert (folder / "genzoo.json").read_bytes() == manifest.to_bytes()
    assert {path.name for path in folder.parent.iterdir()} == {manifest.digest}
    weights.unlink()
    assert weights.read_bytes() if store.view(manifest) == folder else False
    weights.unlink()
    weights.symlink_to("/etc/passwd")
    store.view(manifest)
    assert not weights.is_symlink()


def test_a_view_shows_the_signature_once_it_is_known(store: BlobStore, tmp_path: Path) -> None:
    manifest = publish(store, tmp_path)
    assert not (store.view(manifest) / SIGNATURE).exists()
    store.set_ref(Ref("toy", manifest.digest, 1, signature=store.add_bytes(b"signed")))
    assert (store.view(manifest) / SIGNATURE).read_bytes() == b"signed"


def test_a_view_of_an_altered_or_missing_blob_is_not_made(store: BlobStore, tmp_path: Path) -> None:
    manifest = publish(store, tmp_path, kind="bundle")
    path = store.path(manifest.files[0].blob)
    path.chmod(0o644)
    path.write_bytes(bytes(manifest.files[0].bytes))
    with pytest.raises(StoreError, match="was altered"):
        store.view(manifest)
    path.unlink()
    with pytest.raises(StoreError, match="pull what it belongs to again"):
        store.view(manifest)
    assert not list((store.root / "views").iterdir())


@pytest.mark.parametrize("path", ["../x", "/x", "a/../../x", "a\\b", "genzoo.json/x"])
def test_a_view_takes_no_path_out_of_its_folder(store: BlobStore, path: str) -> None:
    with pytest.raises(StoreError, match="its publisher must mend it"):
        store.view(Manifest("toy", Kind.CHECKPOINT, 1, "MIT", (File(path, 1, store.add_bytes(b"x")),)))


@pytest.mark.parametrize("place", ["", "blobs", "partial", "locks", "leases", "refs", "views"])
@pytest.mark.parametrize("what", ["a file", "a link to nothing"])
def test_what_lies_in_a_folder_s_place_is_named(tmp_path: Path, place: str, what: str) -> None:
    path = tmp_path / "store" / place
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"") if what == "a file" else path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(StoreError, match=rf"{path} is (no folder|a link to nothing), where the store needs a folder"):
        BlobStore(tmp_path / "store")


def test_blobs_on_another_file_system_are_refused_before_a_byte_moves(store: BlobStore, tmp_path: Path) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this host has one file system")
    with tempfile.TemporaryDirectory(dir=other) as disk:
        store.root.mkdir(parents=True, exist_ok=True)
        (store.root / "blobs").symlink_to(disk)
        file, data = make_file(tmp_path, CHUNK)
        with pytest.raises(StoreError, match="on another file system than"), store.receive(file):
            raise AssertionError("it began")
        with pytest.raises(StoreError, match="let both be links"):
            store.add_bytes(data)
        assert not list(Path(disk).iterdir())
        (store.root / "partial").rmdir()
        (Path(disk) / "partial").mkdir()
        (store.root / "partial").symlink_to(Path(disk) / "partial")
        put(store, file, data)
        assert store.path(file.blob).read_bytes() == data
