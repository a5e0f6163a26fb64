"""Sockets for HTTP/1.1: a kept-alive connection a thread and origin, verified TLS, proxies, bodies that must move.

A connection belongs to the thread that opened it, so there is no pool to lock; `close` may come from any thread and
wakes those that wait for bytes. What goes wrong below HTTP is raised as OSError or http.client.HTTPException.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO
from urllib.parse import SplitResult, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

Body = bytes | IO[bytes] | None
PORTS = {"http": 80, "https": 443}
SEND_BYTES = 1 << 20
RECEIVE_BYTES = 1 << 20  # of one call: the stall clock looks at least this often
CHUNKED_BYTES = 1 << 16


class StalledError(OSError):
    """Bytes stopped coming, or came slower than anybody would wait for."""


class ClosedError(OSError):
    """This side gave up its connections, as on Ctrl-C."""


@dataclass(frozen=True)
class Patience:
    """How long a server may take."""

    connect_s: float = 10.0
    stall_s: float = 20.0  # without one byte
    window_s: float = 30.0
    min_bytes_per_s: float = 1024.0  # over every window


PATIENCE = Patience()


@dataclass(frozen=True)
class Origin:
    scheme: str
    host: str
    port: int


def split(url: str) -> SplitResult:
    """The parts of an HTTP address. Raises ValueError for anything else."""
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname:
        raise ValueError(f"{public(url)!r} is no http:// or https:// address")
    return parts


def origin_of(url: str) -> Origin:
    parts = split(url)
    return Origin(parts.scheme, parts.hostname or "", parts.port or PORTS[parts.scheme])


def public(url: str) -> str:
    """An address that may be shown: without user, password, query (a signature may be in it) and fragment."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "an address that cannot be read"
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


class Connections:
    """What one client keeps open."""

    def __init__(self, patience: Patience = PATIENCE, context: ssl.SSLContext | None = None) -> None:
        self.patience = patience
        self._context = context
        self._local = threading.local()
        self._lock = threading.Lock()
        self._open: set[http.client.HTTPConnection] = set()
        self.closed = False

    def exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: Body = None
    ) -> http.client.HTTPResponse:
        """Send a request and read the head of its answer; one on a kept connection that had died is sent again."""
        origin, parts = origin_of(url), split(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        kept: dict[Origin, http.client.HTTPConnection] = self._local.__dict__.setdefault("kept", {})
        connection = kept.get(origin)
        reused = connection is not None and connection.sock is not None
        if connection is None:
            connection, absolute = self._connection(origin)
            connection.genzoo_absolute = absolute  # type: ignore[attr-defined]
            kept[origin] = connection
        if connection.genzoo_absolute:  # type: ignore[attr-defined]
            target = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path or "/", parts.query, ""))
        while True:
            try:
                return self._send(connection, method, target, headers, body)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if self.closed:
                    raise ClosedError("the transfer was stopped") from error
                if not reused or isinstance(error, TimeoutError):
                    raise
                reused = False
                if body is not None and not isinstance(body, bytes):
                    body.seek(0)

    def _send(
        self, connection: http.client.HTTPConnection, method: str, target: str, headers: Mapping[str, str], body: Body
    ) -> http.client.HTTPResponse:
        if self.closed:
            raise ClosedError("the transfer was stopped")
        if connection.sock is None:
            connection.timeout = self.patience.connect_s
            connection.connect()
            sock: socket.socket = connection.sock  # type: ignore[assignment]
            sock.settimeout(self.patience.stall_s)
        connection.request(method, target, body, dict(headers))
        return connection.getresponse()

    def _connection(self, origin: Origin) -> tuple[http.client.HTTPConnection, bool]:
        """A connection, directly or through the environment's proxy, and whether requests name the whole address."""
        host, port, proxy = origin.host, origin.port, _proxy(origin)
        if proxy:
            host, port = proxy
        connection: http.client.HTTPConnection
        if origin.scheme == "https":
            if self._context is None:
                self._context = ssl.create_default_context()  # honours $SSL_CERT_FILE
            connection = http.client.HTTPSConnection(host, port, context=self._context, blocksize=SEND_BYTES)
            if proxy:
                connection.set_tunnel(origin.host, origin.port)
        else:
            connection = http.client.HTTPConnection(host, port, blocksize=SEND_BYTES)
        with self._lock:
            self._open.add(connection)
        return connection, bool(proxy) and origin.scheme == "http"

    def drop(self, url: str) -> None:
        """Close this thread's connection: its answer was not read to the end."""
        connection = self._local.__dict__.get("kept", {}).get(origin_of(url))
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Close all, of every thread; what waits for bytes is woken."""
        self.closed = True
        with self._lock:
            for connection in self._open:
                if (plain := connection.sock) is not None:
                    with contextlib.suppress(OSError):
                        plain.shutdown(socket.SHUT_RDWR)
                    plain.close()  # for good only once the thread that reads an answer from it lets go
                    plain.close()  # at once where nobody reads from it, else with the body that is being read
            self._open.clear()


def _proxy(origin: Origin) -> tuple[str, int] | None:
    found = getproxies().get(origin.scheme)
    if not found or proxy_bypass(origin.host):
        return None
    parts = urlsplit(found if "://" in found else f"http://{found}")
    return (parts.hostname, parts.port or 80) if parts.hostname else None


def receive(response: http.client.HTTPResponse, into: memoryview, patience: Patience, filled: list[int]) -> None:
    """Read body bytes straight into `into` until it is full or the body ends; `filled[0]` counts them as they come."""
    position, window, seen = 0, time.monotonic(), 0
    while position < len(into):
        if response.chunked:
            count = _chunked(response, into[position : position + CHUNKED_BYTES])
        elif response.fp is None or response.length == 0:
            return
        else:
            rest = RECEIVE_BYTES if response.length is None else min(RECEIVE_BYTES, response.length)
            count = response.fp.readinto1(into[position : position + rest])
            if response.length is not None:
                response.length -= count
        if count == 0:
            return
        position += count
        filled[0] = position
        if (now := time.monotonic()) - window >= patience.window_s:
            if position - seen < patience.min_bytes_per_s * (now - window):
                raise StalledError(f"only {position - seen} bytes came in {now - window:.0f} s")
            window, seen = now, position


def _chunked(response: http.client.HTTPResponse, into: memoryview) -> int:
    try:
        return response.readinto(into)
    except http.client.IncompleteRead:
        return 0
