"""A token server for docker-registry: it gives signed tokens (RFC 7515, ES256) to whoever knows the password.

with TokenServer(folder, "zoo", "hunter2") as tokens, Registry(folder, auth=tokens.auth) as registry: ...
"""

from __future__ import annotations

import base64
import datetime
import json
import secrets
import time
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

from tests.servers.static import Handler, Server

AUTH = """\
auth:
  token: {{realm: "{url}/token", service: zoo-registry, issuer: zoo-tokens, rootcertbundle: {bundle}}}
"""


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class TokenHandler(Handler):
    """GET /token?service=...&scope=repository:<name>:<actions>"""

    def route(self) -> None:
        self.body()
        if self.headers.get("Authorization") != self.server.wanted:
            self.answer(HTTPStatus.UNAUTHORIZED, WWW_Authenticate='Basic realm="tokens"')
            return
        asked = parse_qs(urlsplit(self.path).query)
        access = []
        for scope in asked.get("scope", []):
            kind, name, actions = scope.split(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        token = self.server.token(asked["service"][0], access)
        self.answer(HTTPStatus.OK, json.dumps({"token": token}).encode(), Content_Type="application/json")


class TokenServer(Server):
    """Signs with a key of its own, whose certificate the registry trusts."""

    handler = TokenHandler

    def __init__(self, folder: Path, user: str, password: str) -> None:
        super().__init__()
        self.wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self.key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "zoo-tokens")])
        now = datetime.datetime.now(datetime.UTC)
        self.certificate = (
            x509.CertificateBuilder(name, name, self.key.public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        bundle = folder / "tokens.pem"
        folder.mkdir(parents=True, exist_ok=True)
        bundle.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        self.auth = AUTH.format(url=self.url, bundle=bundle)

    def token(self, service: str, access: list[dict[str, object]]) -> str:
        chain = [base64.b64encode(self.certificate.public_bytes(serialization.Encoding.DER)).decode()]
        now = int(time.time())
        claims = {"iss": "zoo-tokens", "sub": "zoo", "aud": service, "jti": secrets.token_hex(8), "access": access}
        claims |= {"iat": now, "nbf": now - 10, "exp": now + 300}
        head = json.dumps({"typ": "JWT", "alg": "ES256", "x5c": chain}).encode()
        signed = f"{_encode(head)}.{_encode(json.dumps(claims).encode())}"
        r, s = decode_dss_signature(self.key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_encode(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"
