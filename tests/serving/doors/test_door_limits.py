"""A door under attack: bodies beyond its limits, and connections that only wait, against a real server's own HTTP."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from serving.doors.limits import Bucket, Budgets, Keys, Limits, RefusalError
from serving.doors.process import Door
from serving.doors.schema import DoorError
from serving.server import TritonServer

MIB = 1 << 20
TIGHT = ("--head-s", "1", "--body-s", "3", "--write-s", "1", "--connections", "50", "--file-bytes", str(4 * MIB))


@pytest.fixture(scope="module")
def door(server: TritonServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with Door(server.grpc_url, tmp_path_factory.mktemp("tight") / "door.log", options=TIGHT) as opened:
        yield opened


def resident(pid: int) -> float:
    """MiB."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024


def connected(door: Door) -> socket.socket:
    host, port = door.address.split(":")
    return socket.create_connection((host, int(port)), timeout=15)


def ended(connection: socket.socket) -> bool:
    """Whether the other side has closed it, within the time that it has."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        pass
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize("chunked", [False, True], ids=["said", "chunked"])
def test_a_body_beyond_the_limit_is_refused_while_it_is_read(door: Door, chunked: bool) -> None:
    before, connection = resident(door.pid), http.client.HTTPConnection(door.address, timeout=30)
    part, count = b"x" * MIB, 40
    headers = {"content-type": "application/json"} | ({} if chunked else {"content-length": str(len(part) * count)})
    answer = None
    with suppress(ConnectionError):  # it was closed under what is still sent
        connection.request(
            "POST", "/v1/images/generations", (part for _ in range(count)), headers, encode_chunked=chunked
        )
    with suppress(ConnectionError):
        answer = connection.getresponse()
        assert answer.status == 413
        assert json.loads(answer.read())["error"]["message"].startswith("the body is larger than 1,048,576 bytes")
    connection.close()
    assert answer is not None, "nobody was told"
    assert resident(door.pid) - before < 16


def test_an_answer_does_not_wait_for_the_acknowledgement_of_its_head(door: Door) -> None:
    connection, took = http.client.HTTPConnection(door.address, timeout=5), []
    for _ in range(50):
        began = time.monotonic()
        connection.request("GET", "/health")
        connection.getresponse().read()
        took.append(time.monotonic() - began)
    connection.close()
    assert min(took) < 0.03


def test_a_form_may_be_larger_and_has_a_limit_too(door: Door) -> None:
    connection = http.client.HTTPConnection(door.address, timeout=30)
    headers = {"content-type": "multipart/form-data; boundary=x"}
    connection.request("POST", "/v1/images/edits", b"x" * 5 * MIB, headers)
    assert connection.getresponse().status == 413
    connection.close()


def test_connections_that_say_nothing_or_half_of_it_are_closed(door: Door) -> None:
    half = b"POST /v1/images/generations HTTP/1.1\r\nhost: 127.0.0.1\r\n"
    with ExitStack() as stack:
        silent = [stack.enter_context(connected(door)) for _ in range(20)]
        for connection in silent[::2]:
            connection.sendall(half)
        began = time.monotonic()
        assert all(ended(connection) for connection in silent)
        assert time.monotonic() - began < 5


def test_a_head_that_drips_and_one_after_an_answer_are_closed(door: Door) -> None:
    for first in (b"", b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"):
        with connected(door) as connection:
            if first:
                connection.sendall(first)
                assert connection.recv(65536).startswith(b"HTTP/1.1 200")
            began = time.monotonic()
            with suppress(ConnectionError):
                while time.monotonic() - began < 6:
                    connection.sendall(b"G" if time.monotonic() - began < 0.1 else b"E")
                    time.sleep(0.2)
            assert time.monotonic() - began < 4


def test_a_body_that_does_not_come_is_answered(door: Door) -> None:
    head = b"POST /v1/images/generations HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 100\r\n\r\n"
    with connected(door) as connection:
        connection.sendall(head + b"{")
        assert connection.recv(65536).startswith(b"HTTP/1.1 408")
        assert ended(connection)


def test_who_does_not_read_is_cut_off(door: Door) -> None:
    with connected(door) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request = b"GET /openapi.json HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
        began = time.monotonic()
        with suppress(ConnectionError, TimeoutError):
            while time.monotonic() - began < 10:  # answers pile up until the door waits for us
                connection.sendall(request * 200)
        assert time.monotonic() - began < 8


def test_more_connections_than_may_be_are_closed_and_the_next_is_answered(door: Door) -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(connected(door)) for _ in range(80)]
        time.sleep(0.3)
        assert sum(_is_closed(connection) for connection in held) >= 30
    time.sleep(0.2)
    connection = http.client.HTTPConnection(door.address, timeout=5)
    connection.request("GET", "/health")
    assert connection.getresponse().status == 200
    connection.close()


def _is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_a_bucket_is_full_again_after_a_minute() -> None:
    now = [0.0]
    bucket = Bucket(60.0, lambda: now[0])
    assert bucket.take(60.0) == 0.0
    assert bucket.take(30.0) == pytest.approx(30.0)
    now[0] = 30.0
    assert bucket.take(30.0) == 0.0
    now[0] = 1000.0
    assert bucket.take(600.0) == 0.0, "what is more than a minute's worth is taken of a full one"
    assert bucket.take(1.0) == pytest.approx(541.0)


def test_budgets_are_of_a_key() -> None:
    now = [0.0]
    budgets = Budgets(Limits(requests_per_minute=1.0), lambda: now[0])
    budgets.request("anna")
    budgets.request("bert")
    with pytest.raises(RefusalError, match="1 requests a minute: ask again in 60 s") as raised:
        budgets.request("anna")
    assert raised.value.status == 429


def test_keys_are_read_and_weak_ones_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GENZOO_API_KEYS", raising=False)
    path = tmp_path / "keys"
    with pytest.raises(DoorError, match="cannot be read"):
        Keys.of(path)
    for text, sentence in (
        ("", "has no keys"),
        ("anna\n", "keys:1 is no NAME KEY"),
        ("anna short", "the key of anna is none: expected at least 16"),
        ("a abcdefghijklmnopq\na abcdefghijklmnopr\n", "keys:2 is no NAME KEY of its own"),
    ):
        path.write_text(text)
        with pytest.raises(DoorError, match=sentence):
            Keys.of(path)
    path.write_text("anna abcdefghijklmnopq")
    keys = Keys.of(path)
    assert keys.who("Bearer abcdefghijklmnopq") == keys.who("bearer  abcdefghijklmnopq ") == "anna"
    for wrong in ("", "abcdefghijklmnopq", "Basic abcdefghijklmnopq", "Bearer abcdefghijklmnop", "Bearer \udcff"):
        with pytest.raises(RefusalError):
            keys.who(wrong)
    assert Keys.of(None).who("") == "nobody"
