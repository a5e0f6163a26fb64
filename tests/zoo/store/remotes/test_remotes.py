"""What every kind of remote must do, against a folder, a web server, the Hub's API and Debian's registry."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.servers.static import StaticServer
from tests.zoo.places import BIG, CONTENTS, KINDS, Place, make, place, read
from zoo.errors import GenzooError
from zoo.store.artifact import File, Manifest
from zoo.store.remotes import RemoteError, open_remote
from zoo.store.remotes.layout import VersionTakenError

# huggingface_hub uploads LFS objects with an argument that its HTTP client calls deprecated
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

CHANGED = CONTENTS | {"config.json": b'{"family": "toy", "changed": true}'}


@pytest.fixture(params=KINDS)
def where(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with place(request.param, tmp_path / "place", monkeypatch) as found:
        yield found


def one_sentence(error: BaseException) -> str:
    text = str(error)
    assert text
    assert "\n" not in text
    assert len(text) < 400
    return text


def test_what_was_pushed_is_found_and_read(where: Place, tmp_path: Path) -> None:
    made = make(tmp_path)
    address = where.remote.push(made.manifest, b'{"signed": true}', made.path_of)
    assert "toy" in address
    found = where.remote.find("toy")
    assert Manifest.from_bytes(found.manifest) == made.manifest
    assert found.signature == b'{"signed": true}'
    assert read(where.remote, made.manifest) == CONTENTS


def test_threads_read_at_the_same_time(where: Place, tmp_path: Path) -> None:
    made = make(tmp_path)
    where.remote.push(made.manifest, None, made.path_of)
    file = next(file for file in made.manifest.files if file.bytes == len(BIG))
    source, buffer, piece = where.remote.source(made.manifest), bytearray(len(BIG)), 300_007
    with ThreadPoolExecutor(8) as pool:
        starts = range(0, len(BIG), piece)
        list(pool.map(lambda start: source.read(file, start, memoryview(buffer)[start : start + piece]), starts))
    source.close()
    assert buffer == BIG


def test_versions_stay_and_the_newest_is_the_default(where: Place, tmp_path: Path) -> None:
    for version in (1, 2, 3):
        made = make(tmp_path, version, {"README.md": b"---\nlicense: mit\n---\n", "data.txt": b"%d" % version})
        where.remote.push(made.manifest, None, made.path_of)
    assert Manifest.from_bytes(where.remote.find("toy").manifest).version == 3
    old = Manifest.from_bytes(where.remote.find("toy", 1).manifest)
    assert old.version == 1
    assert read(where.remote, old)["data.txt"] == b"1"
    assert where.remote.find("toy").signature is None


def test_an_older_version_pushed_later_is_not_the_newest(where: Place, tmp_path: Path) -> None:
    if where.kind == "hf":
        pytest.skip("the newest commit of a repository on the Hub is the newest version")
    for version in (2, 1):
        made = make(tmp_path, version, {"data.txt": b"%d" % version})
        where.remote.push(made.manifest, None, made.path_of)
    assert Manifest.from_bytes(where.remote.find("toy").manifest).version == 2


def test_unknown_names_and_versions_are_one_sentence(where: Place, tmp_path: Path) -> None:
    with pytest.raises(RemoteError, match="nothing-like-it") as error:
        where.remote.find("nothing-like-it")
    one_sentence(error.value)
    made = make(tmp_path)
    where.remote.push(made.manifest, None, made.path_of)
    with pytest.raises(RemoteError, match="version 7 of toy") as error:
        where.remote.find("toy", 7)
    one_sentence(error.value)


def test_the_same_version_again_changes_nothing_and_other_content_is_refused(where: Place, tmp_path: Path) -> None:
    made, other = make(tmp_path), make(tmp_path, contents=CHANGED)
    where.remote.push(made.manifest, None, made.path_of)
    before = where.sent()
    where.remote.push(made.manifest, None, made.path_of)
    assert where.sent() - before < len(BIG)
    with pytest.raises(VersionTakenError, match="version 1 of toy") as error:
        where.remote.push(other.manifest, None, other.path_of)
    one_sentence(error.value)
    assert read(where.remote, Manifest.from_bytes(where.remote.find("toy").manifest)) == CONTENTS


def test_a_version_can_be_signed_later_and_again(where: Place, tmp_path: Path) -> None:
    made = make(tmp_path)
    where.remote.push(made.manifest, None, made.path_of)
    for signature in (b"signature", b"another key's"):
        where.remote.push(made.manifest, signature, made.path_of)
        for version in (None, 1):
            assert where.remote.find("toy", version).signature == signature
    where.remote.push(made.manifest, None, made.path_of)
    assert where.remote.find("toy").signature == signature


def test_unchanged_files_are_not_sent_again(where: Place, tmp_path: Path) -> None:
    first, second = make(tmp_path), make(tmp_path, 2, CHANGED)
    where.remote.push(first.manifest, None, first.path_of)
    before = where.sent()
    assert before >= len(BIG)
    where.remote.push(second.manifest, None, second.path_of)
    assert where.sent() - before < 100_000
    assert read(where.remote, second.manifest) == CHANGED


def test_files_that_a_version_no_longer_has_are_gone(where: Place, tmp_path: Path) -> None:
    smaller = {path: data for path, data in CONTENTS.items() if not path.startswith("parts/")}
    for made in (make(tmp_path), make(tmp_path, 2, smaller)):
        where.remote.push(made.manifest, None, made.path_of)
    found = Manifest.from_bytes(where.remote.find("toy").manifest)
    assert {file.path for file in found.files} == set(smaller)
    assert read(where.remote, found) == smaller


def test_a_truncated_manifest_is_refused(where: Place, tmp_path: Path) -> None:
    made = make(tmp_path)
    where.remote.push(made.manifest, None, made.path_of)
    stored = where.stored(made.manifest)
    stored.write_bytes(stored.read_bytes()[:-20])
    with pytest.raises(GenzooError) as error:
        Manifest.from_bytes(where.remote.find("toy").manifest)
    one_sentence(error.value)


def test_an_interrupted_push_leaves_the_old_version_and_can_be_repeated(where: Place, tmp_path: Path) -> None:
    first, second = make(tmp_path), make(tmp_path, 2, {path: data + b"2" for path, data in CONTENTS.items()})
    where.remote.push(first.manifest, None, first.path_of)

    def fails(file: File) -> Path:
        if file.bytes > 1000:
            raise KeyboardInterrupt
        return second.path_of(file)

    with pytest.raises(KeyboardInterrupt):
        where.remote.push(second.manifest, None, fails)
    assert Manifest.from_bytes(where.remote.find("toy").manifest) == first.manifest
    assert read(where.remote, first.manifest) == CONTENTS
    with pytest.raises(RemoteError):
        where.remote.find("toy", 2)
    where.remote.push(second.manifest, None, second.path_of)
    assert read(where.remote, second.manifest) == {path: data + b"2" for path, data in CONTENTS.items()}


def test_one_of_two_pushers_wins(where: Place, tmp_path: Path) -> None:
    if where.kind == "oci":
        pytest.skip("the distribution API has no conditional PUT: the last tag wins, and both versions stay by digest")
    pair = (make(tmp_path), make(tmp_path, contents=CHANGED))
    together, outcomes = threading.Barrier(2), []

    def push(index: int) -> None:
        made, waited = pair[index], []

        def path_of(file: File) -> Path:
            if not waited:
                waited.append(True)
                together.wait(30)
            return made.path_of(file)

        try:
            where.remote.push(made.manifest, None, path_of)
            outcomes.append(index)
        except RemoteError as error:
            one_sentence(error)

    threads = [threading.Thread(target=push, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 1
    found = Manifest.from_bytes(where.remote.find("toy").manifest)
    assert found == pair[outcomes[0]].manifest
    assert read(where.remote, found)["config.json"] == (CONTENTS, CHANGED)[outcomes[0]]["config.json"]


def test_a_file_that_changed_since_its_manifest_is_not_published(where: Place, tmp_path: Path) -> None:
    made = make(tmp_path)
    (made.folder / "model.safetensors").write_bytes(BIG[:-1] + b"?")
    with pytest.raises(GenzooError) as error:
        where.remote.push(made.manifest, None, made.path_of)
    one_sentence(error.value)
    with pytest.raises(RemoteError):
        where.remote.find("toy")


def test_a_server_that_takes_no_files_says_what_to_do(tmp_path: Path) -> None:
    made = make(tmp_path)
    with (
        StaticServer(tmp_path, read_only=True) as server,
        pytest.raises(RemoteError, match="push to a folder") as error,
    ):
        open_remote(server.url).push(made.manifest, None, made.path_of)
    one_sentence(error.value)


def test_a_server_that_cannot_copy_is_sent_the_files(tmp_path: Path) -> None:
    first, second = make(tmp_path), make(tmp_path, 2, CHANGED)
    (tmp_path / "root").mkdir()
    with StaticServer(tmp_path / "root", copies=False) as server:
        for made in (first, second):
            open_remote(server.url).push(made.manifest, None, made.path_of)
        assert server.received >= 2 * len(BIG)
        assert read(open_remote(server.url), second.manifest) == CHANGED


def test_what_a_folder_was_given_any_web_server_serves(tmp_path: Path) -> None:
    made = make(tmp_path)
    open_remote(str(tmp_path / "root")).push(made.manifest, b"s", made.path_of)
    with StaticServer(tmp_path / "root", read_only=True) as server:
        assert open_remote(server.url).find("toy").signature == b"s"
        assert read(open_remote(server.url), made.manifest) == CONTENTS


MEANINGLESS = ["ftp://host/x", "", "hf://", "hf://a/b/c", "oci://", "file://elsewhere/x", "http://", "~nobody here/x"]
NO_HOST = [f"{scheme}://{host}/x" for scheme in ("http", "oci") for host in ("[::1", "a:b", "a:99999", "a b")]


@pytest.mark.parametrize("url", [*MEANINGLESS, *NO_HOST, "file://[::1/x"])
def test_an_address_that_means_nothing_is_one_sentence(url: str) -> None:
    with pytest.raises(RemoteError) as error:
        open_remote(url)
    one_sentence(error.value)


@pytest.mark.parametrize("name", ["../x", "/etc", "a/b", "A", ""])
def test_a_name_cannot_leave_its_remote(where: Place, name: str) -> None:
    with pytest.raises(GenzooError) as error:
        where.remote.find(name)
    one_sentence(error.value)
