"""What goes wrong on the way to a remote: silence, cut uploads, altered answers, repositories of strangers."""

from __future__ import annotations

import os
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.servers.hub import Hub
from tests.servers.registry import free_port
from tests.servers.repositories import git_oid
from tests.zoo.places import CARD, KINDS, Place, make, place, read
from zoo.errors import GenzooError
from zoo.store.artifact import CHUNK_BYTES, Kind, Manifest
from zoo.store.remotes import RemoteError, open_remote
from zoo.store.remotes.oci_registry import UPLOAD_BYTES
from zoo.store.transfer.sources import SourceError


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with place("oci", tmp_path / "registry", monkeypatch) as found:
        yield found


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", "hf_token")
    with Hub(tmp_path / "hub") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_server_that_is_not_there_is_one_sentence(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("HF_ENDPOINT", f"http://{nobody}")
    monkeypatch.setattr("zoo.store.transfer.http.ATTEMPTS", 1)
    with pytest.raises(RemoteError, match=nobody) as error:
        open_remote({"http": f"http://{nobody}/zoo", "hf": "hf://zoo", "oci": f"oci://{nobody}/zoo"}[kind]).find("toy")
    assert "\n" not in str(error.value)


@contextmanager
def cutting(host: str, cuts: list[int]) -> Iterator[str]:
    """A way to a server that ends a connection once so many bytes went up, for each of `cuts`."""
    listener = socket.create_server(("127.0.0.1", 0))
    name, _, port = host.partition(":")

    def carry(source: socket.socket, sink: socket.socket, limit: int | None) -> None:
        carried = 0
        with suppress(OSError):
            while data := source.recv(1 << 16):
                carried += len(data)
                if limit is not None and carried > limit:
                    break
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection((name, int(port)))
            limit = cuts.pop() if cuts else None
            threads = [
                threading.Thread(target=carry, args=(client, server, limit), daemon=True),
                threading.Thread(target=carry, args=(server, client, None), daemon=True),
            ]
            for thread in threads:
                thread.start()
            carrying.append((threads, client, server))

    carrying: list[tuple[list[threading.Thread], socket.socket, socket.socket]] = []
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for threads, client, server in carrying:
            for end in (client, server):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            for each in threads:
                each.join()
            client.close()
            server.close()


def test_a_large_blob_goes_up_in_pieces(registry: Place, tmp_path: Path) -> None:
    made = make(tmp_path, contents={"model.safetensors": random.Random(0).randbytes(2 * UPLOAD_BYTES + 12345)})
    registry.remote.push(made.manifest, None, made.path_of)
    assert read(registry.remote, made.manifest)["model.safetensors"] == (made.folder / "model.safetensors").read_bytes()


def test_an_upload_that_is_cut_goes_on(registry: Place, tmp_path: Path) -> None:
    """From where the registry is, or anew where it lost the upload; its own digest is the judge."""
    made = make(tmp_path, contents={"model.safetensors": random.Random(0).randbytes(2 * UPLOAD_BYTES + 12345)})
    host = registry.url.removeprefix("oci://").partition("/")[0]
    with cutting(host, [UPLOAD_BYTES // 2, UPLOAD_BYTES + UPLOAD_BYTES // 3]) as cut:
        open_remote(f"oci://{cut}/zoo").push(made.manifest, None, made.path_of)
    assert read(registry.remote, made.manifest)["model.safetensors"] == (made.folder / "model.safetensors").read_bytes()


def test_an_altered_manifest_of_a_registry_is_refused(registry: Place, tmp_path: Path) -> None:
    made = make(tmp_path)
    registry.remote.push(made.manifest, None, made.path_of)
    blobs = tmp_path / "registry" / "root" / "data/docker/registry/v2/blobs/sha256"
    for path in blobs.glob("*/*/data"):
        if b"vnd.cncf.model.manifest" in (data := path.read_bytes()):
            path.write_bytes(data.replace(b"README.md", b"README.mD"))
    with pytest.raises(RemoteError) as error:
        registry.remote.find("toy")
    assert "\n" not in str(error.value)


def test_a_folder_of_links_is_not_followed(tmp_path: Path) -> None:
    made = make(tmp_path)
    remote = open_remote(str(tmp_path / "root"))
    remote.push(made.manifest, None, made.path_of)
    weights = tmp_path / "root" / "toy" / "v1" / "model.safetensors"
    weights.unlink()
    weights.symlink_to(made.folder / "model.safetensors")
    with pytest.raises(Exception, match=r"model\.safetensors"):
        read(remote, made.manifest)
    os.mkfifo(tmp_path / "root" / "toy" / "v1" / "pipe")
    (tmp_path / "root" / "toy" / "v1" / "genzoo.json").unlink()
    (tmp_path / "root" / "toy" / "v1" / "pipe").rename(tmp_path / "root" / "toy" / "v1" / "genzoo.json")
    with pytest.raises(RemoteError, match="plain file"):
        remote.find("toy")


def test_what_a_killed_push_left_is_swept_later(tmp_path: Path) -> None:
    made, next_one = make(tmp_path), make(tmp_path, 2, {"data.txt": b"2"})
    remote = open_remote(str(tmp_path / "root"))
    remote.push(made.manifest, None, made.path_of)
    for name, age_s in ((".v2.old", 2 * 24 * 3600), (".v2.now", 0)):
        folder = tmp_path / "root" / "toy" / name
        folder.mkdir()
        (folder / "half").write_bytes(b"half")
        os.utime(folder, (time.time() - age_s,) * 2)
    remote.push(next_one.manifest, None, next_one.path_of)
    assert sorted(os.listdir(tmp_path / "root" / "toy")) == [".v2.now", "latest", "v1", "v2"]


def foreign(tmp_path: Path, **contents: bytes) -> Path:
    folder = tmp_path / "theirs"
    folder.mkdir(exist_ok=True)
    for name, data in contents.items():
        (folder / name.replace("_", ".")).write_bytes(data)
    return folder


def test_a_stranger_s_repository_becomes_an_artifact(hub: Hub, tmp_path: Path) -> None:
    folder = foreign(tmp_path, README_md=CARD, model_safetensors=b"weights", pytorch_bin=b"\x80\x04", notes_txt=b"")
    commit = hub.add("them/Their-Model", folder)
    manifest = Manifest.from_bytes(open_remote("hf://them").find("Their-Model").manifest)
    assert (manifest.name, manifest.kind, manifest.licence) == ("their-model", Kind.CHECKPOINT, "apache-2.0")
    assert not manifest.restricted
    assert manifest.provenance["revision"] == commit
    assert {file.path for file in manifest.files} == {"README.md", "model.safetensors", "notes.txt"}
    assert "pickle" in manifest.provenance["skipped"][0]
    again = Manifest.from_bytes(open_remote("hf://them").find("Their-Model").manifest)
    assert again == manifest
    remote = open_remote("hf://them")
    remote.find("Their-Model")
    assert read(remote, manifest)["model.safetensors"] == b"weights"
    hub.add("them/Their-Model", foreign(tmp_path, notes_txt=b"more"))
    assert Manifest.from_bytes(remote.find("Their-Model").manifest).version > manifest.version


def test_a_gated_repository_is_restricted(hub: Hub, tmp_path: Path) -> None:
    hub.add("them/model", foreign(tmp_path, README_md=CARD))
    hub.repositories["them/model"].gated = True
    assert Manifest.from_bytes(open_remote("hf://them").find("model").manifest).restricted


def test_a_small_file_that_is_not_its_git_object_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.add("them/model", foreign(tmp_path, config_json=b'{"a": 1}'))
    [entry] = hub.repositories["them/model"].commits[-1][1].values()
    assert entry.oid == git_oid(b'{"a": 1}')
    hub.blob(entry.sha256).write_bytes(b'{"a": 2}')
    with pytest.raises(RemoteError, match=r"other bytes for config\.json"):
        open_remote("hf://them").find("model")


@pytest.mark.parametrize("name", ["n" * 300 + ".txt", "é" * 150, "a/" * 600 + "b"])
def test_a_name_that_no_file_system_takes_is_left_out(hub: Hub, tmp_path: Path, name: str) -> None:
    hub.add("them/model", foreign(tmp_path, config_json=b"{}"))
    files = hub.repositories["them/model"].commits[-1][1]
    files[name] = files["config.json"]
    manifest = Manifest.from_bytes(open_remote("hf://them").find("model").manifest)
    assert [file.path for file in manifest.files] == ["config.json"]
    assert "longer than file systems take" in manifest.provenance["skipped"][0]


@pytest.mark.parametrize("what", ["a file", "a link to nothing"])
def test_a_folder_that_is_none_is_not_pushed_to(tmp_path: Path, what: str) -> None:
    made, path = make(tmp_path), tmp_path / "place"
    path.write_bytes(b"") if what == "a file" else path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(RemoteError, match=f"{path} is no folder, or a link to nothing"):
        open_remote(str(path)).push(made.manifest, None, made.path_of)
    with pytest.raises(RemoteError, match="no such folder"):
        open_remote(str(path)).find("toy")


def test_a_repository_of_pickles_only_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.add("them/model", foreign(tmp_path, pytorch_bin=b"\x80\x04", model_ckpt=b"\x80\x04"))
    with pytest.raises(GenzooError, match="pickles can run code") as error:
        open_remote("hf://them").find("model")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["directory", "http"])
@pytest.mark.parametrize("chunk_bytes", [64, CHUNK_BYTES])
def test_a_pointer_of_git_lfs_is_called_one(
    kind: str, chunk_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clone without its large files, served."""
    made = make(tmp_path)
    with place(kind, tmp_path / "place", monkeypatch) as where:
        where.remote.push(made.manifest, None, made.path_of)
        [path] = (tmp_path / "place").rglob("v1/model.safetensors")
        path.unlink()
        path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 5000000\n")
        [file] = [each for each in made.manifest.files if each.path == "model.safetensors"]
        source = where.remote.source(made.manifest)
        with pytest.raises(SourceError, match=r"model\.safetensors is a Git LFS pointer .*`git lfs pull`"):
            source.read(file, 0, memoryview(bytearray(min(chunk_bytes, file.bytes))))
        source.close()
