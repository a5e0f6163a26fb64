"""What the store forgets, and what it finds when it reads itself again: `collect`, `verify`, and their commands."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.zoo.stocking import CHUNK, age, make_file, publish, put
from zoo import shelf as zoo_store
from zoo.exchange.commands.maintenance import QuantityError, app, parse_age, parse_size
from zoo.files import HOME_VARIABLE
from zoo.registry import UnknownNameError
from zoo.shelf import StoreError
from zoo.store.local import garbage, verification
from zoo.store.local.blobs import BlobStore, BusyError
from zoo.store.local.owner import Owner

DAY = 86400.0


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "store")


def touch(store: BlobStore, digest: str, days: float) -> None:
    then = time.time() - days * DAY
    os.utime(store.root / "blobs" / digest[:2] / digest, (then, then))


def alter(store: BlobStore, digest: str) -> None:
    path = store.root / "blobs" / digest[:2] / digest
    path.chmod(0o644)
    with path.open("r+b") as file:
        byte = file.read(1)
        file.seek(0)
        file.write(bytes([byte[0] ^ 1]))


def test_what_no_name_needs_goes_once_it_is_not_young(store: BlobStore, tmp_path: Path) -> None:
    kept = publish(store, tmp_path)
    orphan = store.add_bytes(b"nobody needs it")
    assert not garbage.collect(store).blobs  # a ref for it may be about to be recorded
    age(store, 2 * 3600)
    planned = garbage.collect(store, dry_run=True)
    assert planned.blobs == (orphan,)
    assert garbage.collect(store).bytes == planned.bytes == len(b"nobody needs it")
    assert not (store.root / "blobs" / orphan[:2] / orphan).exists()
    assert store.has(kept.files[0].blob)
    assert not list((store.root / "trash").iterdir())


def test_asking_for_a_blob_makes_it_young(store: BlobStore) -> None:
    orphan = store.add_bytes(b"wanted")
    age(store, 2 * 3600)
    assert store.has(orphan)
    assert not garbage.collect(store).blobs


def test_an_older_version_goes_and_what_both_share_stays(store: BlobStore, tmp_path: Path) -> None:
    first = publish(store, tmp_path, version=1)
    store.view(first)
    second = publish(store, tmp_path, version=2)
    found = garbage.collect(store, grace_s=-1)
    assert set(found.blobs) == {first.digest, first.files[0].blob}
    assert found.views == (first.digest,)
    assert store.view(second).is_dir()


def test_the_size_limit_takes_what_was_used_longest_ago(store: BlobStore, tmp_path: Path) -> None:
    manifests = [publish(store, tmp_path, name=f"toy{version}", version=version) for version in (1, 2, 3)]
    age(store, 9 * DAY)
    for manifest, days in zip(manifests, (2, 3, 1), strict=True):
        touch(store, manifest.digest, days)
    each = manifests[0].size + len(manifests[0].to_bytes())
    found = garbage.collect(store, max_bytes=2 * each + 100)
    assert found.refs == ("toy2",)
    assert found.kept_bytes <= 2 * each + 100
    assert garbage.collect(store, max_bytes=0, dry_run=True).refs == ("toy1", "toy3")
    store.view(manifests[0])  # using it makes it the youngest
    assert garbage.collect(store, max_bytes=each + 2000).refs == ("toy3",)
    assert [ref.name for ref in store.refs()] == ["toy1"]


def test_the_age_limit_takes_what_was_not_used(store: BlobStore, tmp_path: Path) -> None:
    old, new = (publish(store, tmp_path, name=f"toy{version}", version=version) for version in (1, 2))
    age(store, 40 * DAY)
    touch(store, new.digest, 10)
    assert garbage.collect(store, max_age_s=30 * DAY).refs == ("toy1",)
    assert not store.has(old.files[0].blob)
    assert store.has(new.files[0].blob)


def test_what_is_leased_stays_until_the_lease_ends(store: BlobStore, tmp_path: Path) -> None:
    manifest = publish(store, tmp_path)
    digest = manifest.files[0].blob
    store.view(manifest)
    age(store, 9 * DAY)
    with store.lease([digest]):
        found = garbage.collect(store, max_bytes=0, max_age_s=0)
        assert (found.refs, found.kept_leased) == ((), 1)
        store.remove_ref("toy")
        assert digest not in garbage.collect(store).blobs
        assert (store.root / "views" / manifest.digest).is_dir()
    assert garbage.collect(store, grace_s=-1).views == (manifest.digest,)
    assert not store.has(digest)
    assert not list((store.root / "leases").iterdir())


def test_a_lease_and_a_lock_of_a_dead_process_hold_nothing(store: BlobStore, tmp_path: Path) -> None:
    digest = store.add_bytes(b"once in use")
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    dead = Owner(Owner.new().world, child, "1", "0" * 8)
    for folder, name, text in (("leases", f"{dead}.lease", digest), ("locks", f"{digest}.lock", str(dead))):
        (store.root / folder).mkdir(exist_ok=True)
        (store.root / folder / name).write_text(text)
    assert garbage.collect(store, grace_s=-1).blobs == (digest,)
    assert not list((store.root / "leases").iterdir())
    assert not list((store.root / "locks").iterdir())


def test_an_interrupted_download_is_kept_for_a_week(store: BlobStore, tmp_path: Path) -> None:
    file, data = make_file(tmp_path, 4 * CHUNK)
    with pytest.raises(StoreError, match="missing"):
        put(store, file, data, [0])
    assert not garbage.collect(store, grace_s=-1).partials
    age(store, 8 * DAY)
    found = garbage.collect(store)
    assert len(found.partials) == 1
    assert found.bytes >= 4 * CHUNK
    assert not list((store.root / "partial").iterdir())


def test_a_killed_collection_loses_nothing(store: BlobStore, tmp_path: Path) -> None:
    manifest = publish(store, tmp_path)
    digest = manifest.files[0].blob
    trash = store.root / "trash"
    trash.mkdir()
    path = store.path(digest)
    path.rename(trash / digest)
    assert store.has(digest)  # whoever asks takes it back
    path.rename(trash / digest)
    garbage.collect(store)
    assert path.is_file()


def test_one_collection_at_a_time(store: BlobStore) -> None:
    store.add_bytes(b"x")
    (store.root / "locks").mkdir()
    (store.root / "locks" / "gc.lock").write_text(str(Owner.new()))
    with pytest.raises(BusyError, match="another process is collecting garbage"):
        garbage.collect(BlobStore(store.root), wait_s=0.05)


def test_a_reader_during_collections_gets_all_or_a_sentence(store: BlobStore) -> None:
    """One thread removes and publishes the blob over and over, the others read it."""
    data = random.Random(0).randbytes(CHUNK)
    digest = store.add_bytes(data)
    outcomes = {"whole": 0, "gone": 0}
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            try:
                found = store.path(digest).read_bytes()
            except (StoreError, FileNotFoundError):
                outcomes["gone"] += 1
            else:
                assert found == data
                outcomes["whole"] += 1

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(30):
            garbage.collect(store, grace_s=-1)
            store.add_bytes(data)
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert outcomes["whole"]


def test_verify_finds_sets_aside_and_says_what_to_do(store: BlobStore, tmp_path: Path) -> None:
    publish(store, tmp_path, name="whole", version=2)
    manifest = publish(store, tmp_path, name="toy.bundle.fp32", kind="bundle")
    digest = manifest.files[0].blob
    store.view(manifest)
    read: list[int] = []
    assert verification.verify(store, progress=read.append).damaged == ()
    assert sum(read) >= 3 * manifest.size
    alter(store, digest)
    (damage,) = verification.verify(store).damaged
    assert "`genzoo pull toy --bundle --variant fp32` fetches it again" in damage.sentence
    assert Path(damage.moved_to).parent == store.root / "quarantine"
    assert not store.has(digest)
    (damage,) = verification.verify(store, ["toy.bundle.fp32"]).damaged
    assert "is missing" in damage.sentence
    put(store, *make_file(tmp_path, 3 * CHUNK + 5, seed=1))
    assert verification.verify(store).damaged == ()
    with pytest.raises(StoreError, match="genzoo pull nothing"):
        verification.verify(store, ["nothing"])


def test_verify_removes_a_damaged_view_which_is_made_again(store: BlobStore, tmp_path: Path) -> None:
    manifest = publish(store, tmp_path, kind="engine")
    weights = store.view(manifest) / manifest.files[0].path
    weights.chmod(0o644)
    weights.write_bytes(bytes(manifest.files[0].bytes))
    (damage,) = verification.verify(store).damaged
    assert damage.path == str(weights)
    assert not weights.exists()
    store.view(manifest)
    assert not verification.verify(store).damaged


def test_a_missing_manifest_is_reported_with_its_name(store: BlobStore, tmp_path: Path) -> None:
    manifest = publish(store, tmp_path)
    alter(store, manifest.digest)
    found = verification.verify(store)
    assert [damage.names for damage in found.damaged] == [("toy",)]
    assert found.faults
    with pytest.raises(StoreError, match="pull"):
        garbage.collect(store)


def run(*words: str) -> tuple[int, str]:
    found = CliRunner().invoke(app, list(words), catch_exceptions=False)
    return found.exit_code, found.stdout


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    store = zoo_store.blob_store()
    manifest = publish(store, tmp_path)
    code, text = run("verify")
    assert code == 0
    assert "all of them are what they should be" in text
    code, text = run("verify", "--json")
    record = json.loads(text)
    assert record["healthy"]
    assert record["blobs"] == 2
    assert record["checkpoints"]["gan"] is None
    assert json.loads(run("verify", "gan", "--json")[1])["blobs"] == 0
    alter(store, manifest.files[0].blob)
    code, text = run("verify", "toy")
    assert code == 1
    assert "genzoo pull toy" in text
    with pytest.raises(UnknownNameError, match="unknown checkpoint 'toi': did you mean toy"):
        run("verify", "toi", "--json")
    code, text = run("gc", "--max-size", "100 B", "--dry-run")
    assert code == 0
    assert "1 names" in text
    record = json.loads(run("gc", "--max-size", "100", "--max-age", "30d", "--json")[1])
    assert record["refs"] == ["toy"]
    assert run("gc")[0] == 0


def test_sizes_and_ages() -> None:
    assert [parse_size(text) for text in ("10GB", "1 KiB", "5", "1.5m", "0")] == [10**10, 1024, 5, 1_500_000, 0]
    assert [parse_age(text) for text in ("30d", "12 h", "2w")] == [30 * DAY, DAY / 2, 14 * DAY]
    for text in ("", "many", "-1GB", "1 parsec"):
        with pytest.raises(QuantityError, match="is no size"):
            parse_size(text)
        with pytest.raises(QuantityError, match="is no age"):
            parse_age(text)


def test_a_name_that_was_recorded_anew_meanwhile_is_not_forgotten(store: BlobStore, tmp_path: Path) -> None:
    publish(store, tmp_path, version=1)
    planned = store.ref("toy")
    publish(store, tmp_path, version=2)
    assert not store.remove_ref("toy", only=planned)
    now = store.ref("toy")
    assert now is not None
    assert now.version == 2
    assert store.remove_ref("toy", only=now)


def test_what_was_set_aside_goes_after_a_week(store: BlobStore, tmp_path: Path) -> None:
    alter(store, publish(store, tmp_path).files[0].blob)
    (damage,) = verification.verify(store).damaged
    garbage.collect(store)
    assert Path(damage.moved_to).exists()
    age(store, 8 * DAY)
    garbage.collect(store)
    assert not Path(damage.moved_to).exists()
