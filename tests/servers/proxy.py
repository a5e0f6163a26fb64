"""A proxy that wants a user and password: absolute addresses over HTTP, tunnels by CONNECT.

with Proxy("zoo", "hunter2") as proxy: proxy.url
"""

from __future__ import annotations

import base64
import http.client
import select
import socket
from http import HTTPStatus
from urllib.parse import urlsplit

from tests.servers.static import Handler, Server


class ProxyHandler(Handler):
    """Passes on what comes with the right Proxy-Authorization, which goes no further."""

    def route(self) -> None:
        if self.headers.get("Proxy-Authorization") != self.server.wanted:
            self.answer(HTTPStatus.PROXY_AUTHENTICATION_REQUIRED, Proxy_Authenticate='Basic realm="proxy"')
            return
        parts, body = urlsplit(self.path), self.body()
        connection = http.client.HTTPConnection(parts.netloc)
        kept = {name: value for name, value in self.headers.items() if not name.lower().startswith("proxy-")}
        connection.request(self.command, parts.path, body or None, kept)
        reply = connection.getresponse()
        self.answer(reply.status, reply.read())
        connection.close()

    def do_CONNECT(self) -> None:  # noqa: N802 (the base class names it)
        if self.headers.get("Proxy-Authorization") != self.server.wanted:
            self.answer(HTTPStatus.PROXY_AUTHENTICATION_REQUIRED)
            return
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port))) as there:
            self.send_response(HTTPStatus.OK)
            self.end_headers()
            self.wfile.flush()
            self.tunnel(there)
        self.close_connection = True

    def tunnel(self, there: socket.socket) -> None:
        ends = {self.connection: there, there: self.connection}
        while True:
            for end in select.select(list(ends), [], [])[0]:
                if not (data := end.recv(1 << 16)):
                    return
                ends[end].sendall(data)


class Proxy(Server):
    handler = ProxyHandler

    def __init__(self, user: str, password: str) -> None:
        super().__init__()
        self.wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
