"""Several mirrors: whatever one of them says, in whatever type, a good one beside it is used."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.servers.fault import FaultServer
from tests.zoo.keys import Pair
from tests.zoo.pulling import Artifact, command, refusal, trusting
from zoo.errors import GenzooError
from zoo.exchange.pull import pull
from zoo.store import signing
from zoo.store.artifact import Manifest
from zoo.store.local.blobs import BlobStore
from zoo.store.offers import Policy
from zoo.store.remotes import Published, Remote, open_remote
from zoo.store.transfer.sources import Source

TEXT = st.text(st.characters(), max_size=8) | st.sampled_from(["\ud800", "../up", "a" * 300, "sha256", "toy"])
LEAF = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | TEXT
JSON: st.SearchStrategy[Any] = st.deferred(lambda: LEAF | st.lists(JSON, max_size=2) | st.dictionaries(TEXT, JSON))
FIELDS = ("name", "kind", "version", "licence", "files", "created", "restricted", "provenance", "format")
FILE_FIELDS = ("path", "bytes", "sha256", "chunks", "chunk_bytes", "chunk_hash")


class Liar:
    """A mirror that answers with anything, or raises it."""

    url = "liar"

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def find(self, name: str, version: int | None = None) -> Published:
        if isinstance(self.answer, Exception):
            raise self.answer
        found: Published = self.answer
        return found

    def source(self, manifest: Manifest) -> Source:
        raise KeyError("whatever")

    def push(self, *_: Any) -> str:
        raise NotImplementedError


@contextmanager
def lying(latest: bytes, manifest: bytes, files: dict[str, bytes]) -> Iterator[Remote]:
    """An HTTP mirror with these bytes as what it says of the newest version, its second."""
    served: dict[str, bytes | Path] = {"toy/latest": latest, "toy/v2/genzoo.json": manifest}
    served |= {f"toy/v2/{path}": data for path, data in files.items()}
    with FaultServer(served) as server:
        yield open_remote(server.url)


def record(toy: Artifact) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(toy.manifest(version=2).to_bytes())
    return found


def canonical(said: Any) -> bytes:
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def nested(levels: int) -> tuple[bytes, bytes]:
    return b'"provenance":{}', b'"provenance":{"a":' + b"[" * levels + b"]" * levels + b"}"


ODD: dict[str, tuple[bytes, bytes]] = {
    "a lone surrogate": (b'"mit"', b'"\xed\xa0\x80"'),
    "an escaped one": (b'"mit"', b'"\\ud800"'),
    "a provenance of 500 levels": nested(500),
    "a provenance of 20,000 levels": nested(20_000),
    "a file of 2^49 bytes": (b'"bytes":5,', b'"bytes":%d,' % (1 << 49)),
    "a file that no disk holds": (
        b'"bytes":5,"chunk_bytes":%d' % (4 << 20),
        b'"bytes":%d,"chunk_bytes":%d' % (1 << 43, 1 << 26),
    ),
    "a path that is none": (b'"README.md"', b"null"),
    "a name of 300 characters": (b"README.md", b"R" * 300),
    "a version of 10^17": (b'"version":2', b'"version":%d' % 10**17),
    "a licence to accept": (b'"restricted":false', b'"restricted":true'),
    "files that are an object": (b'"files":[', b'"files":{},"more":['),
}


@pytest.mark.parametrize("odd", ODD)
def test_what_was_found_to_kill_a_pull_does_not(toy: Artifact, remote: Remote, host: BlobStore, odd: str) -> None:
    good = toy.push(remote)
    files = tuple(replace(file, chunks=()) for file in good.files)  # as a host that knows nothing of chunks lists them
    honest = replace(toy.manifest(version=2), files=files).to_bytes()
    said = honest.replace(*ODD[odd])
    assert said != honest
    with lying(b"2", said, {}) as bad:
        assert "\n" not in refusal([bad])
        pulled = pull("toy", [bad, remote], host, Policy())
        assert pulled.ref.manifest == good.digest
        assert pulled.warnings


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(latest=st.just(b"2") | st.binary(max_size=80), place=st.sampled_from(FIELDS + FILE_FIELDS), value=JSON)
@example(latest=b"99999999999999999", place="version", value=2)
@example(latest=b"2\xff", place="version", value=2)
def test_any_answer_of_a_mirror_leaves_the_other_one_usable(
    toy: Artifact, remote: Remote, tmp_path: Path, latest: bytes, place: str, value: Any
) -> None:
    """A field of the manifest is anything: the good version, or a second one whose every promise was kept."""
    good, said = toy.push(remote), record(toy)
    (said if place in FIELDS else said["files"][-1])[place] = value
    files = {file.path: (toy.folder / file.path).read_bytes() for file in good.files}
    with lying(latest, canonical(said), files) as bad:
        pulled = pull("toy", [bad, remote], BlobStore(tmp_path / "fresh"), Policy(allow_rollback=True))
    assert {path: (pulled.path / path).read_bytes() for path in files} == files


@pytest.mark.parametrize(
    "answer",
    [
        KeyError("sha"),
        TypeError("'int' object is not subscriptable"),
        RecursionError(),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"),
        MemoryError(),
        GenzooError("it says no"),
        Published(None),  # type: ignore[arg-type]
        Published("text"),  # type: ignore[arg-type]
        Published(b"[]"),
        None,
        b"{}",
    ],
    ids=repr,
)
def test_a_mirror_that_answers_in_a_wrong_type_is_named_and_left_out(
    toy: Artifact, remote: Remote, host: BlobStore, answer: Any
) -> None:
    good = toy.push(remote)
    assert refusal([Liar(answer)]).startswith("liar: ")
    pulled = pull("toy", [Liar(answer), remote], host, Policy())
    assert pulled.ref.manifest == good.digest
    assert pulled.warnings[0].startswith("liar: ")
    third = pull("toy", [Liar(Published(good.to_bytes())), remote], host, Policy())
    assert third.warnings == ("liar: its answer cannot be used (KeyError)",)


# Versions that nobody would reach


def at(mirror: Remote, toy: Artifact, version: int, key: Pair | None = None) -> str:
    toy.write(**{"README.md": b"# of version %d" % version})
    return toy.push(mirror, key, version=version).digest


@pytest.mark.parametrize("far", [10**17, 10**12, 1_700_000_000, 1_004])
def test_one_mirror_cannot_make_the_honest_version_old(
    toy: Artifact, mirrors: list[Remote], host: BlobStore, far: int
) -> None:
    honest = at(mirrors[0], toy, 3)
    at(mirrors[1], toy, far)
    pulled = pull("toy", mirrors[:2], host, Policy())
    assert pulled.ref.manifest == honest
    assert f"version {far} of toy, far from version 3" in pulled.warnings[0]
    assert f"version {far} of toy, far from version 3" in refusal([mirrors[1]])
    assert pull("toy", [mirrors[1]], host, Policy(version=far)).ref.version == far


def test_a_version_that_is_neither_count_nor_date_is_not_the_first_either(
    toy: Artifact, remote: Remote, host: BlobStore
) -> None:
    at(remote, toy, 10**17)
    assert "which is no count and no date" in refusal([remote])


def test_what_two_mirrors_or_a_trusted_key_say_is_believed(
    toy: Artifact, mirrors: list[Remote], host: BlobStore, alice: Pair
) -> None:
    pytest.importorskip("model_signing")
    at(mirrors[0], toy, 3)
    newer = [at(mirror, toy, 2_000) for mirror in mirrors[1:]]
    assert pull("toy", mirrors, host, Policy()).ref.manifest == newer[0] == newer[1]
    signed = at(mirrors[0], toy, 10**17, alice)
    assert pull("toy", mirrors, host, trusting(alice)).ref.manifest == signed


def test_versions_that_are_dates_grow_as_dates_do(toy: Artifact, remote: Remote, host: BlobStore) -> None:
    for version in (1_600_000_000, 1_750_000_000):
        at(remote, toy, version)
        assert pull("toy", [remote], host, Policy()).ref.version == version
    at(remote, toy, 10**12)
    assert "far from version 1750000000" in refusal([remote])


def test_of_two_contents_the_one_that_most_mirrors_have_is_taken(
    toy: Artifact, mirrors: list[Remote], host: BlobStore
) -> None:
    agreed = toy.push(mirrors[0])
    toy.push(mirrors[2])
    toy.write(**{"README.md": b"# tampered"})
    toy.push(mirrors[1])
    pulled = pull("toy", mirrors, host, Policy())
    assert pulled.ref.manifest == agreed.digest
    assert "what most mirrors agree on is taken" in pulled.warnings[0]
    assert mirrors[1].url in pulled.warnings[0]


# Keys


@pytest.mark.parametrize("by", ["--key", "trust"])
def test_who_names_a_key_gets_nothing_unsigned(
    toy: Artifact, remote: Remote, alice: Pair, host: BlobStore, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    pytest.importorskip("model_signing")
    words = ["toy", "--from", remote.url, *(["--key", str(alice.public)] if by == "--key" else [])]
    if by == "trust":
        monkeypatch.setenv(signing.TRUST_VARIABLE, str(alice.public))
    toy.push(remote)
    with pytest.raises(GenzooError, match="toy is not signed, and a key was named"):
        command(*words)
    assert host.ref("toy") is None
    toy.push(remote, alice)
    assert command(*words)["signer"].startswith("alice")


def test_a_key_in_the_user_s_folder_is_trusted_and_demands_nothing(
    toy: Artifact, remote: Remote, host: BlobStore, alice: Pair
) -> None:
    folder = host.root.parent / "trust"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "alice.pem").write_bytes(alice.public.read_bytes())
    toy.push(remote)
    assert command("toy", "--from", remote.url)["signature"] == "none"
