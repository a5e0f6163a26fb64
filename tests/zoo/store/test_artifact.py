"""Manifests: the older format stays what it was, the newer one names a file by its chunks, and both are strict."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.zoo.stocking import CHUNK, bare, make_file, older
from zoo.store.artifact import ArtifactError, File, Kind, Manifest, describe
from zoo.store.digests import BLAKE3, HASHERS, SHA256, chunk_bytes_of, tree

AB, C, ABC = (hashlib.sha256(data).hexdigest() for data in (b"ab", b"c", b"abc"))
OLD = (  # as genzoo wrote it before there were trees
    f'{{"created":"","files":[{{"bytes":3,"chunk_bytes":2,"chunks":["{AB}","{C}"],"path":"a","sha256":"{ABC}"}}],'
    '"format":"genzoo-artifact/1","kind":"checkpoint","licence":"mit","name":"toy","provenance":{},"restricted":false,'
    '"version":1}'
)

digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
lists = st.tuples(st.integers(0, 1 << 40), st.sampled_from([1 << k for k in range(27)]), st.lists(digests, max_size=5))


def manifest(*files: File) -> Manifest:
    return Manifest("toy", Kind.CHECKPOINT, 1, "mit", files)


def test_an_older_manifest_is_read_and_keeps_its_digest() -> None:
    found = Manifest.from_bytes(OLD.encode())
    (file,) = found.files
    assert (file.blob, file.is_tree) == (file.sha256, False)
    assert found.digest == hashlib.sha256(OLD.encode()).hexdigest()


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_what_a_file_is_is_written_and_read_alike(tmp_path: Path, size: int) -> None:
    file, data = make_file(tmp_path, size)
    assert file.sha256 == hashlib.sha256(data).hexdigest()
    assert file.is_tree == (size > CHUNK)
    hasher = HASHERS[BLAKE3 if file.is_tree else SHA256]
    pieces = [data[start : start + length] for start, length in map(file.chunk_range, range(file.chunk_count))]
    assert file.chunks == tuple(hasher(piece).hexdigest() for piece in pieces)
    for each in (file, older(file, data), bare(file)):
        written = manifest(each).to_bytes()
        assert Manifest.from_bytes(written).files == (each,)
        assert json.loads(written)["format"] == f"genzoo-artifact/{2 if each.is_tree else 1}"


@given(lists, lists)
def test_two_lists_have_two_trees_and_no_tree_is_the_digest_of_a_chunk(first: Any, second: Any) -> None:
    assert (tree(*first) == tree(*second)) == (first == second)
    head = b"%d bytes in chunks of %d\n" % first[:2] + bytes.fromhex("".join(first[2]))
    assert tree(*first)[:62] != HASHERS[BLAKE3](head).hexdigest()[:62]
    assert chunk_bytes_of(tree(*first), first[1]) == first[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chunk_hash": "md5"}, "3 chunks by 'md5'"),
        ({"chunk_hash": [BLAKE3]}, "3 chunks by"),
        ({"chunks": ()}, "0 chunks by 'blake3'"),
        ({"bytes": 1, "chunks": ("0" * 64,)}, "1 chunks by 'blake3'"),
        ({"chunks": ("0" * 64,) * 2}, "2 chunks of"),
        ({"chunk_bytes": CHUNK + 1}, "no power of 2"),
        ({"sha256": "0" * 63}, "none of 256 bits"),
    ],
)
def test_a_file_that_nothing_could_verify_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    file, _ = make_file(tmp_path, 3 * CHUNK)
    record = json.loads(manifest(file).to_bytes())
    record["files"][0] |= change
    with pytest.raises(ArtifactError, match=message):
        Manifest.from_bytes(json.dumps(record, sort_keys=True, separators=(",", ":")).encode())


def test_a_format_is_not_claimed(tmp_path: Path) -> None:
    file, data = make_file(tmp_path, 3 * CHUNK)
    new, old = manifest(file).to_bytes(), manifest(older(file, data)).to_bytes()
    for altered in (new.replace(b"artifact/2", b"artifact/1"), old.replace(b"artifact/1", b"artifact/2")):
        with pytest.raises(ArtifactError, match="canonical"):
            Manifest.from_bytes(altered)
    with pytest.raises(ArtifactError, match="a newer genzoo may read it"):
        Manifest.from_bytes(new.replace(b"artifact/2", b"artifact/3"))


def test_progress_hears_of_every_byte(tmp_path: Path) -> None:
    file, _ = make_file(tmp_path, 5 * CHUNK + 1)
    heard: list[int] = []
    assert describe(tmp_path / "source-model.safetensors-0", file.path, CHUNK, heard.append) == file
    assert sum(heard) == file.bytes


def test_an_altered_entry_has_another_name(tmp_path: Path) -> None:
    """The name comes from the list, wherever the entry came from: it is nowhere written, so nobody can claim it."""
    file, _ = make_file(tmp_path, 3 * CHUNK)
    assert "blob" not in json.loads(manifest(file).to_bytes())["files"][0]
    swapped = replace(file, chunks=(file.chunks[1], file.chunks[0], file.chunks[2]))
    assert len({file.blob, swapped.blob, file.sha256, replace(file, sha256="0" * 64).blob}) == 3
