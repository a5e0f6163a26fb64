"""A read-only server of one folder in the Hugging Face Hub's layout, quick enough not to be what a benchmark measures.

    python -m benchmarks.transfers.hub_server FOLDER [BYTES_PER_S]   # prints its URL; FOLDER is genzoo/pulls

Kept connections, ranges, sendfile, and as little Python between a request and its answer as there can be.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import sys
import threading
import time
from pathlib import Path

REPOSITORY, COMMIT = "genzoo/pulls", "0" * 40
_REQUEST = re.compile(rb"(GET|HEAD) ([^ ]+) HTTP/1\.1\r\n")
_RANGE = re.compile(rb"\r\n[Rr]ange: bytes=(\d+)-(\d*)\r\n")
MAX_HEAD_BYTES, PACED_BYTES = 1 << 16, 1 << 18


class HubServer:
    """Serves `folder`; descriptors of small files are opened per request, as a web server does."""

    def __init__(self, folder: Path, bytes_per_s: int = 0) -> None:
        self.bytes_per_s, self._line, self._free_at = bytes_per_s, threading.Lock(), 0.0
        self.sizes = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
        self.folder = folder
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def serve(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._connection, args=(connection,), daemon=True).start()

    def _connection(self, connection: socket.socket) -> None:
        waiting = b""
        try:
            while True:
                while (end := waiting.find(b"\r\n\r\n")) < 0:
                    piece = connection.recv(MAX_HEAD_BYTES)
                    if not piece or len(waiting) > MAX_HEAD_BYTES:
                        return
                    waiting += piece
                head, waiting = waiting[: end + 4], waiting[end + 4 :]
                self._answer(connection, head)
        except OSError:
            pass
        finally:
            connection.close()

    def _answer(self, to: socket.socket, head: bytes) -> None:
        found = _REQUEST.match(head)
        if not found:
            to.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            return
        method, target = found[1], found[2].decode("latin-1").partition("?")[0]
        if target.startswith("/api/"):
            self._document(to, target)
            return
        name = target.rpartition("/")[2]
        if name not in self.sizes:
            to.sendall(b"HTTP/1.1 404 Not Found\r\nX-Error-Code: EntryNotFound\r\nContent-Length: 0\r\n\r\n")
            return
        self._file(to, method == b"GET", name, _RANGE.search(head))

    def _file(self, to: socket.socket, wanted: bool, name: str, part: re.Match[bytes] | None) -> None:
        size = self.sizes[name]
        first, last = 0, size - 1
        if part:
            first, last = int(part[1]), min(int(part[2] or size - 1), size - 1)
        length = last - first + 1
        status = f"206 Partial Content\r\nContent-Range: bytes {first}-{last}/{size}" if part else "200 OK"
        etag = hashlib.sha1(f"{name} {size}".encode()).hexdigest()
        about = f'ETag: "{etag}"\r\nX-Repo-Commit: {COMMIT}\r\nAccept-Ranges: bytes\r\nContent-Length: {length}'
        to.sendall(f"HTTP/1.1 {status}\r\n{about}\r\n\r\n".encode(), socket.MSG_MORE if wanted and length else 0)
        if wanted and length:
            with (self.folder / name).open("rb", buffering=0) as file:
                piece = PACED_BYTES if self.bytes_per_s else length
                for start in range(first, last + 1, piece):
                    to.sendfile(file, start, min(piece, last + 1 - start))
                    self._pace(piece)

    def _pace(self, count: int) -> None:
        """Wait until a link of `bytes_per_s`, which all connections share, has carried so much more."""
        if self.bytes_per_s:
            with self._line:
                self._free_at = max(self._free_at, time.monotonic()) + count / self.bytes_per_s
                until = self._free_at
            time.sleep(max(0.0, until - time.monotonic()))

    def _document(self, to: socket.socket, target: str) -> None:
        about = {"id": REPOSITORY, "modelId": REPOSITORY, "sha": COMMIT, "private": False, "gated": False}
        tree = [{"type": "file", "path": name, "size": size, "oid": COMMIT} for name, size in self.sizes.items()]
        info = {**about, "tags": [], "downloads": 0, "siblings": [{"rfilename": name} for name in self.sizes]}
        data = json.dumps(tree if "/tree/" in target else info).encode()
        to.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data) + data
        )


if __name__ == "__main__":
    server = HubServer(Path(sys.argv[1]), int("".join(sys.argv[2:]) or 0))
    print(server.url, flush=True)
    server.serve()
