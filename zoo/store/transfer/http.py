"""A client for HTTP(S) that trusts no server: ranges into the caller's own buffer, bounded documents, pushes.

    SourceError              zoo.store.transfer.sources
        HttpError            an answer that is not what was asked for, or none; `status` is 0 where none came

Credentials are given once and go to the origin they were given for, never to where a redirect leads.
"""

from __future__ import annotations

import email.utils
import http.client
import random
import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from zoo.plain import printable
from zoo.store.transfer.answers import PATIENCE, Answer, Patience, receive
from zoo.store.transfer.connections import ClosedError, Connections, basic_authorization, origin_of, public, split
from zoo.store.transfer.sources import SourceError

MAX_REDIRECTS = 5
MAX_RETRY_AFTER_S = 120.0
MAX_DOCUMENT_BYTES, SMALL_BYTES = 32 << 20, 4096
ATTEMPTS = 5  # of a small request without side effects
REDIRECTS, BUSY, GONE, DENIED = (301, 302, 303, 307, 308), (429, 503), (404, 410), (401, 403)
PROXY_DENIED = 407
PROXY_CURE = "it wants a user and password, which belong into $http_proxy and $https_proxy: http://user:password@host"
TLS_CURE = "an authority of your own is trusted where $SSL_CERT_FILE names its certificates"
USER_AGENT = "genzoo"
_NEUTRAL = {"accept", "accept-encoding", "if-range", "range", "user-agent"}  # these alone follow a redirect elsewhere
_RESERVED = "%/:?#[]@!$&'()*+,;=~"  # what an address may hold as it is (RFC 3986)
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(?:(\d{1,18})|\*)")


class HttpError(SourceError):
    """What a server answered, where that was not what was asked for."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        filled: int = 0,
        retry_after: float | None = None,
        gone: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, filled=filled, retry_after=retry_after, gone=gone)
        self.status = status
        self.headers = headers or {}  # with lower-case names


@dataclass(frozen=True)
class Reply:
    """A whole answer. Header names are lower-case; `url` is where redirects ended."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


@dataclass(frozen=True)
class Opened:
    """An answer whose body was not read yet."""

    response: Answer
    url: str

    @property
    def status(self) -> int:
        return self.response.status

    def header(self, name: str) -> str:
        return str(self.response.getheader(name, ""))


class Client:
    """One remote's connections. Threads use it at the same time.

    `headers` are credentials or whatever else the origin of `home` wants; they are sent to that origin only.
    """

    def __init__(
        self,
        home: str,
        headers: Mapping[str, str] | None = None,
        *,
        patience: Patience = PATIENCE,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.home = origin_of(home)
        self.headers = {**_userinfo(home), **(headers or {})}
        self.patience = patience
        self._connections = Connections(patience, context)

    def get(self, url: str, limit: int = MAX_DOCUMENT_BYTES, headers: Mapping[str, str] | None = None) -> Reply:
        """A small document of at most `limit` bytes. Tries again what may pass. Raises HttpError."""
        return self._patiently("GET", url, limit, headers)

    def head(self, url: str, headers: Mapping[str, str] | None = None) -> Reply:
        return self._patiently("HEAD", url, 0, headers)

    def send(
        self,
        method: str,
        url: str,
        body: bytes | Path = b"",
        headers: Mapping[str, str] | None = None,
        limit: int = MAX_DOCUMENT_BYTES,
    ) -> Reply:
        """PUT, POST, PATCH or DELETE a body, streamed where it is a file. Tried once, redirected never."""
        size = body.stat().st_size if isinstance(body, Path) else len(body)
        given = {"content-length": str(size), **(headers or {})}
        if isinstance(body, Path):
            with body.open("rb") as stream:
                return self._exchange(method, url, limit, given, stream)
        return self._exchange(method, url, limit, given, body)

    def _patiently(self, method: str, url: str, limit: int, headers: Mapping[str, str] | None) -> Reply:
        for attempt in range(ATTEMPTS):
            try:
                return self._exchange(method, url, limit, headers or {})
            except HttpError as error:
                passing = error.status in (0, *BUSY) or error.status >= 500
                if error.gone or not passing or attempt == ATTEMPTS - 1:
                    raise
                time.sleep(error.retry_after or random.uniform(0.5, 1.0) * 0.25 * 2**attempt)
        raise AssertionError

    def _exchange(
        self, method: str, url: str, limit: int, headers: Mapping[str, str], body: bytes | IO[bytes] | None = None
    ) -> Reply:
        opened = self.begin(method, url, headers, body)
        try:
            data = b"" if method == "HEAD" else self._document(opened, limit)
            return Reply(opened.status, opened.response.headers, data, opened.url)
        finally:
            self.finish(opened)

    def _document(self, opened: Opened, limit: int) -> bytes:
        expected = opened.response.length
        if expected is not None and expected > limit:
            raise HttpError(f"{public(opened.url)} has {expected} bytes, at most {limit} are read", gone=True)
        buffer = bytearray((limit if expected is None else expected) + 1)
        filled = self.read(opened, memoryview(buffer))
        if filled > limit:
            raise HttpError(f"{public(opened.url)} has more than {limit} bytes", gone=True)
        if expected is not None and filled < expected:
            raise HttpError(f"{public(opened.url)} ended after {filled} of {expected} bytes")
        return bytes(memoryview(buffer)[:filled])

    def read(self, opened: Opened, into: memoryview) -> int:
        """Body bytes into `into` until it is full or the body ends; how many. Raises HttpError with `filled`."""
        filled = [0]
        try:
            receive(opened.response, into, self.patience, filled)
        except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: closed by another thread
            raise HttpError(f"{public(opened.url)}: {_words(error, self.patience)}", filled=filled[0]) from error
        return filled[0]

    def begin(self, method: str, url: str, headers: Mapping[str, str], body: bytes | IO[bytes] | None = None) -> Opened:
        """Send a request and follow its redirects; the answer's body is still to be read, then `finish`ed."""
        given = {"user-agent": USER_AGENT, "accept-encoding": "identity", **headers}
        for _ in range(MAX_REDIRECTS + 1):
            opened = self._answer(method, url, given, body)
            if opened.status not in REDIRECTS or method not in ("GET", "HEAD"):
                break
            self.finish(opened)
            url = _target(opened)
            if origin_of(url) != self.home:
                given = {name: value for name, value in given.items() if name.lower() in _NEUTRAL}
        else:
            raise HttpError(f"{public(url)} was redirected more than {MAX_REDIRECTS} times")
        if opened.status >= 300:
            raise self._refusal(opened)
        if opened.header("content-encoding").lower() not in ("", "identity"):
            self.finish(opened)
            raise HttpError(f"{public(url)} answered with bytes encoded as {opened.header('content-encoding')!r}")
        return opened

    def _answer(self, method: str, url: str, headers: Mapping[str, str], body: bytes | IO[bytes] | None) -> Opened:
        try:
            own = self.headers if origin_of(url) == self.home else {}
            return Opened(self._connections.exchange(method, url, {**headers, **own}, body), url)
        except (OSError, http.client.HTTPException, ValueError) as error:
            gone = isinstance(error, (ClosedError, ssl.SSLCertVerificationError, ValueError))
            raise HttpError(f"{public(url)}: {_words(error, self.patience)}", gone=gone) from error

    def _refusal(self, opened: Opened) -> HttpError:
        names: Mapping[str, str] = opened.response.headers
        self.finish(opened)
        wait = _retry_after(opened.header("retry-after")) if opened.status in BUSY else None
        message = f"{public(opened.url)} answered {opened.status} {printable(opened.response.reason[:60])}".rstrip()
        message += f"; {PROXY_CURE}" if opened.status == PROXY_DENIED else ""
        return HttpError(message, status=opened.status, retry_after=wait, gone=opened.status in GONE, headers=names)

    def finish(self, opened: Opened) -> None:
        """Done with an answer: the connection is kept where its body was read to the end, or little is left of it."""
        response = opened.response
        if response.length and response.length <= SMALL_BYTES:
            try:
                response.read()
            except (OSError, http.client.HTTPException):
                response.length = 1
        if response.length == 0:
            self._connections.keep(response, opened.url)
        else:
            self._connections.drop(response)

    def abandon(self, opened: Opened) -> None:
        """Done with an answer whose body nobody wants."""
        self._connections.drop(opened.response)

    def close(self) -> None:
        """Close every connection, of every thread; reads under way end with HttpError."""
        self._connections.close()


def _userinfo(url: str) -> dict[str, str]:
    given = basic_authorization(split(url))
    return {"authorization": given} if given else {}


def _target(opened: Opened) -> str:
    """Where a redirect leads. Raises HttpError where nobody should follow."""
    try:
        found = quote(urljoin(opened.url, opened.header("location")), safe=_RESERVED)
        parts = split(found)
        origin_of(found)
    except ValueError as error:
        raise HttpError(f"{public(opened.url)} redirects to no HTTP address") from error
    if urlsplit(opened.url).scheme == "https" and parts.scheme != "https":
        raise HttpError(f"{public(opened.url)} redirects from https to {public(found)}, which is not followed")
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, parts.query, ""))


def content_range(value: str) -> tuple[int, int, int | None] | None:
    """(first, last, size) of a Content-Range, the size None where it is unknown."""
    found = _CONTENT_RANGE.fullmatch(value.strip())
    return (int(found[1]), int(found[2]), int(found[3]) if found[3] else None) if found else None


def _retry_after(value: str, now: float | None = None) -> float | None:
    """Seconds to wait, from seconds or an HTTP date; capped, None where it says nothing."""
    if value.strip().isdecimal():
        return min(float(value), MAX_RETRY_AFTER_S)
    try:
        when = email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(when - (time.time() if now is None else now), 0.0), MAX_RETRY_AFTER_S)


def _words(error: Exception, patience: Patience) -> str:
    """What went wrong below HTTP, in words that hold no credential."""
    if isinstance(error, TimeoutError):
        return f"no byte came for {patience.stall_s:g} s"
    if isinstance(error, http.client.HTTPException):
        return f"the answer is not HTTP ({type(error).__name__})"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted here ({error.verify_message[:120]}); {TLS_CURE}"
    if isinstance(error, OSError) and f"failed: {PROXY_DENIED}" in str(error):  # of http.client, for a tunnel
        return f"the proxy answered {PROXY_DENIED}; {PROXY_CURE}"
    if isinstance(error, OSError):
        return (error.strerror or str(error) or type(error).__name__)[:120]
    return str(error)[:200]  # of an address, shown without its secrets
