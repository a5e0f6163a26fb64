"""An HTTP server as a mirror: whatever remote names the files, this reads them.

A server that ignores ranges is noticed at its first answer, before a second is asked for; from then on its files are
read in order, each by one thread, over a body that stays open between calls and skips what is not wanted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from zoo.plain import printable
from zoo.store.artifact import File
from zoo.store.transfer.connections import public
from zoo.store.transfer.http import DENIED, GONE, SMALL_BYTES, Client, HttpError, Opened, content_range
from zoo.store.transfer.sources import ChangedError, NoRangesError, SourceError
from zoo.untrusted import POINTER, POINTER_CURE, is_pointer

AddressOf = Callable[[File], str]
Renew = Callable[[], Mapping[str, str]]
SKIP_BYTES = 1 << 18


@dataclass
class _Stream:
    """A whole file on its way to one thread."""

    path: str
    opened: Opened
    position: int


class HttpSource:
    """A zoo.store.transfer.sources.Source. `address_of(file)` is where a file lies, asked again when it expired.

    `client` carries the credentials of the origin; `renew`, where there is one, is asked for new ones when the
    server answers 401 or 403 (a registry's token lives for minutes). Whole files are asked for without a range.
    """

    def __init__(self, label: str, address_of: AddressOf, client: Client, renew: Renew | None = None) -> None:
        self.label = label
        self.address_of = address_of
        self.client = client
        self._renew = renew
        self._ends: dict[str, str] = {}  # where a file's redirects ended
        self._etags: dict[str, tuple[str, float]] = {}  # of a file's newest version, and when it was first seen
        self._in_order: set[str] = set()  # files that the server sends whole only
        self._ranges_work = False
        self._first = threading.Lock()
        self._local = threading.local()

    def read(self, file: File, offset: int, into: memoryview) -> None:
        """Fill `into` with the file's bytes from `offset` on. Raises SourceError."""
        stream: _Stream | None = getattr(self._local, "stream", None)
        if stream is not None:
            if stream.path == file.path and stream.position <= offset:
                self._continue(stream, file, offset, into)
                return
            self._end(stream)
        if file.path in self._in_order:
            self._continue(self._stream(file, self._open(file, {})), file, offset, into)
        elif offset == 0 and len(into) == file.bytes:
            self._body(self._whole(file, self._open(file, {})), file, into)
        elif self._ranges_work:
            self._take(self._part(file, offset, len(into)), file, offset, into)
        else:
            with self._first:
                opened = self._part(file, offset, len(into))
            self._take(opened, file, offset, into)

    def _part(self, file: File, offset: int, length: int) -> Opened:
        """The head of the answer to a range. Raises NoRangesError where it is the whole file."""
        if file.path in self._in_order:
            raise NoRangesError(f"{self.label} sends {file.path} as a whole only")
        opened = self._open(file, {"range": f"bytes={offset}-{offset + length - 1}"})
        if opened.status == 206:
            self._ranges_work = True
        elif opened.status == 200:
            self._stream(file, opened)
            self._in_order.add(file.path)
            raise NoRangesError(f"{self.label} sends {file.path} as a whole only", open=True)
        return opened

    def _take(self, opened: Opened, file: File, offset: int, into: memoryview) -> None:
        found = content_range(opened.header("content-range"))
        last = offset + len(into) - 1
        if opened.status != 206 or found is None or found[:2] != (offset, last) or found[2] not in (None, file.bytes):
            seen = printable(opened.header("content-range")[:80]) or f"status {opened.status} without a range"
            raise self._unfit(opened, file, f"asked for bytes {offset}-{last}/{file.bytes}, got {seen}")
        self._body(opened, file, into)

    def _body(self, opened: Opened, file: File, into: memoryview) -> None:
        """Read an answer that ought to fill `into` to the byte."""
        length = opened.response.length
        if length is not None and length != len(into):
            raise self._unfit(opened, file, f"expected {len(into)} bytes, the server announced {length}")
        self._same(opened, file)
        try:
            filled = self.client.read(opened, into)
        finally:
            self.client.finish(opened)
        if filled < len(into):
            raise HttpError(f"{file.path}: the body ended after {filled} of {len(into)} bytes", filled=filled)

    def _unfit(self, opened: Opened, file: File, words: str) -> HttpError:
        """What to say of an answer of the wrong size; a short one is looked at, for it may say why."""
        head = bytearray(len(POINTER))
        if len(head) <= (opened.response.length or 0) <= SMALL_BYTES:
            with suppress(HttpError):
                self.client.read(opened, memoryview(head))
        self.client.abandon(opened)
        if is_pointer(bytes(head)):
            return HttpError(f"{file.path} {POINTER_CURE}", gone=True)
        return HttpError(f"{file.path}: {words}")

    def _whole(self, file: File, opened: Opened) -> Opened:
        if opened.status != 200:
            self.client.abandon(opened)
            raise HttpError(f"{file.path}: asked for the file, got status {opened.status}", status=opened.status)
        return opened

    def _stream(self, file: File, opened: Opened) -> _Stream:
        length = self._whole(file, opened).response.length
        if length is not None and length != file.bytes:
            raise self._unfit(opened, file, f"expected {file.bytes} bytes, the server announced {length}")
        self._same(opened, file)
        stream = self._local.stream = _Stream(file.path, opened, 0)
        return stream

    def _continue(self, stream: _Stream, file: File, offset: int, into: memoryview) -> None:
        """Go on with a whole file: skip what lies before `offset`, then fill."""
        filled, length = 0, len(into)
        try:
            scratch = memoryview(bytearray(min(SKIP_BYTES, offset - stream.position)))
            while stream.position < offset:
                count = self.client.read(stream.opened, scratch[: offset - stream.position])
                if count == 0:
                    raise HttpError(f"{file.path}: the body ended at byte {stream.position} of {file.bytes}")
                stream.position += count
            filled = self.client.read(stream.opened, into)
            stream.position += filled
            if filled < length:
                raise HttpError(f"{file.path}: the body ended after {filled} of {length} bytes", filled=filled)
        except SourceError:
            self._end(stream)
            raise
        if stream.position == file.bytes:
            self._end(stream)

    def _end(self, stream: _Stream) -> None:
        self._local.stream = None
        self.client.finish(stream.opened)

    def _open(self, file: File, headers: Mapping[str, str]) -> Opened:
        """Ask for a file where its last redirect ended, or anew; once more where its address or a token expired."""
        for again in (False, True):
            end = self._ends.get(file.path)
            url = end or self.address_of(file)
            self._local.asked_at = time.monotonic()
            try:
                opened = self.client.begin("GET", url, headers)
            except HttpError as error:
                self._ends.pop(file.path, None)
                if again or error.status not in (DENIED if end is None else (*DENIED, *GONE)):
                    error.gone = error.gone or error.status in DENIED
                    raise
                if self._renew is not None and error.status in DENIED:
                    self.client.headers = {**self.client.headers, **self._renew()}
            else:
                if opened.url != url:
                    self._ends[file.path] = opened.url
                return opened
        raise AssertionError

    def _same(self, opened: Opened, file: File) -> None:
        """A file without digests of its chunks cannot mix two versions. Raises ChangedError."""
        if file.chunks:
            return
        now = opened.header("etag") or opened.header("last-modified")
        known, since = self._etags.setdefault(file.path, (now, self._local.asked_at))
        if known != now:
            if self._local.asked_at >= since:  # else it is a late answer, of the version before
                self._etags[file.path] = now, time.monotonic()
            self.client.abandon(opened)
            raise ChangedError(f"{public(opened.url)} changed while it was read")

    def close(self) -> None:
        self.client.close()
