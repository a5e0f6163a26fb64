"""A registry of OCI 1.1, which lists what refers to a manifest, made of docker-registry, which does not.

with Registry(folder) as registry, ReferrersServer(registry.host) as front: front.host
"""

from __future__ import annotations

import http.client
import json
from collections import defaultdict
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from tests.servers.static import Handler, Server, sha256

IMAGE_INDEX = "application/vnd.oci.image.index.v1+json"
OWN_HOP = ("connection", "content-length", "transfer-encoding", "date", "server")


class ReferrersHandler(Handler):
    """Passes all requests on but those for the list, and notes the subject of what is put."""

    def route(self) -> None:
        body, path = self.body(), urlsplit(self.path).path
        if self.command == "GET" and "/referrers/" in path:
            entries = self.server.referrers[path.rpartition("/")[2]]
            index = {"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": entries}
            self.answer(HTTPStatus.OK, json.dumps(index).encode(), Content_Type=IMAGE_INDEX)
            return
        status, headers, data = self.passed_on(body)
        if self.command == "PUT" and "/manifests/" in path and status == HTTPStatus.CREATED:
            headers |= self.noted(body)
        self.answer(status, data, **headers)

    def passed_on(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """What the registry says; asked under this server's name, it sends clients back here."""
        connection = http.client.HTTPConnection(self.server.registry)
        try:
            connection.request(self.command, self.path, body, dict(self.headers))
            reply = connection.getresponse()
            kept = {name: value for name, value in reply.getheaders() if name.lower() not in OWN_HOP}
            return reply.status, kept, reply.read()
        finally:
            connection.close()

    def noted(self, body: bytes) -> dict[str, str]:
        manifest: dict[str, Any] = json.loads(body)
        if "subject" not in manifest:
            return {}
        subject: str = manifest["subject"]["digest"]
        entry = {"mediaType": manifest["mediaType"], "digest": f"sha256:{sha256(body)}", "size": len(body)}
        entry |= {key: manifest[key] for key in ("artifactType", "annotations") if key in manifest}
        with self.server.lock:
            self.server.referrers[subject].insert(0, entry)  # the specification names no order
        return {"OCI-Subject": subject}


class ReferrersServer(Server):
    handler = ReferrersHandler

    def __init__(self, registry: str) -> None:
        super().__init__()
        self.registry, self.host = registry, self.url.removeprefix("http://")
        self.referrers: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
