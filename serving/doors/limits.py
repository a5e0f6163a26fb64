"""What a door refuses before anybody is asked: strangers, too much of it, and who keeps a connection for nothing.

ASGI and an event loop's protocol, without a word of what is behind the door.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from serving.doors.schema import DoorError

KEYS_VARIABLE = "GENZOO_API_KEYS"
MIN_KEY = 16  # characters: fewer can be guessed
NOBODY = "nobody"  # whom all requests are counted for where there are no keys
METRICS = "/metrics"
KEPT = ("/v1/", METRICS)  # paths that are for who has a key
LINGER_S = 2.0  # how long a body that is too large is read into nothing, so that its sender sees the answer
REASONS = {  # of refusals, by their statuses, in words of a metric
    400: "invalid",
    401: "key",
    403: "origin",
    404: "unknown",
    405: "method",
    408: "slow_body",
    413: "large_body",
    429: "budget",
    500: "error",
    503: "busy",
    504: "late",
}
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class Limits:
    """Of a door. A call is one of the network for an image of the usual size, as the scheduler counts them."""

    images: int = 10  # of a request
    slots: int = 2  # requests for `auto` that are made at once
    calls: float = 128_000.0  # of a request
    requests_per_minute: float = 600.0  # of a key
    calls_per_minute: float = 1_000_000.0  # of a key
    body_bytes: int = 1 << 20  # of JSON
    file_bytes: int = 32 << 20  # of a form with pictures
    connections: int = 512
    head_s: float = 10.0  # for the lines before a request's body, from the first byte or the connection on
    body_s: float = 30.0
    write_s: float = 30.0  # that a client may take to read what fills its connection


class RefusalError(Exception):
    """An answer in place of what was asked for: OpenAI's error with its status."""

    def __init__(self, status: int, sentence: str, kind: str = "invalid_request_error", **more: Any) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.kind = status, sentence, kind
        self.param, self.code = more.get("param"), more.get("code")
        self.headers: dict[str, str] = dict(more.get("headers", {}))

    @property
    def reason(self) -> str:
        return REASONS.get(self.status, "other")

    @property
    def body(self) -> dict[str, Any]:
        return {"error": {"message": self.sentence, "type": self.kind, "param": self.param, "code": self.code}}


class Keys:
    """Who may come in, by name; everybody, where there are no keys."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        for name, key in keys.items():
            if len(key) < MIN_KEY or not key.isascii() or not key.isprintable() or " " in key:
                raise DoorError(f"the key of {name} is none: expected at least {MIN_KEY} printable ASCII characters")
        self.known = {name: _digest(key) for name, key in keys.items()}

    @classmethod
    def of(cls, path: Path | None) -> Keys:
        """Those of a file, lines of NAME KEY, and of the environment, with commas between. Raises DoorError."""
        found: dict[str, str] = {}
        try:
            lines = path.read_text().splitlines() if path else []
        except (OSError, ValueError) as error:
            raise DoorError(f"{path} cannot be read ({error}): give a file of keys, lines of NAME KEY") from error
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.startswith("#"):
                continue
            words = line.split()
            if len(words) != 2 or words[0] in found:
                raise DoorError(f"{path}:{number} is no NAME KEY of its own: write a name and its key")
            found[words[0]] = words[1]
        for index, key in enumerate(filter(None, os.environ.get(KEYS_VARIABLE, "").split(","))):
            found[f"{KEYS_VARIABLE}[{index}]"] = key.strip()
        if path and not found:
            raise DoorError(f"{path} has no keys: write lines of NAME KEY")
        return cls(found)

    def who(self, authorization: str) -> str:
        """The name of a key; each is compared, in a time that does not tell where they differ. Raises RefusalError."""
        if not self.known:
            return NOBODY
        scheme, _, key = authorization.partition(" ")
        given, found = _digest(key.strip()), ""
        for name, digest in self.known.items():
            found = name if hmac.compare_digest(given, digest) else found
        if not found or scheme.lower() != "bearer":
            said = "the API key is unknown" if authorization else "no API key was sent"
            raise RefusalError(
                401,
                f"{said}: send `Authorization: Bearer KEY`",
                "authentication_error",
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )
        return found


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


@dataclass
class Bucket:
    """So much a minute, of which a minute's worth may be taken at once."""

    per_minute: float
    clock: Callable[[], float] = time.monotonic
    left: float = field(init=False)
    seen: float = field(init=False)

    def __post_init__(self) -> None:
        self.left, self.seen = self.per_minute, self.clock()

    def take(self, amount: float) -> float:
        """0 where it was taken; else nothing was, and these are the seconds until it can be."""
        now = self.clock()
        self.left = min(self.per_minute, self.left + (now - self.seen) * self.per_minute / 60.0)
        self.seen = now
        if self.left >= min(amount, self.per_minute):  # a full one lets the largest request through
            self.left -= amount
            return 0.0
        return (min(amount, self.per_minute) - self.left) * 60.0 / self.per_minute


class Budgets:
    """What each key may have a minute."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits, self.clock = limits, clock
        self.buckets: dict[tuple[str, str], Bucket] = {}

    def request(self, who: str) -> None:
        """One more. Raises RefusalError."""
        self._take(who, "requests", self.limits.requests_per_minute, 1.0)

    def calls(self, who: str, calls: float) -> None:
        """So many more. Raises RefusalError."""
        if calls > self.limits.calls:
            raise RefusalError(
                400,
                f"the request is {calls:,.0f} calls of the network, at most {self.limits.calls:,.0f} are taken in one: "
                "ask for fewer images or steps at once",
            )
        self._take(who, "calls of networks", self.limits.calls_per_minute, calls)

    def _take(self, who: str, what: str, per_minute: float, amount: float) -> None:
        bucket = self.buckets.setdefault((who, what), Bucket(per_minute, self.clock))
        if wait := bucket.take(amount):
            raise RefusalError(
                429,
                f"your key has {per_minute:,.0f} {what} a minute: ask again in {wait:.0f} s",
                "rate_limit_error",
                code="rate_limit_exceeded",
                headers={"retry-after": str(max(1, round(wait)))},
            )


class Guard:
    """Before an application: whose name is right, whose key is known, and who sends no more than may be.

    A body is read to its end, in its time, before the application sees the request; so what that waits for afterwards
    is the client's leaving. `scope["state"]["who"]` is the key's name, and `["seen"]`, if there is one, is told why a
    request was refused. `hosts` are the names that the door goes by,
    none for any: a page of another origin cannot have a name of its own point here.
    """

    def __init__(
        self, application: Application, limits: Limits, keys: Keys, budgets: Budgets, hosts: Sequence[str] = ()
    ) -> None:
        self.application, self.limits, self.keys, self.budgets = application, limits, keys, budgets
        self.hosts = tuple(hosts)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        state = scope.setdefault("state", {})
        try:
            self._check_host(headers)
            if scope["path"].startswith(KEPT):
                state["who"] = who = self.keys.who(headers.get("authorization", ""))
                if scope["path"] != METRICS:
                    self.budgets.request(who)
            body = await self._body(headers, receive)
        except RefusalError as refusal:
            if "seen" in state:
                state["seen"].refused(refusal.reason)
            await _answer(refusal, send)
            return
        except ClientLeftError:
            return
        await self.application(scope, _again(body, receive), send)

    def _check_host(self, headers: Mapping[str, str]) -> None:
        host = headers.get("host", "")
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if self.hosts and name not in self.hosts:
            raise RefusalError(403, f"this door is {self.hosts[0]}, not {name[:40]!r}", "permission_error")
        origin = headers.get("origin")
        if origin is not None and not self.keys.known and origin.partition("://")[2] != host:
            raise RefusalError(
                403, f"pages of {origin[:40]!r} have no key, which other origins need", "permission_error"
            )

    async def _body(self, headers: Mapping[str, str], receive: Receive) -> bytes:
        form = headers.get("content-type", "").startswith("multipart/")
        most = self.limits.file_bytes if form else self.limits.body_bytes
        said = headers.get("content-length", "")
        if said.isdecimal() and int(said) > most and headers.get("expect"):
            raise _too_large(most)
        try:
            async with asyncio.timeout(self.limits.body_s):
                body, more = await _read(receive, most)
        except TimeoutError:
            raise RefusalError(
                408, f"the body did not come within {self.limits.body_s:g} s", headers={"connection": "close"}
            ) from None
        if body is None:
            if more:
                await _linger(receive)
            raise _too_large(most)
        return body


class ClientLeftError(Exception):
    """There is nobody to answer."""


async def _read(receive: Receive, most: int) -> tuple[bytes | None, bool]:
    """A body, None for one beyond `most`, of which only one piece more is held; and whether more of it comes.

    Raises ClientLeftError.
    """
    parts: list[bytes] = []
    size, more = 0, True
    while more and size <= most:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientLeftError
        more = message.get("more_body", False)
        parts.append(message.get("body", b""))
        size += len(parts[-1])
    return (b"".join(parts) if size <= most else None), more


async def _linger(receive: Receive) -> None:
    """Who is sending reads no answer: what still comes is thrown away for a while."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            more = True
            while more:
                message = await receive()
                more = message["type"] == "http.request" and message.get("more_body", False)


def _too_large(most: int) -> RefusalError:
    return RefusalError(
        413, f"the body is larger than {most:,} bytes: send less at once", headers={"connection": "close"}
    )


def _again(body: bytes, receive: Receive) -> Receive:
    """The body as one message, and then what comes after it."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return waiting.pop() if waiting else await receive()

    return next_message


async def _answer(refusal: RefusalError, send: Send) -> None:
    body = json.dumps(refusal.body).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **refusal.headers}
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})


def protocol(limits: Limits) -> type[asyncio.Protocol]:
    """uvicorn's HTTP/1.1 with an end for each connection that only waits, and for all beyond so many."""

    class Timed(H11Protocol):
        _late: asyncio.TimerHandle | None = None
        _stuck: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            # An event loop does so only for sockets that say their protocol; a body would wait 40 ms behind its head.
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if len(self.connections) > limits.connections:
                transport.abort()
            else:
                self._wait_for_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.conn.their_state is not h11.IDLE:
                self._stop()
            elif self._late is None and not self.transport.is_closing():  # the next request has begun
                self._wait_for_head()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._stuck = self.loop.call_later(limits.write_s, self.transport.abort)

        def resume_writing(self) -> None:
            if self._stuck:
                self._stuck.cancel()
            super().resume_writing()

        def _wait_for_head(self) -> None:
            self._late = self.loop.call_later(limits.head_s, self.transport.abort)

        def _stop(self) -> None:
            if self._late:
                self._late.cancel()
            self._late = None

    return Timed
