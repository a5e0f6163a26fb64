"""Any order of receiving, breaking off, naming, collecting, damaging and verifying: what must hold, held by a model."""

from __future__ import annotations

import hashlib
import random
import tempfile
from contextlib import suppress
from dataclasses import replace
from itertools import product
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.examples import examples
from tests.servers.fault_run import entry as listed
from zoo.store.artifact import File, Kind, Manifest
from zoo.store.digests import BLAKE3, HASHERS, SHA256
from zoo.store.local import garbage, verification
from zoo.store.local.blobs import BlobStore, ChunkError, Ref, RollbackError

CHUNK = 64
CONTENTS = [random.Random(seed).randbytes(size) for seed, size in enumerate((0, 1, 63, 64, 65, 200, 640))]
contents = st.integers(0, len(CONTENTS) - 1)


hashes = st.sampled_from((BLAKE3, SHA256, ""))


def entry(index: int, chunk_hash: str = BLAKE3) -> File:
    return listed(f"file{index}", CONTENTS[index], CHUNK, chunk_hash)


def artifact(name: str, version: int, members: frozenset[int], chunk_hash: str) -> Manifest:
    files = tuple(entry(index, chunk_hash) for index in sorted(members))
    return Manifest(name, Kind.CHECKPOINT, version, "MIT", files)


def is_named(data: bytes, blob: str) -> bool:
    """Whether a name is one that these bytes may have: nothing else may ever have it."""
    return blob in (hashlib.sha256(data).hexdigest(), listed("any", data, CHUNK).blob)


class StoreMachine(RuleBasedStateMachine):
    """`refs`, `newest`: what was recorded; `damaged`: blobs whose bytes were altered behind the store's back."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = BlobStore(Path(self.folder.name))
        self.refs: dict[str, Manifest] = {}
        self.newest: dict[str, tuple[int, str]] = {}
        self.verified: dict[str, set[int]] = {}  # chunks that were acknowledged, of blobs that are not here
        self.damaged: set[str] = set()

    def teardown(self) -> None:
        self.folder.cleanup()

    @rule(index=contents, chunk_hash=hashes, upto=st.integers(0, 10), seed=st.integers(0, 99))
    def receive(self, index: int, chunk_hash: str, upto: int, seed: int) -> None:
        file, data = entry(index, chunk_hash), CONTENTS[index]
        was_here = self.store.has(file.blob)
        with suppress(ZeroDivisionError), self.store.receive(file) as partial:
            assert (partial is None) == was_here
            if partial is None:
                return
            if file.chunk_count > 1:
                assert partial.done == self._expected(file)
                self.verified[file.blob] = set(partial.done)
            missing = sorted(set(range(file.chunk_count)) - partial.done)
            random.Random(seed).shuffle(missing)
            for chunk in missing[:upto]:
                start, length = file.chunk_range(chunk)
                partial.write(chunk, data[start : start + length])
                self.verified.setdefault(file.blob, set()).add(chunk)
            if upto < len(missing):
                raise ZeroDivisionError
        if self.store.has(file.blob):
            self.verified.pop(file.blob, None)

    @rule(claimed=contents, index=contents, chunk_hash=hashes)
    def receive_by_a_lying_manifest(self, claimed: int, index: int, chunk_hash: str) -> None:
        """It has another file's sha256 over the chunks of this one, and a mirror sends what it lists."""
        lie, data = replace(entry(index, chunk_hash), sha256=entry(claimed).sha256), CONTENTS[index]
        was_here, named = self.store.has(lie.blob), is_named(data, lie.blob)
        if not named and (was_here or self.verified.get(lie.blob)):
            return  # the file whose name it wants is here, and is what it gets
        try:
            with self.store.receive(lie) as partial:
                for chunk in set(range(lie.chunk_count)) - (partial.done if partial else set(range(lie.chunk_count))):
                    start, length = lie.chunk_range(chunk)
                    partial.write(chunk, data[start : start + length]) if partial else None
        except ChunkError:
            assert not named
        else:
            assert named
            self.verified.pop(lie.blob, None)

    @rule(index=contents, chunk=st.integers(0, 9), flip=st.integers(0, 63))
    def receive_a_flipped_bit(self, index: int, chunk: int, flip: int) -> None:
        file = entry(index)
        if chunk >= file.chunk_count:
            return
        start, length = file.chunk_range(chunk)
        data = bytearray(CONTENTS[index][start : start + length])
        data[flip % length] ^= 1 << flip % 8
        with suppress(ChunkError), self.store.receive(file) as partial:
            if partial is not None:
                partial.write(chunk, data)
                raise AssertionError("a flipped bit was taken")

    @rule(index=contents)
    def add(self, index: int) -> None:
        self.store.add_bytes(CONTENTS[index])

    @rule(
        name=st.sampled_from(("a", "b")),
        version=st.integers(1, 3),
        members=st.frozensets(contents, max_size=3),
        chunk_hash=hashes,
    )
    def name(self, name: str, version: int, members: frozenset[int], chunk_hash: str) -> None:
        manifest = artifact(name, version, members, chunk_hash)
        for index in members:
            self.receive(index, chunk_hash, 10, 0)
        ref = Ref(name, self.store.add_bytes(manifest.to_bytes()), version)
        newest = self.newest.get(name, (0, ""))
        try:
            self.store.set_ref(ref)
        except RollbackError:
            assert newest > (version, "") and newest != (version, manifest.digest)  # noqa: PT018
        else:
            assert version > newest[0] or newest == (version, manifest.digest)
            self.newest[name] = (version, manifest.digest)
            self.refs[name] = manifest

    @rule(name=st.sampled_from(("a", "b")))
    def forget(self, name: str) -> None:
        self.store.remove_ref(name)
        self.refs.pop(name, None)

    @rule()
    def collect(self) -> None:
        if self._needed() & self._broken_manifests():
            return
        self._forget_needless_partials()
        garbage.collect(self.store, grace_s=-1)
        present = {path.name for path in (self.store.root / "blobs").glob("*/*")}
        assert present <= self._needed()
        self.damaged &= present

    @rule(name=st.sampled_from(("a", "b")), leased=st.booleans())
    def evict(self, name: str, leased: bool) -> None:
        manifest = self.refs.get(name)
        if manifest is None or self._broken_manifests():
            return
        self._forget_needless_partials()
        if leased:
            with self.store.lease([manifest.digest]):
                garbage.collect(self.store, max_bytes=0, grace_s=-1)
            assert self.store.ref(name) is not None
        else:
            garbage.collect(self.store, max_bytes=0, grace_s=-1)
        self.refs = {ref.name: self.refs[ref.name] for ref in self.store.refs()}
        assert all(self.store.has(digest) for digest in self._needed() - self.damaged)
        self.damaged &= {path.name for path in (self.store.root / "blobs").glob("*/*")}

    @rule(index=contents, chunk_hash=hashes)
    def damage(self, index: int, chunk_hash: str) -> None:
        digest = entry(index, chunk_hash).blob
        path = self._path(digest)
        if CONTENTS[index] and path.exists() and digest not in self.damaged:
            path.unlink()  # a view may share the inode
            path.write_bytes(bytes([CONTENTS[index][0] ^ 1]) + CONTENTS[index][1:])
            self.damaged.add(digest)

    @precondition(lambda self: self.damaged)
    @rule()
    def verify(self) -> None:
        found = verification.verify(self.store)
        assert {damage.expected for damage in found.damaged if damage.seen} == self.damaged
        for index, chunk_hash in product(range(len(CONTENTS)), (BLAKE3, SHA256)):
            blob = entry(index, chunk_hash).blob
            if blob in self.damaged:
                assert not self.store.has(blob)
                self.damaged.remove(blob)
                self.receive(index, chunk_hash, 10, 0)
        assert not self.damaged

    @rule(name=st.sampled_from(("a", "b")))
    def view(self, name: str) -> None:
        manifest = self.refs.get(name)
        if manifest is None or {file.blob for file in manifest.files} & self.damaged:
            return
        folder = self.store.view(manifest)
        for file in manifest.files:
            assert hashlib.sha256((folder / file.path).read_bytes()).hexdigest() == file.sha256

    @invariant()
    def every_blob_is_what_its_name_says(self) -> None:
        for path in (self.store.root / "blobs").glob("*/*"):
            assert is_named(path.read_bytes(), path.name) != (path.name in self.damaged)

    @invariant()
    def every_name_reaches_its_blobs(self) -> None:
        assert {ref.name: self.store.manifest(ref) for ref in self.store.refs()} == self.refs
        for digest in self._needed():
            assert self.store.path(digest).is_file()

    def _forget_needless_partials(self) -> None:
        """A collection removes what was left of a blob that came by another way."""
        self.verified = {blob: done for blob, done in self.verified.items() if not self._path(blob).exists()}

    def _expected(self, file: File) -> set[int]:
        """The chunks that need not come again: what was verified, and what is right in the blob of that sha256."""
        found, other = set(self.verified.get(file.blob, set())), self._path(file.sha256)
        if file.is_tree and other.exists():
            data = other.read_bytes()
            ranges = [file.chunk_range(index) for index in range(file.chunk_count)]
            pieces = [data[start : start + length] for start, length in ranges]
            found |= {i for i, piece in enumerate(pieces) if HASHERS[BLAKE3](piece).hexdigest() == file.chunks[i]}
        return found

    def _path(self, blob: str) -> Path:
        return self.store.root / "blobs" / blob[:2] / blob

    def _needed(self) -> set[str]:
        return {digest for m in self.refs.values() for digest in (m.digest, *(file.blob for file in m.files))}

    def _broken_manifests(self) -> set[str]:
        return {manifest.digest for manifest in self.refs.values()} & self.damaged


StoreMachine.TestCase.settings = settings(
    max_examples=examples(15),
    stateful_step_count=25,
    suppress_health_check=list(HealthCheck),
)
TestStore = StoreMachine.TestCase
