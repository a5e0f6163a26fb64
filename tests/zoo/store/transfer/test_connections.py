"""What stands between us and a server: proxies with a password, certificates that nobody here knows."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.servers.proxy import Proxy
from tests.servers.static import StaticServer
from zoo.store.transfer import connections
from zoo.store.transfer.http import Client, HttpError

USER, PASSWORD = "zoo keeper", "p@ss:word/ü"
QUOTED = "zoo%20keeper:p%40ss%3Aword%2F%C3%BC"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StaticServer]:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "file").write_bytes(b"content")
    with StaticServer(tmp_path / "root") as server:
        yield server


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy, and an environment that says nothing of proxies yet."""
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    connections._proxy.cache_clear()
    with Proxy(USER, PASSWORD) as proxy:
        yield proxy
    connections._proxy.cache_clear()


@contextmanager
def secured(server: StaticServer, folder: Path) -> Iterator[Path]:
    """The server behind TLS; the file of its certificate, which nobody trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "server.key").write_bytes(private)
    (folder / "server.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    plain = server.socket
    server.socket = context.wrap_socket(plain, server_side=True)
    server.url = server.url.replace("http:", "https:")
    yield folder / "server.pem"


def get(server: StaticServer) -> bytes:
    client = Client(server.url)
    try:
        return client.get(f"{server.url}/file").body
    finally:
        client.close()


def test_a_proxy_gets_its_user_and_password_and_the_server_does_not(
    server: StaticServer, proxied: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", proxied.url.replace("//", f"//{QUOTED}@"))
    assert get(server) == b"content"
    assert proxied.requests == [("GET", f"{server.url}/file")]


def test_a_tunnel_gets_them_too(
    server: StaticServer, proxied: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("https_proxy", proxied.url.replace("//", f"//{QUOTED}@"))
    with secured(server, tmp_path) as certificate:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert get(server) == b"content"
        assert [method for method, _ in proxied.requests] == ["CONNECT"]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("given", ["", "zoo:wrong@"])
def test_a_proxy_that_refuses_says_where_a_password_belongs(
    server: StaticServer, proxied: Proxy, monkeypatch: pytest.MonkeyPatch, scheme: str, given: str
) -> None:
    monkeypatch.setenv(f"{scheme}_proxy", proxied.url.replace("//", f"//{given}"))
    server.url = server.url.replace("http:", f"{scheme}:")
    with pytest.raises(HttpError, match=r"407.*\$http_proxy and \$https_proxy: http://user:password@host") as caught:
        get(server)
    assert "wrong" not in str(caught.value)


def test_a_certificate_that_is_not_trusted_names_the_variable(
    server: StaticServer, proxied: Proxy, tmp_path: Path
) -> None:
    with secured(server, tmp_path), pytest.raises(HttpError, match=r"certificate is not trusted here .*SSL_CERT_FILE"):
        get(server)
