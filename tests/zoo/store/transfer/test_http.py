"""The HTTP client against a server that misbehaves: the right bytes arrive, or an error that says what came."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path

import pytest

from tests.servers.fault import Fault, FaultServer, Kind, always, script
from zoo.store.artifact import File
from zoo.store.transfer.answers import Patience
from zoo.store.transfer.connections import public
from zoo.store.transfer.http import Client, HttpError, _retry_after, content_range
from zoo.store.transfer.http_source import HttpSource
from zoo.store.transfer.sources import ChangedError, NoRangesError, SourceError

DATA = bytes(range(256)) * 40  # 10,240 bytes
NAME = "weights.bin"
FILE = File(NAME, len(DATA), "0" * 64, ("0" * 64,), 1 << 20)
HASTY = Patience(stall_s=0.1, window_s=0.3, min_bytes_per_s=100_000.0)
SLOW = (Kind.SILENCE, Kind.STALL, Kind.TRICKLE)


@contextmanager
def serving(*faults: Fault | Kind | None, **options: object) -> Iterator[tuple[FaultServer, HttpSource]]:
    slow = any((fault.kind if isinstance(fault, Fault) else fault) in SLOW for fault in faults)
    with FaultServer({NAME: DATA}, script(*faults), **options) as server:  # type: ignore[arg-type]
        client = Client(server.url, patience=HASTY if slow else Patience())
        source = HttpSource("mirror", lambda file: f"{server.url}/{file.path}", client)
        yield server, source
        source.close()


def read(source: HttpSource, offset: int, length: int, file: File = FILE) -> bytes:
    into = bytearray(length)
    source.read(file, offset, memoryview(into))
    return bytes(into)


@pytest.mark.parametrize(("offset", "length"), [(0, 1), (5, 1000), (len(DATA) - 1, 1), (0, len(DATA))])
def test_a_range_fills_the_buffer_exactly(offset: int, length: int) -> None:
    with serving() as (_, source):
        assert read(source, offset, length) == DATA[offset : offset + length]


def test_a_connection_is_kept_for_the_next_range() -> None:
    with serving() as (server, source):
        for offset in range(0, 5000, 500):
            read(source, offset, 500)
        assert server.connections == 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(Kind.RANGE, value=3), "asked for bytes"),
        (Fault(Kind.LENGTH, value=2), "announced"),
        (Fault(Kind.LENGTH, value=3), "announced"),
        (Kind.UNRANGED, "416"),
        (Kind.ERROR, "500"),
        (Kind.LOOP, "redirected more than 5 times"),
        (Kind.GARBAGE, "not HTTP"),
        (Kind.SILENCE, "no byte came for 0.1 s"),
        (Fault(Kind.HEADER, value=1), "not HTTP"),
        (Fault(Kind.HEADER, value=4), "not HTTP"),
        (Fault(Kind.HEADER, value=7), "redirects to no HTTP address"),
        (Fault(Kind.HEADER, value=8), "redirects to no HTTP address"),
    ],
)
def test_what_is_no_right_answer_is_an_error_that_says_what_came(fault: Fault | Kind, words: str) -> None:
    with serving(fault) as (server, source):
        if fault is Kind.LOOP:
            server.plan = always(fault)
        with pytest.raises(SourceError, match=words):
            read(source, 100, 1000)
        server.plan = script()
        assert read(source, 100, 1000) == DATA[100:1100]


@pytest.mark.parametrize("kind", [Kind.CUT, Kind.RESET, Kind.STALL])
def test_a_body_that_ends_early_says_how_much_arrived(kind: Kind) -> None:
    with serving(Fault(kind, at=0.25)) as (_, source):
        into = bytearray(1000)
        with pytest.raises(SourceError) as caught:
            source.read(FILE, 100, memoryview(into))
        assert caught.value.filled <= 250
        if kind is not Kind.RESET:  # a reset may throw away what was on its way
            assert caught.value.filled == 250
        assert into[: caught.value.filled] == DATA[100 : 100 + caught.value.filled]


def test_a_trickle_is_too_slow() -> None:
    with serving(Kind.TRICKLE) as (server, source):
        server.trickle_s, server.trickle_bytes = 0.02, 10
        with pytest.raises(SourceError, match=r"only \d+ bytes came in") as caught:
            read(source, 0, 9000)
        assert caught.value.filled > 0


@pytest.mark.parametrize("kind", [Kind.CHUNKED, Kind.REDIRECT, Kind.CLOSE, Kind.ETAG])
def test_what_http_allows_is_no_fault(kind: Kind) -> None:
    with serving(None, kind) as (_, source):
        assert read(source, 0, 100) == DATA[:100]
        assert read(source, 10, 500) == DATA[10:510]  # CLOSE: an idle connection that died is opened again


def test_bytes_behind_a_body_never_become_the_next_answer() -> None:
    with serving(Kind.EXTRA) as (_, source):
        assert read(source, 0, 500) == DATA[:500]
        got = b""
        for _ in range(3):
            try:
                got = read(source, 500, 500)
            except SourceError:
                continue
            break
        assert got == DATA[500:1000]


def test_a_server_without_ranges_is_read_in_order_over_one_answer() -> None:
    with serving(ranges=False) as (server, source):
        with pytest.raises(NoRangesError):
            read(source, 2000, 1000)
        for offset in (2000, 3000, 7000):  # forwards, with a gap that is skipped
            assert read(source, offset, 1000) == DATA[offset : offset + 1000]
        assert server.requests == 1
        assert read(source, 0, 1000) == DATA[:1000]  # backwards: once more from the start
        assert server.requests == 2


def test_a_whole_file_is_asked_for_without_a_range() -> None:
    with serving(ranges=False) as (server, source):
        assert read(source, 0, len(DATA)) == DATA
        assert "range" not in server.log[0].headers


def test_a_file_without_digests_that_changes_is_an_error() -> None:
    plain = File(NAME, len(DATA), "0" * 64, (), 1000)
    with serving(None, Kind.ETAG) as (_, source):
        read(source, 0, 1000, plain)
        with pytest.raises(ChangedError):
            read(source, 1000, 1000, plain)
        assert read(source, 1000, 1000, plain) == DATA[1000:2000]


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_passed_on(status: int) -> None:
    value = {429: 4, 503: 1}[status]
    with serving(Fault(Kind.BUSY, value=value)) as (_, source), pytest.raises(SourceError, match=str(status)) as caught:
        read(source, 0, 10)
    assert caught.value.retry_after == value % 2


def test_retry_after_in_seconds_and_as_a_date_is_capped() -> None:
    assert _retry_after("7") == 7.0
    assert _retry_after("86400") == 120.0
    assert _retry_after(formatdate(1030, usegmt=True), now=1000.0) == 30.0
    assert _retry_after(formatdate(900, usegmt=True), now=1000.0) == 0.0
    assert _retry_after("soon") is None
    assert _retry_after("") is None


def test_missing_is_for_good() -> None:
    with serving(Kind.MISSING) as (_, source), pytest.raises(SourceError, match="404") as caught:
        read(source, 0, 10)
    assert caught.value.gone


def test_credentials_stay_with_their_host() -> None:
    with FaultServer({NAME: DATA}, signed=True, token="Bearer secret") as server:
        client = Client(server.url, {"Authorization": "Bearer secret", "X-Key": "secret", "Cookie": "a=secret"})
        source = HttpSource("mirror", lambda file: f"{server.url}/{file.path}", client)
        assert read(source, 0, 100) == DATA[:100]
        assert read(source, 100, 100) == DATA[100:200]
        source.close()
        here, *there = server.log
        assert here.headers["authorization"] == "Bearer secret"
        assert len(there) == 2  # the redirect's end is remembered
        for seen in there:
            assert seen.host == "127.0.0.2"
            assert "secret" not in str(seen.headers)
            assert "range" in seen.headers


def test_an_expired_signature_is_asked_for_again() -> None:
    with serving(signed=True) as (server, source):
        assert read(source, 0, 100) == DATA[:100]
        server.expire()
        assert read(source, 100, 100) == DATA[100:200]
        assert [seen.query for seen in server.log] == ["", "signature=1", "signature=1", "", "signature=2"]


def test_a_refused_token_is_renewed_once() -> None:
    asked = []

    def renew() -> dict[str, str]:
        asked.append(1)
        return {"authorization": "Bearer new"}

    with FaultServer({NAME: DATA}, token="Bearer new") as server:
        client = Client(server.url, {"authorization": "Bearer old"})
        source = HttpSource("mirror", lambda file: f"{server.url}/{file.path}", client, renew)
        assert read(source, 0, 100) == DATA[:100]
        assert len(asked) == 1
        server.token = "Bearer newer"
        with pytest.raises(SourceError, match="401") as caught:
            read(source, 0, 100)
        assert caught.value.gone
        source.close()


def test_no_credential_is_in_a_message() -> None:
    assert public("https://user:secret@host:8/path?token=secret#secret") == "https://host:8/path"
    with FaultServer({NAME: DATA}, always(Kind.MISSING)) as server:
        address = server.url.replace("http://", "http://user:secret@") + "/x?token=secret"
        client = Client(address)
        with pytest.raises(HttpError) as caught:
            client.get(address)
        client.close()
        assert "secret" not in str(caught.value)
        assert server.log[0].headers["authorization"].startswith("Basic ")


def test_a_document_is_bounded(tmp_path: Path) -> None:
    for kind in (None, Kind.CHUNKED):
        with FaultServer({NAME: DATA}, always(kind) if kind else script()) as server:
            client = Client(server.url)
            assert client.get(f"{server.url}/{NAME}", limit=len(DATA)).body == DATA
            with pytest.raises(HttpError, match=r"at most|more than"):
                client.get(f"{server.url}/{NAME}", limit=len(DATA) - 1)
            client.close()


def test_a_document_is_asked_for_again_when_that_may_help() -> None:
    with FaultServer({NAME: DATA}, script(Kind.ERROR, Fault(Kind.BUSY, value=4), Kind.CLOSE)) as server:
        client = Client(server.url)
        assert client.get(f"{server.url}/{NAME}").body == DATA
        assert client.head(f"{server.url}/{NAME}").headers["content-length"] == str(len(DATA))
        client.close()


def test_a_body_is_sent_from_memory_and_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(DATA * 100)
    with FaultServer({}, accepts=True) as server:
        client = Client(server.url)
        client.send("PUT", f"{server.url}/a", b"abc")
        client.send("PUT", f"{server.url}/b", path)
        client.send("POST", f"{server.url}/c")
        client.close()
        assert server.received == {"/a": b"abc", "/b": DATA * 100, "/c": b""}


def test_closing_wakes_whoever_waits() -> None:
    import threading

    with serving(Kind.SILENCE) as (server, _):
        source = HttpSource("mirror", lambda file: f"{server.url}/{file.path}", Client(server.url))
        failures: list[SourceError] = []

        def wait() -> None:
            try:
                read(source, 0, 100)
            except SourceError as error:
                failures.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        while not server.requests:
            time.sleep(0.001)
        source.close()
        thread.join(10)
        assert len(failures) == 1
        with pytest.raises(SourceError, match="stopped"):
            read(source, 0, 100)


def test_content_range() -> None:
    assert content_range("bytes 0-9/20") == (0, 9, 20)
    assert content_range("bytes 5-9/*") == (5, 9, None)
    for wrong in ("", "bytes", "bytes 0-9", "items 0-9/20", "bytes -5-9/20", "bytes 0-9/20, 3", "bytes */20"):
        assert content_range(wrong) is None


def test_nobody_follows_from_https_to_http() -> None:
    from zoo.store.transfer.http import Opened, _target

    class Answer:
        def getheader(self, name: str, default: str = "") -> str:
            return "http://127.0.0.1/secret"

    with pytest.raises(HttpError, match="from https to http"):
        _target(Opened(Answer(), "https://127.0.0.1/here"))  # type: ignore[arg-type]
