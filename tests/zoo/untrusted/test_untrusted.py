"""Files from outside: what is sound is read, what is crafted is refused with one sentence and in little memory."""

from __future__ import annotations

import json
import os
import pickle
import struct
import tarfile
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from tests.examples import examples
from zoo.untrusted import (
    MAX_HEADER_BYTES,
    MAX_TENSORS,
    PART,
    UntrustedError,
    check_finite,
    check_safetensors,
    parse_json,
    read_json,
    refuse_pickle,
)

Entry = dict[str, Any]


def entry(start: int, end: int, shape: list[Any] | None = None, dtype: str = "F32") -> Entry:
    return {"dtype": dtype, "shape": [(end - start) // 4] if shape is None else shape, "data_offsets": [start, end]}


def write(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def test_what_safetensors_writes_is_read_as_it_lies(tmp_path: Path) -> None:
    tensors = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.zeros((0, 4), np.float16),
        "scalar": np.array(7, np.int64),
        "flags": np.array([True, False]),
    }
    save_file(tensors, tmp_path / "x.safetensors", metadata={"format": "np"})
    found = check_safetensors(tmp_path / "x.safetensors")
    assert {name: info.shape for name, info in found.items()} == {name: t.shape for name, t in tensors.items()}
    data = (tmp_path / "x.safetensors").read_bytes()
    for name, info in found.items():
        assert data[info.start : info.start + info.bytes] == tensors[name].tobytes()


BAD_HEADERS: dict[str, tuple[Any, int, str]] = {
    "overlap": ({"a": entry(0, 8), "b": entry(4, 12)}, 12, "overlaps"),
    "the same bytes twice": ({"a": entry(0, 8), "b": entry(0, 8)}, 8, "overlaps"),
    "gap": ({"a": entry(0, 4), "b": entry(8, 12)}, 12, "gap"),
    "gap at the start": ({"a": entry(4, 8)}, 8, "gap"),
    "bytes after the end": ({"a": entry(0, 4)}, 8, "after its last"),
    "beyond the file": ({"a": entry(0, 4000)}, 8, "truncated"),
    "backwards": ({"a": {"dtype": "F32", "shape": [0], "data_offsets": [4, 0]}}, 4, "data_offsets"),
    "negative offset": ({"a": entry(-4, 0, [1])}, 4, "data_offsets"),
    "offset of 2**64": ({"a": entry(2**64, 2**64 + 4, [1])}, 4, "data_offsets"),
    "float offset": ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4.0]}}, 4, "data_offsets"),
    "boolean offset": ({"a": {"dtype": "U8", "shape": [1], "data_offsets": [False, True]}}, 1, "data_offsets"),
    "three offsets": ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 4]}}, 4, "data_offsets"),
    "shape of more bytes": ({"a": entry(0, 4, [2])}, 4, "needs 8"),
    "negative shape": ({"a": entry(0, 4, [-1, -1])}, 4, "natural"),
    "product that wraps to 4 in 64 bits": ({"a": entry(0, 4, [2**32, 2**32, 1])}, 4, "overflows"),
    "product that overflows before a 0": ({"a": entry(0, 0, [2**49, 2**49, 0])}, 0, "overflows"),
    "33 axes": ({"a": entry(0, 4, [1] * 33)}, 4, "natural"),
    "unknown type": ({"a": entry(0, 4, [1], "F33")}, 4, "F33"),
    "type that is a list": ({"a": entry(0, 4, [1], ["F32"])}, 4, "type"),  # type: ignore[arg-type]
    "no type": ({"a": {"shape": [1], "data_offsets": [0, 4]}}, 4, "exactly"),
    "a key more": ({"a": {**entry(0, 4), "device": "cuda"}}, 4, "exactly"),
    "entry that is a list": ({"a": [0, 4]}, 4, "exactly"),
    "metadata that nests": ({"__metadata__": {"a": {}}}, 0, "__metadata__"),
    "a list": (b"[]", 0, "JSON object"),
    "no JSON": (b"{'a': 1}", 0, "JSON"),
    "no text": (b"{\xff\xfe}", 0, "JSON"),
    "a key twice": (b'{"a": {"dtype":"U8","shape":[0],"data_offsets":[0,0]}, "a": 1}', 0, "twice"),
    "deep nesting": (b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}", 0, "JSON"),
    "a number of 100,000 digits": (b'{"a":' + b"9" * 100_000 + b"}", 0, "JSON"),
    "infinity": (b'{"a": Infinity}', 0, "JSON"),
}


@pytest.mark.parametrize("attack", BAD_HEADERS)
def test_a_crafted_header_is_refused(attack: str, tmp_path: Path) -> None:
    header, size, message = BAD_HEADERS[attack]
    with pytest.raises(UntrustedError, match=message):
        check_safetensors(write(tmp_path / "x.safetensors", header, bytes(size)))


@pytest.mark.parametrize("length", [MAX_HEADER_BYTES + 1, 2**63 - 1, 2**64 - 1])
def test_a_claimed_length_allocates_nothing(length: int, tmp_path: Path) -> None:
    path = write(tmp_path / "x.safetensors", b"{}", length=length)
    tracemalloc.start()
    try:
        with pytest.raises(UntrustedError, match="at most"):
            check_safetensors(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_header_may_have_one_mebibyte_and_not_a_byte_more(tmp_path: Path) -> None:
    padded = b"{}".ljust(MAX_HEADER_BYTES)
    assert check_safetensors(write(tmp_path / "x.safetensors", padded)) == {}
    with pytest.raises(UntrustedError, match="at most"):
        check_safetensors(write(tmp_path / "y.safetensors", padded + b" "))


def test_so_many_tensors_and_not_one_more(tmp_path: Path) -> None:
    def many(count: int) -> bytes:
        return json.dumps({f"{i}": entry(0, 0, dtype="U8") for i in range(count)}, separators=(",", ":")).encode()

    short = many(MAX_TENSORS).replace(b'"dtype":"U8","shape":[0],"data_offsets":[0,0]', b"")
    path = write(tmp_path / "x.safetensors", short + b"")
    with pytest.raises(UntrustedError, match="exactly"):  # 20,000 empty entries fit the header: read, and then refused
        check_safetensors(path)
    path = write(tmp_path / "y.safetensors", short[:-1] + b',"more":{}}')
    with pytest.raises(UntrustedError, match=str(MAX_TENSORS + 1)):
        check_safetensors(path)


@pytest.mark.parametrize(
    ("dtype", "value", "bits"),
    [
        ("F32", 1.5, None),
        ("F32", np.nan, None),
        ("F16", -np.inf, None),
        ("F64", np.nan, None),
        ("BF16", None, 0x3FC0),
        ("BF16", None, 0xFFC0),
        ("I16", None, 0x7FC0),
    ],
)
def test_values_that_are_no_numbers_are_found(dtype: str, value: float, bits: int, tmp_path: Path) -> None:
    """In the last place, of more values than are looked at together."""
    kind = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "<u2", "I16": "<u2"}[dtype]
    values = np.ones(PART + 3, kind)
    values[-1] = value if bits is None else bits
    entry = {"dtype": dtype, "shape": [len(values)], "data_offsets": [0, values.nbytes]}
    header = json.dumps({"w": entry}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + values.tobytes())
    if value == 1.5 or bits in (0x3FC0, 0x7FC0):
        check_finite(path)
    else:
        with pytest.raises(UntrustedError, match=r"has values in w that are no numbers"):
            check_finite(path)


def test_a_truncated_file_is_refused_at_every_length(tmp_path: Path) -> None:
    save_file({"a": np.arange(3, dtype=np.float32)}, tmp_path / "x.safetensors")
    whole = (tmp_path / "x.safetensors").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "y.safetensors").write_bytes(whole[:length])
        with pytest.raises(UntrustedError):
            check_safetensors(tmp_path / "y.safetensors")


def test_links_folders_and_pipes_are_not_files(tmp_path: Path) -> None:
    save_file({"a": np.zeros(1, np.float32)}, tmp_path / "x.safetensors")
    (tmp_path / "link").symlink_to(tmp_path / "x.safetensors")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", ".", "not there"):
        with pytest.raises(UntrustedError, match="plain file"):
            check_safetensors(tmp_path / name)


VALID = {"w": entry(0, 24, [2, 3]), "b": entry(24, 28), "__metadata__": {"format": "pt"}}


@settings(max_examples=examples(400))
@given(st.data())
def test_any_mutation_is_refused_or_harmless(data: st.DataObject) -> None:
    """Bytes changed, inserted or removed anywhere: an UntrustedError, or a file that the library reads alike."""
    text = json.dumps(VALID).encode()
    whole = bytearray(struct.pack("<Q", len(text)) + text + bytes(range(28)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        kind = data.draw(st.sampled_from(["set", "insert", "remove"]))
        byte = data.draw(st.one_of(st.integers(0, 255), st.sampled_from(b'0123456789-{}[],:"eE.')))
        if kind == "set":
            whole[at] = byte
        elif kind == "insert":
            whole.insert(at, byte)
        else:
            del whole[at]
    _refused_or_read_alike(bytes(whole))


LEAF = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from(["F32", "U8", "a"])
JSON: st.SearchStrategy[Any] = st.deferred(
    lambda: LEAF | st.lists(JSON, max_size=2) | st.dictionaries(st.sampled_from(["dtype", "shape", "x"]), JSON)
)
TENSOR = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "U8", "I64"]) | JSON,
        "shape": st.lists(st.integers(0, 5) | st.integers(-(2**70), 2**70), max_size=3) | JSON,
        "data_offsets": st.lists(st.integers(0, 64), min_size=2, max_size=2) | JSON,
    }
)


@settings(max_examples=examples(400))
@given(st.dictionaries(st.text(max_size=3), TENSOR | JSON, max_size=4), st.integers(0, 64))
def test_any_header_is_refused_or_harmless(header: dict[str, Any], size: int) -> None:
    text = json.dumps(header).encode()
    _refused_or_read_alike(struct.pack("<Q", len(text)) + text + bytes(size))


def _refused_or_read_alike(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.safetensors"
        path.write_bytes(content)
        tracemalloc.start()
        try:
            found = check_safetensors(path)
        except UntrustedError:
            return
        finally:
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
            tracemalloc.stop()
        if any(info.dtype in ("BF16", "F8_E4M3", "F8_E5M2") for info in found.values()):
            return  # NumPy has none of these
        tensors = load_file(path)
        assert {name: info.shape for name, info in found.items()} == {k: t.shape for k, t in tensors.items()}
        for name, info in found.items():
            assert content[info.start : info.start + info.bytes] == tensors[name].tobytes()


def torch_save(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"w": 1}))


def savez(path: Path) -> None:
    with path.open("wb") as stream:
        np.savez(stream, a=np.zeros(2))


def tar(path: Path) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        archive.add(__file__, "pickle")


PICKLES: dict[str, Callable[[Path], Any]] = {
    "torch.save": torch_save,
    "protocol 2": lambda path: path.write_bytes(pickle.dumps({"w": [1]}, protocol=2)),
    "protocol 5": lambda path: path.write_bytes(pickle.dumps({"w": [1]}, protocol=5)),
    "protocol 0": lambda path: path.write_bytes(pickle.dumps({"w": [1]}, protocol=0)),
    "objects in an array": lambda path: path.write_bytes(b"\x93NUMPY\x01\x00v\x00{'descr': '|O', "),
    "arrays in an archive": savez,
    "tar": tar,
    "gzip": lambda path: path.write_bytes(b"\x1f\x8b\x08" + bytes(64)),
}


@pytest.mark.parametrize("kind", PICKLES)
def test_a_pickle_is_refused_whatever_it_is_called(kind: str, tmp_path: Path) -> None:
    for name in ("model.safetensors", "model.onnx", "model"):
        PICKLES[kind](tmp_path / name)
        with pytest.raises(UntrustedError, match=r"safetensors\.torch\.save_file"):
            refuse_pickle(tmp_path / name)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin", ".joblib", ".PT"])
def test_what_is_named_like_a_pickle_is_refused_unless_it_is_safetensors(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"anything")
    with pytest.raises(UntrustedError, match="weights_only=True"):
        refuse_pickle(path)
    save_file({"a": np.zeros(1, np.float32)}, path)
    refuse_pickle(path)


def test_a_safetensors_header_whose_length_looks_like_a_pickle_is_none(tmp_path: Path) -> None:
    """A header of 0x280 bytes begins with the opcode PROTO 2."""
    path = write(tmp_path / "x.safetensors", b"{}".ljust(0x280))
    assert path.read_bytes()[:2] == b"\x80\x02"
    refuse_pickle(path)


def test_a_pointer_of_git_lfs_is_called_one(tmp_path: Path) -> None:
    from zoo.untrusted.onnx import check_onnx

    path = tmp_path / "model.safetensors"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 99\n")
    for check in (check_safetensors, refuse_pickle, read_json, check_onnx):
        with pytest.raises(UntrustedError, match=r"model\.safetensors is a Git LFS pointer .*`git lfs pull`"):
            check(path)


def test_json_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"a": 1}')
    assert read_json(path) == {"a": 1}
    with pytest.raises(UntrustedError, match="at most 4"):
        read_json(path, limit=4)


@settings(max_examples=examples(200))
@given(st.binary(max_size=200))
def test_any_bytes_as_json_are_an_object_or_refused(data: bytes) -> None:
    with suppress(UntrustedError):
        assert isinstance(parse_json(data, "x"), dict)
