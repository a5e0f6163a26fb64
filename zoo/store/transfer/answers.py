"""The answer to an HTTP request: a head that is taken as it must be or not at all, and a body that must move.

http.client decodes; heads are read here, in a fifth of its time and within bounds, and bodies go straight into the
caller's buffer. What is wrong with an answer is raised as OSError or http.client.HTTPException.
"""

from __future__ import annotations

import http.client
import re
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

RECEIVE_BYTES = 1 << 20  # of one call: the stall clock looks at least this often
CHUNKED_BYTES = 1 << 16
MAX_HEAD_BYTES, MAX_HEADERS, MAX_INTERIM = 1 << 16, 128, 5
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: ([^\r\n]*))?\r?\n")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\x00]*?)[ \t]*\r?\n")


class StalledError(OSError):
    """Bytes stopped coming, or came slower than anybody would wait for."""


@dataclass(frozen=True)
class Patience:
    """How long a server may take."""

    connect_s: float = 10.0
    stall_s: float = 20.0  # without one byte
    window_s: float = 30.0  # for a head as a whole, and what an average rate is taken over
    min_bytes_per_s: float = 1024.0


PATIENCE = Patience()


class Answer(http.client.HTTPResponse):
    """A response. `headers` have lower-case names."""

    headers: Any  # a plain mapping, where the library has a parsed email
    sock: socket.socket
    _method: str
    _check_close: Callable[[], bool]

    def begin(self, patience: Patience = PATIENCE) -> None:
        until = time.monotonic() + patience.window_s
        for _ in range(MAX_INTERIM):
            found = _STATUS.fullmatch(self.fp.readline(MAX_HEAD_BYTES) or _gone())
            if found is None:
                raise http.client.BadStatusLine("no status")
            named = self._headers(until)
            if not found[2].startswith(b"1"):
                break
        else:
            raise http.client.HTTPException("interim answers without end")
        self.version, self.code = 10 + int(found[1]), int(found[2])
        self.status, self.reason = self.code, (found[3] or b"").decode("latin-1").strip()
        self.headers = named
        self.msg = self.headers
        self.chunked = self._is_chunked(named)
        self.chunk_left = None
        self.length = None if self.chunked else self._announced(named)
        self.will_close = self._check_close() or (self.length is None and not self.chunked)

    def _headers(self, until: float) -> dict[str, str]:
        named: dict[str, str] = {}
        size = 0
        for _ in range(MAX_HEADERS + 1):
            line = self.fp.readline(MAX_HEAD_BYTES)
            if line in (b"\r\n", b"\n"):
                return named
            found, size = _HEADER.fullmatch(line), size + len(line)
            if found is None or size > MAX_HEAD_BYTES or time.monotonic() > until:
                break
            name, value = found[1].decode("ascii").lower(), found[2].decode("latin-1")
            named[name] = f"{named[name]}, {value}" if name in named else value
        raise http.client.HTTPException("no head")

    def _is_chunked(self, named: Mapping[str, str]) -> bool:
        coding = named.get("transfer-encoding", "").lower()
        if coding not in ("", "identity", "chunked"):
            raise http.client.HTTPException("an unknown transfer coding")
        return coding == "chunked" and self._method != "HEAD"

    def _announced(self, named: Mapping[str, str]) -> int | None:
        value = named.get("content-length")
        if value is not None and not re.fullmatch("[0-9]{1,18}", value):
            raise http.client.HTTPException("a content length that is none")
        if self._method == "HEAD" or self.status in (204, 304):
            return 0
        return int(value) if value is not None else None

    def getheader(self, name: str, default: Any = None) -> Any:
        return self.headers.get(name.lower(), default)


def _gone() -> bytes:
    raise http.client.RemoteDisconnected("the server closed the connection without an answer")


def receive(response: Answer, into: memoryview, patience: Patience, filled: list[int]) -> None:
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


def _chunked(response: Answer, into: memoryview) -> int:
    try:
        return response.readinto(into)
    except http.client.IncompleteRead:
        return 0
