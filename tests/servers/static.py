"""A web server of one folder, as nginx with its dav module is one: GET and HEAD with ranges, PUT and COPY.

with StaticServer(folder) as server:
    server.url, server.received, server.requests
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import tempfile
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.parse import unquote, urlsplit


class Handler(BaseHTTPRequestHandler):
    """Answers with files and takes bodies; what is common to the servers of the tests."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    server: Any

    def route(self) -> None:
        """Answer any request."""
        raise NotImplementedError

    def do_GET(self) -> None:
        self.route()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_COPY = do_GET  # noqa: N815 (the base class names them)

    def log_message(self, format: str, *args: object) -> None:
        """Silent: pytest prints what matters."""

    def handle(self) -> None:
        try:
            super().handle()
        except (BrokenPipeError, ConnectionResetError):  # the client had enough
            self.close_connection = True

    def parse_request(self) -> bool:
        well_formed = super().parse_request()
        if well_formed:
            with self.server.lock:
                self.server.requests.append((self.command, self.path))
        return well_formed

    def body(self) -> bytes:
        """The whole body, counted."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            data = bytearray()
            while size := int(self.rfile.readline(64).split(b";")[0], 16):
                data += self.rfile.read(size)
                self.rfile.readline(8)
            self.rfile.readline(8)
        else:
            data = bytearray(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        with self.server.lock:
            self.server.received += len(data)
        return bytes(data)

    def answer(self, status: int, data: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def answer_file(self, path: Path, etag: str, **headers: str) -> None:
        """A file, or the one range of it that was asked for."""
        size = path.stat().st_size
        start, stop, status = 0, size, HTTPStatus.OK
        if wanted := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "")):
            first, last = wanted.groups()
            start = int(first) if first else max(0, size - int(last))
            stop = min(size, int(last) + 1) if first and last else size
            if start >= size or start >= stop:
                self.answer(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, Content_Range=f"bytes */{size}")
                return
            status = HTTPStatus.PARTIAL_CONTENT
            headers["Content_Range"] = f"bytes {start}-{stop - 1}/{size}"
        self.send_response(status)
        for name, value in {"ETag": etag, "Accept_Ranges": "bytes", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.flush()
            with path.open("rb") as file:
                if stop > start:
                    self.connection.sendfile(file, start, stop - start)


class StaticHandler(Handler):
    """The methods of one folder."""

    def route(self) -> None:
        if self.server.token and self.headers.get("Authorization") != self.server.token:
            self.body()
            self.answer(HTTPStatus.UNAUTHORIZED, WWW_Authenticate='Basic realm="zoo"')
            return
        {"PUT": self.put, "COPY": self.copy}.get(self.command, self.get)()

    def get(self) -> None:
        path = self.place(self.path)
        if path is None or not path.is_file():
            self.answer(HTTPStatus.NOT_FOUND)
        else:
            stat = path.stat()
            self.answer_file(path, f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"')

    def put(self) -> None:
        data, path = self.body(), self.place(self.path)
        if self.server.read_only:
            self.answer(HTTPStatus.METHOD_NOT_ALLOWED, Allow="GET, HEAD")
        elif path is None:
            self.answer(HTTPStatus.FORBIDDEN)
        else:
            with tempfile.NamedTemporaryFile(dir=self.server.root, delete=False) as temporary:
                temporary.write(data)
            self.take(Path(temporary.name), path)

    def copy(self) -> None:
        self.body()
        source = self.place(self.path)
        target = self.place(urlsplit(self.headers.get("Destination", "")).path)
        if self.server.read_only or not self.server.copies:
            self.answer(HTTPStatus.METHOD_NOT_ALLOWED, Allow="GET, HEAD, PUT")
        elif source is None or target is None or not source.is_file():
            self.answer(HTTPStatus.NOT_FOUND)
        else:
            with tempfile.NamedTemporaryFile(dir=self.server.root, delete=False) as temporary:
                shutil.copyfile(source, temporary.name)
            self.take(Path(temporary.name), target)

    def take(self, temporary: Path, path: Path) -> None:
        """Give a new file its name, unless it must not replace one."""
        unwelcome = self.headers.get("If-None-Match") == "*" or self.headers.get("Overwrite") == "F"
        with self.server.lock:
            there = path.exists()
            if not (there and unwelcome):
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary.replace(path)
        temporary.unlink(missing_ok=True)
        if there and unwelcome:
            self.answer(HTTPStatus.PRECONDITION_FAILED)
        else:
            self.answer(HTTPStatus.NO_CONTENT if there else HTTPStatus.CREATED)

    def place(self, target: str) -> Path | None:
        """Where a request's target lies below the root."""
        parts = [part for part in unquote(urlsplit(target).path).split("/") if part not in ("", ".")]
        return None if ".." in parts else Path(self.server.root, *parts)


class Server(ThreadingHTTPServer):
    """A server on a free port of the loopback address, with what it was asked and sent."""

    daemon_threads = True
    request_queue_size = 128
    handler: ClassVar[type[Handler]]

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), self.handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.lock = threading.Lock()
        self.received = 0
        self.requests: list[tuple[str, str]] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error of the server's; anything else is."""
        import sys

        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def __enter__(self) -> Self:
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self.thread.join()
        self.server_close()


class StaticServer(Server):
    """`root` served; where `token` is set, requests need it as their Authorization."""

    handler = StaticHandler

    def __init__(
        self, root: Path, *, read_only: bool = False, copies: bool = True, token: str = "", port: int = 0
    ) -> None:
        super().__init__(port)
        self.root, self.read_only, self.copies, self.token = root, read_only, copies, token


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path, nargs="?", default=Path(os.curdir))
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--read-only", action="store_true")
    options = parser.parse_args()
    with StaticServer(options.root, read_only=options.read_only, port=options.port) as server:
        print(server.url, flush=True)
        server.thread.join()


if __name__ == "__main__":
    main()
