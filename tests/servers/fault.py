"""A web server that misbehaves on request: a real threaded HTTP/1.1 server on loopback, scripted by a plan of faults.

    python -m tests.servers.fault FOLDER --port 8080 --faults cut,flip --rate 0.3 --seed 1

It serves files and ranges over connections that it keeps, and asks its plan each time whether and how to go wrong.
It listens on 127.0.0.1 and, at the same port, on 127.0.0.2, which is another host to any client.
"""

from __future__ import annotations

import random
import socket
import struct
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from enum import StrEnum
from pathlib import Path
from time import time
from types import TracebackType

HOSTS = ("127.0.0.1", "127.0.0.2")
PIECE = 1 << 18


class Kind(StrEnum):
    CUT = "cut"  # the connection ends inside the body
    RESET = "reset"  # the same, as a TCP reset
    CLOSE = "close"  # the connection ends before the answer
    WHOLE = "whole"  # 200 and the whole file for a range
    ETAG = "etag"  # another ETag than before
    LENGTH = "length"  # a Content-Length that is too small or too large
    RANGE = "range"  # a Content-Range that is not what was asked for
    FLIP = "flip"  # one bit of the body
    STALL = "stall"  # silence inside the body
    SILENCE = "silence"  # silence instead of an answer
    TRICKLE = "trickle"  # a byte now and then
    BUSY = "busy"  # 429 or 503 with Retry-After
    ERROR = "error"  # 500 or 502
    DENIED = "denied"  # 403, as of a signed address that expired
    MISSING = "missing"  # 404
    UNRANGED = "unranged"  # 416
    REDIRECT = "redirect"  # to the other host
    LOOP = "loop"  # a redirect to itself
    GARBAGE = "garbage"  # no HTTP at all
    HEADER = "header"  # a head that never ends, or is no header
    CHUNKED = "chunked"  # transfer-encoding: chunked; nothing is wrong with that
    EXTRA = "extra"  # more bytes than announced


@dataclass(frozen=True)
class Fault:
    """`at` is a place in the body as a fraction; `value` means what the kind makes of it."""

    kind: Kind
    at: float = 0.5
    value: int = 0


@dataclass(frozen=True)
class Seen:
    """One request, as it arrived."""

    number: int
    method: str
    host: str  # the address it came to
    path: str
    query: str
    headers: Mapping[str, str]  # lower-case names


Plan = Callable[[Seen], Fault | None]


def script(*faults: Fault | Kind | None) -> Plan:
    """These, one a request, then none."""
    rest = deque(Fault(f) if isinstance(f, Kind) else f for f in faults)
    return lambda _: rest.popleft() if rest else None


def always(fault: Fault | Kind, where: Callable[[Seen], bool] = lambda _: True) -> Plan:
    found = Fault(fault) if isinstance(fault, Kind) else fault
    return lambda seen: found if where(seen) else None


def seeded(seed: int, rate: float, kinds: Iterable[Kind] = tuple(Kind), most: int | None = None) -> Plan:
    """Random faults, the same for the same seed and order of requests; at most `most` of them."""
    source, choices, left = random.Random(seed), list(kinds), [most if most is not None else 1 << 60]

    def plan(_: Seen) -> Fault | None:
        if left[0] <= 0 or source.random() >= rate:
            return None
        left[0] -= 1
        return Fault(source.choice(choices), source.random(), source.randrange(1 << 16))

    return plan


@dataclass
class FaultServer:
    """`with FaultServer({"name": bytes or path}, plan) as server`: serves at `server.url`, counts what it sent.

    With `signed`, a plain path redirects to the other host with a signature that `expire` makes worthless.
    """

    files: Mapping[str, bytes | Path]
    plan: Plan = lambda _: None
    signed: bool = False
    token: str = ""  # the Authorization header that plain paths want
    ranges: bool = True
    stall_s: float = 30.0
    trickle_s: float = 0.0005
    trickle_bytes: int = 7
    retry_after: str = ""  # instead of what a fault draws
    accepts: bool = False  # whether bodies may be PUT and POSTed
    port: int = 0
    connections: int = 0
    requests: int = 0
    sent: int = 0  # body bytes of files
    faults: Counter[str] = field(default_factory=Counter)
    log: deque[Seen] = field(default_factory=lambda: deque(maxlen=20_000))
    sent_by_path: Counter[str] = field(default_factory=Counter)
    received: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._lock, self._planning, self._stopped = threading.Lock(), threading.Lock(), threading.Event()
        self._signature, self._version = 1, 0
        self._open: set[socket.socket] = set()
        self._listeners: list[socket.socket] = []

    @property
    def url(self) -> str:
        return f"http://{HOSTS[0]}:{self.port}"

    @property
    def other_url(self) -> str:
        return f"http://{HOSTS[1]}:{self.port}"

    def expire(self) -> None:
        self._signature += 1

    def __enter__(self) -> FaultServer:
        for host in HOSTS:
            listener = socket.create_server((host, self.port), backlog=256)
            self.port = listener.getsockname()[1]
            self._listeners.append(listener)
            threading.Thread(target=self._accept, args=(listener, host), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        for listener in self._listeners:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket, host: str) -> None:
        while not self._stopped.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection, host), daemon=True).start()

    def _serve(self, connection: socket.socket, host: str) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._open.add(connection)
            self.connections += 1
        try:
            with connection, connection.makefile("rb") as stream:
                while not self._stopped.is_set() and (line := stream.readline(65537)):
                    method, target, _ = line.decode("latin-1").split(" ", 2)
                    pairs = (h.decode("latin-1").partition(":") for h in iter(stream.readline, b"\r\n") if h)
                    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
                    body = stream.read(int(headers.get("content-length", 0)))
                    if self.accepts and method in ("PUT", "POST"):
                        self.received[target] = body
                        _plain(connection, 201, "Created")
                        continue
                    if not self._answer(connection, self._note(method, host, target, headers)):
                        break
        except (OSError, ValueError):
            pass
        finally:
            with self._lock:
                self._open.discard(connection)

    def _note(self, method: str, host: str, target: str, headers: Mapping[str, str]) -> Seen:
        path, _, query = target.partition("?")
        with self._lock:
            self.requests += 1
            seen = Seen(self.requests, method, host, path, query, headers)
            self.log.append(seen)
        return seen

    def _answer(self, to: socket.socket, seen: Seen) -> bool:
        """Answer one request; whether the connection may be kept."""
        with self._planning:
            fault = self.plan(seen)
        if fault is not None:
            with self._lock:
                self.faults[fault.kind.value] += 1
        name = seen.path.lstrip("/")
        if self.token and seen.host == HOSTS[0] and seen.headers.get("authorization") != self.token:
            return _plain(to, 401, "Unauthorized")
        if fault is None or fault.kind not in INSTEAD:
            if name not in self.files:
                return _plain(to, 404, "Not Found")
            if self.signed and not seen.query:
                return _plain(to, 302, "Found", {"Location": f"{self.other_url}/{name}?signature={self._signature}"})
            if self.signed and seen.query != f"signature={self._signature}":
                return _plain(to, 403, "Forbidden")
            return self._file(to, seen, name, fault)
        return INSTEAD[fault.kind](self, to, seen, fault)

    def _file(self, to: socket.socket, seen: Seen, name: str, fault: Fault | None) -> bool:
        kind, value = (fault.kind, fault.value) if fault else (None, 0)
        whole = _Content(self.files[name])
        first, last = 0, whole.size - 1
        asked = seen.headers.get("range", "") if self.ranges and kind is not Kind.WHOLE else ""
        if asked.startswith("bytes="):
            first, last = _range(asked, whole.size)
            if first >= whole.size:
                return _plain(to, 416, "Range Not Satisfiable", {"Content-Range": f"bytes */{whole.size}"})
        length = last - first + 1
        if kind is Kind.ETAG:
            self._version += 1
        headers = {"ETag": f'"{name}-{self._version}"', "Accept-Ranges": "bytes"}
        if asked:
            shift = (value % 7 + 1) * (-1) ** value if kind is Kind.RANGE else 0
            headers["Content-Range"] = f"bytes {first + shift}-{last + shift}/{whole.size}"
        announced = max(0, length + ((value % 9 + 1) * (-1) ** value if kind is Kind.LENGTH else 0))
        chunked = kind is Kind.CHUNKED
        headers |= {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(announced)}
        to.sendall(_head(206 if asked else 200, "OK", headers))
        if seen.method == "HEAD":
            return True
        place = first + int(length * fault.at) if fault else 0
        return self._body(to, seen.path, whole, (first, min(last, first + announced - 1)), kind, place)

    def _body(
        self, to: socket.socket, path: str, whole: _Content, span: tuple[int, int], kind: Kind | None, place: int
    ) -> bool:
        first, last = span
        end = place if kind in (Kind.CUT, Kind.RESET, Kind.STALL) else last + 1
        for start, piece in whole.pieces(first, end, self.trickle_bytes if kind is Kind.TRICKLE else PIECE):
            if kind is Kind.FLIP and start <= place < start + len(piece):
                piece = piece[: place - start] + bytes([piece[place - start] ^ 64]) + piece[place - start + 1 :]
            if kind is Kind.CHUNKED:
                to.sendall(b"%x\r\n" % len(piece) + piece + b"\r\n")
            else:
                to.sendall(piece)
            with self._lock:
                self.sent += len(piece)
                self.sent_by_path[path] += len(piece)
            if kind is Kind.TRICKLE:
                self._stopped.wait(self.trickle_s)
        if kind is Kind.CHUNKED:
            to.sendall(b"0\r\n\r\n")
        elif kind is Kind.EXTRA:
            to.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad")
        elif kind is Kind.RESET:
            to.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif kind is Kind.STALL:
            self._wait(to)
        return kind not in (Kind.CUT, Kind.RESET, Kind.STALL, Kind.LENGTH)

    def _wait(self, to: socket.socket) -> None:
        """Say nothing until the client gives up."""
        to.settimeout(self.stall_s)
        with suppress(OSError):
            to.recv(1)

    def _busy(self, to: socket.socket, _: Seen, fault: Fault) -> bool:
        after = str(fault.value % 2) if fault.value % 3 else formatdate(time() + fault.value % 2, usegmt=True)
        return _plain(to, (429, 503)[fault.value % 2], "Busy", {"Retry-After": self.retry_after or after})

    def _redirect(self, to: socket.socket, seen: Seen, _: Fault) -> bool:
        query = f"?{seen.query}" if seen.query else ""
        other = self.other_url if seen.host == HOSTS[0] else self.url
        return _plain(to, 302, "Found", {"Location": f"{other}{seen.path}{query}"})

    def _silence(self, to: socket.socket, _: Seen, __: Fault) -> bool:
        self._wait(to)
        return False


class _Content:
    def __init__(self, source: bytes | Path) -> None:
        self.source = source
        self.size = len(source) if isinstance(source, bytes) else source.stat().st_size

    def pieces(self, start: int, end: int, length: int) -> Iterator[tuple[int, bytes]]:
        if isinstance(self.source, bytes):
            yield from ((at, self.source[at : min(at + length, end)]) for at in range(start, end, length))
            return
        with self.source.open("rb") as stream:
            stream.seek(start)
            for at in range(start, end, length):
                yield at, stream.read(min(length, end - at))


def _range(asked: str, size: int) -> tuple[int, int]:
    first, _, last = asked.removeprefix("bytes=").partition("-")
    return int(first), min(int(last or size - 1), size - 1)


def _head(status: int, reason: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def _plain(to: socket.socket, status: int, reason: str, headers: Mapping[str, str] | None = None) -> bool:
    body = f"{status} {reason}\n".encode()
    to.sendall(_head(status, reason, {**(headers or {}), "Content-Length": str(len(body))}) + body)
    return True


def _close(_: FaultServer, __: socket.socket, ___: Seen, ____: Fault) -> bool:
    return False


def _garbage(_: FaultServer, to: socket.socket, __: Seen, fault: Fault) -> bool:
    to.sendall(random.Random(fault.value).randbytes(1 + fault.value % 300))
    return False


def _header(_: FaultServer, to: socket.socket, __: Seen, fault: Fault) -> bool:
    heads = (
        b"HTTP/1.1 206 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 206 OK\r\nX: " + b"x" * 200_000,
        b"HTTP/1.1 206 OK\r\nno header at all\r\n\r\n",
        b"HTTP/1.1 2O6 OK\r\n\r\n",
        b"HTTP/1.1 206 OK\r\n" + b"".join(b"X-%d: x\r\n" % i for i in range(2_000)) + b"\r\n",
        b"HTTP/1.1 206 OK\r\nTransfer-Encoding: chunked\r\n\r\n-7\r\nabc\r\n",
        b"HTTP/1.1 206 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\nabc",
        b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
    )
    to.sendall(heads[fault.value % len(heads)])
    return False


def _status(status: int, reason: str) -> Callable[[FaultServer, socket.socket, Seen, Fault], bool]:
    return lambda _, to, __, fault: _plain(to, status, reason)


INSTEAD: Mapping[Kind, Callable[[FaultServer, socket.socket, Seen, Fault], bool]] = {
    Kind.CLOSE: _close,
    Kind.SILENCE: FaultServer._silence,
    Kind.BUSY: FaultServer._busy,
    Kind.ERROR: lambda _, to, __, fault: _plain(to, (500, 502)[fault.value % 2], "Error"),
    Kind.DENIED: _status(403, "Forbidden"),
    Kind.MISSING: _status(404, "Not Found"),
    Kind.UNRANGED: _status(416, "Range Not Satisfiable"),
    Kind.REDIRECT: FaultServer._redirect,
    Kind.LOOP: lambda _, to, seen, __: _plain(to, 302, "Found", {"Location": seen.path}),
    Kind.GARBAGE: _garbage,
    Kind.HEADER: _header,
}


def main(
    folder: Path, port: int = 0, faults: str = ",".join(Kind), rate: float = 0.2, seed: int = 0, ranges: bool = True
) -> None:
    """Serve FOLDER with random faults until Ctrl-C."""
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    plan = seeded(seed, rate, [Kind(kind) for kind in faults.split(",") if kind])
    with FaultServer(files, plan, ranges=ranges, port=port) as server:
        print(server.url, flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
        print(f"{server.requests} requests, {server.sent} bytes, faults {dict(server.faults)}")


if __name__ == "__main__":
    import typer

    typer.run(main)
