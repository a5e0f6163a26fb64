"""Sockets for HTTP/1.1: a kept-alive connection a thread and origin, verified TLS, proxies, bodies that must move.

A connection belongs to the thread that opened it, so there is no pool to lock; `close` may come from any thread and
wakes those that wait for bytes. What goes wrong below HTTP is raised as OSError or http.client.HTTPException.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import re
import select
import socket
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import IO
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

from zoo.store.transfer.answers import PATIENCE, Answer, Patience

Body = bytes | IO[bytes] | None
PORTS = {"http": 80, "https": 443}
REPEATABLE = ("GET", "HEAD", "PUT", "DELETE", "OPTIONS")
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f-\U0010ffff]")


class ClosedError(OSError):
    """This side gave up its connections, as on Ctrl-C."""


@dataclass(frozen=True)
class Origin:
    scheme: str
    host: str
    port: int


@dataclass(frozen=True)
class Proxy:
    """What the environment puts between us and an origin; `headers` are for it alone."""

    host: str
    port: int
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Address:
    """An address in the parts that a request needs."""

    origin: Origin
    authority: str  # without user and password
    target: str


@lru_cache(maxsize=4096)
def address(url: str) -> Address:
    """Raises ValueError for what is no HTTP address, or has characters that no request line may have."""
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname:
        raise ValueError(f"{public(url)!r} is no http:// or https:// address")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    authority = parts.netloc.rpartition("@")[2]
    if _FORBIDDEN.search(target) or _FORBIDDEN.search(authority):
        raise ValueError(f"{public(url)!r} has characters that no address has")
    return Address(Origin(parts.scheme, parts.hostname, parts.port or PORTS[parts.scheme]), authority, target)


def split(url: str) -> SplitResult:
    """The parts of an HTTP address. Raises ValueError for anything else."""
    address(url)
    return urlsplit(url)


def basic_authorization(parts: SplitResult) -> str:
    """The value of the header that says the user and password of an address, "" without any."""
    if parts.username is None:
        return ""
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def origin_of(url: str) -> Origin:
    return address(url).origin


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
        self.closed = False
        self._context = context
        self._local = threading.local()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()

    def exchange(self, method: str, url: str, headers: Mapping[str, str], body: Body = None) -> Answer:
        """Send a request and read the head of its answer; one on a kept connection that had died is sent again."""
        where = address(url)
        sock = self._kept().pop(where.origin, None)
        if sock is not None and _readable(sock):
            self._discard(sock)  # closed meanwhile, or bytes behind the last answer that must not become the next one
            sock = None
        while True:
            fresh = sock is None
            try:
                if self.closed:
                    raise ClosedError("the transfer was stopped")
                sock = sock or self._connect(where.origin)
                return self._send(sock, method, where, headers, body)
            except (OSError, http.client.HTTPException) as error:
                if sock is not None:
                    self._discard(sock)
                if self.closed:
                    raise ClosedError("the transfer was stopped") from error
                if fresh or isinstance(error, TimeoutError) or method not in REPEATABLE:
                    raise
                sock = None
                if body is not None and not isinstance(body, bytes):
                    body.seek(0)

    def _send(self, sock: socket.socket, method: str, where: Address, headers: Mapping[str, str], body: Body) -> Answer:
        proxy = _proxy(where.origin) if where.origin.scheme == "http" else None
        target = f"http://{where.authority}{where.target}" if proxy else where.target
        lines = [f"{method} {target} HTTP/1.1", f"Host: {where.authority}"]
        for name, value in {**headers, **(proxy.headers if proxy else {})}.items():
            if "\r" in value or "\n" in value or _FORBIDDEN.search(name):
                raise http.client.HTTPException("a header that no request may have")
            lines.append(f"{name}: {value}")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        sock.sendall(head + body if isinstance(body, bytes) else head)
        if body is not None and not isinstance(body, bytes):
            sock.sendfile(body)
        answer = Answer(sock, method=method)
        try:
            answer.begin(self.patience)
        except BaseException:
            answer.close()
            raise
        answer.sock = sock
        return answer

    def _connect(self, origin: Origin) -> socket.socket:
        """A connection, directly or through the environment's proxy."""
        proxy = _proxy(origin)
        host, port = (proxy.host, proxy.port) if proxy else (origin.host, origin.port)
        connection: http.client.HTTPConnection
        if origin.scheme == "https":
            if self._context is None:
                self._context = ssl.create_default_context()  # honours $SSL_CERT_FILE
            connection = http.client.HTTPSConnection(host, port, context=self._context, timeout=self.patience.connect_s)
            if proxy:
                connection.set_tunnel(origin.host, origin.port, dict(proxy.headers))
        else:
            connection = http.client.HTTPConnection(host, port, timeout=self.patience.connect_s)
        connection.connect()
        sock: socket.socket = connection.sock
        sock.settimeout(self.patience.stall_s)
        with self._lock:
            self._open.add(sock)
        return sock

    def _kept(self) -> dict[Origin, socket.socket]:
        kept: dict[Origin, socket.socket] = self._local.__dict__.setdefault("kept", {})
        return kept

    def keep(self, answer: Answer, url: str) -> None:
        """An answer was read to the end: its connection is this thread's for the next request."""
        sock: socket.socket = answer.sock
        answer.close()
        if answer.will_close or self.closed:
            self._discard(sock)
        elif (before := self._kept().get(origin_of(url))) is not sock:
            self._kept()[origin_of(url)] = sock
            if before is not None:
                self._discard(before)

    def drop(self, answer: Answer) -> None:
        """An answer was not read to the end: its connection is of no more use."""
        answer.close()
        self._discard(answer.sock)

    def _discard(self, sock: socket.socket) -> None:
        sock.close()
        with self._lock:
            self._open.discard(sock)

    def close(self) -> None:
        """Close all, of every thread; what waits for bytes is woken."""
        self.closed = True
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
                sock.close()  # for good only once the thread that reads an answer from it lets go
            self._open.clear()


@lru_cache(maxsize=64)
def _proxy(origin: Origin) -> Proxy | None:
    found = getproxies().get(origin.scheme)
    if not found or proxy_bypass(origin.host):
        return None
    parts = urlsplit(found if "://" in found else f"http://{found}")
    if not parts.hostname:
        return None
    given = basic_authorization(parts)
    return Proxy(parts.hostname, parts.port or 80, {"Proxy-Authorization": given} if given else {})


def _readable(sock: socket.socket) -> bool:
    watch = select.poll()
    watch.register(sock, select.POLLIN)
    return bool(watch.poll(0))
