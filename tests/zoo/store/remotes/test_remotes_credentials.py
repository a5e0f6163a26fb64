"""Who may push and pull: the ways in which servers ask, and that no secret is ever shown or sent elsewhere."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers.hub import Hub, HubHandler
from tests.servers.registry import Registry, tool
from tests.servers.static import Handler, Server, StaticServer
from tests.zoo.places import CONTENTS, make, read
from zoo.store.artifact import Manifest
from zoo.store.remotes import NotFoundError, RemoteError, open_remote

USER, SECRET = "zoo", "hunter2"
BASIC = "Basic " + base64.b64encode(f"{USER}:{SECRET}".encode()).decode()
BCRYPT = "zoo:$2y$05$abcdefghijklmnopqrstuuoXuKqgZXLiJqzfmMXDDhSFPIvxV7t8.\n"  # of SECRET
HTPASSWD = "auth:\n  htpasswd: {{realm: zoo, path: {path}}}\n"


@pytest.fixture(autouse=True)
def _no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GENZOO_OCI_USER", "GENZOO_OCI_PASSWORD", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@contextmanager
def basic(folder: Path) -> Iterator[Registry]:
    """A registry that asks for a user and password."""
    if tool("docker-registry") is None:
        pytest.skip("docker-registry could not be had: see tests/servers/fetch_tools.sh")
    folder.mkdir()
    (folder / "htpasswd").write_text(BCRYPT)
    with Registry(folder, HTPASSWD.format(path=folder / "htpasswd")) as registry:
        yield registry


@contextmanager
def token(folder: Path) -> Iterator[Registry]:
    """A registry that sends its users to a token server."""
    if tool("docker-registry") is None:
        pytest.skip("docker-registry could not be had: see tests/servers/fetch_tools.sh")
    pytest.importorskip("cryptography")
    from tests.servers.tokens import TokenServer

    with TokenServer(folder, USER, SECRET) as tokens, Registry(folder, tokens.auth) as registry:
        yield registry


@pytest.mark.parametrize("kind", [basic, token])
@pytest.mark.parametrize("kept", ["environment", "docker login"])
def test_a_registry_that_asks_who_is_there(
    kind,
    kept: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,  # type: ignore[no-untyped-def]
) -> None:
    made = make(tmp_path)
    with kind(tmp_path / "registry") as registry:
        url = f"oci://{registry.host}/zoo"
        with pytest.raises(RemoteError, match="docker login"):
            open_remote(url).push(made.manifest, None, made.path_of)
        if kept == "environment":
            monkeypatch.setenv("GENZOO_OCI_USER", USER)
            monkeypatch.setenv("GENZOO_OCI_PASSWORD", SECRET)
        else:
            auths = {registry.host: {"auth": BASIC.removeprefix("Basic ")}}
            (tmp_path / "docker").mkdir()
            (tmp_path / "docker" / "config.json").write_text(json.dumps({"auths": auths}))
        open_remote(url).push(made.manifest, b"signature", made.path_of)
        found = open_remote(url).find("toy")
        assert Manifest.from_bytes(found.manifest) == made.manifest
        assert found.signature == b"signature"
        assert read(open_remote(url), made.manifest) == CONTENTS


@pytest.mark.parametrize("kept", ["address", "netrc"])
def test_a_web_server_that_asks_who_is_there(kept: str, tmp_path: Path) -> None:
    made = make(tmp_path)
    (tmp_path / "root").mkdir()
    with StaticServer(tmp_path / "root", token=BASIC) as server:
        with pytest.raises(RemoteError, match="netrc"):
            open_remote(server.url).push(made.manifest, None, made.path_of)
        url = server.url
        if kept == "address":
            url = url.replace("//", f"//{USER}:{SECRET}@")
        else:
            (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login {USER} password {SECRET}\n")
            (tmp_path / "netrc").chmod(0o600)
        remote = open_remote(url)
        assert (
            SECRET
            not in remote.push(made.manifest, None, made.path_of) + remote.url + remote.source(made.manifest).label
        )
        assert read(open_remote(url), made.manifest) == CONTENTS


def test_what_cannot_be_read_on_this_side_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_bytes(b"machine x login \xff password y\n")
    with pytest.raises(RemoteError, match=r"netrc could not be read: UnicodeDecodeError"):
        open_remote("http://127.0.0.1:1")
    monkeypatch.setenv("HF_TOKEN", "hf_…")
    with pytest.raises(RemoteError, match=r"\$HF_TOKEN has characters that no token has"):
        open_remote("hf://zoo")
    monkeypatch.setenv("HF_ENDPOINT", "hub")
    with pytest.raises(RemoteError, match=r"\$HF_ENDPOINT: 'hub' is no http"):
        open_remote("hf://zoo")


@pytest.mark.parametrize("kind", ["http", "hf", "basic", "token"])
def test_a_refused_secret_is_not_shown(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, wrong = make(tmp_path), "bad-secret-of-mine"
    monkeypatch.setenv("GENZOO_OCI_USER", USER)
    monkeypatch.setenv("GENZOO_OCI_PASSWORD", wrong)
    monkeypatch.setenv("HF_TOKEN", f"hf_{wrong}")
    secrets = {wrong, base64.b64encode(f"{USER}:{wrong}".encode()).decode()}
    with _asking(kind, tmp_path / "place", wrong, monkeypatch) as url, pytest.raises(RemoteError) as error:
        open_remote(url).push(made.manifest, None, made.path_of)
    chain: BaseException | None = error.value
    assert "\n" not in str(chain)
    while chain is not None:  # a traceback is printed with its causes
        assert not any(secret in str(chain) for secret in secrets)
        chain = chain.__cause__


@contextmanager
def _asking(kind: str, folder: Path, wrong: str, patch: pytest.MonkeyPatch) -> Iterator[str]:
    if kind == "http":
        with StaticServer(folder, token=BASIC) as server:
            yield server.url.replace("//", f"//{USER}:{wrong}@")
    elif kind == "hf":
        with Hub(folder) as hub:
            patch.setenv("HF_ENDPOINT", hub.url)
            yield "hf://zoo"
    else:
        with {"basic": basic, "token": token}[kind](folder) as registry:
            yield f"oci://{registry.host}/zoo"


class Elsewhere(Handler):
    """Keeps what it was sent."""

    def route(self) -> None:
        self.body()
        self.server.headers.append({name.lower() for name in self.headers})
        self.answer(404)


class Listener(Server):
    handler = Elsewhere

    def __init__(self) -> None:
        super().__init__()
        self.headers: list[set[str]] = []


def test_a_token_of_the_hub_does_not_follow_a_redirect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", "hf_token")
    with Listener() as elsewhere, Hub(tmp_path / "hub", cdn=elsewhere.url) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.add("zoo/toy", made.folder)
        remote = open_remote("hf://zoo")
        manifest = Manifest.from_bytes(remote.find("toy").manifest)
        with pytest.raises(Exception, match="404"):
            read(remote, manifest)
        assert elsewhere.headers
        assert not any("authorization" in names for names in elsewhere.headers)


def test_a_token_server_without_tls_gets_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that was taken over cannot ask for the password in the clear."""

    class Asks(Handler):
        def route(self) -> None:
            self.body()
            self.answer(401, WWW_Authenticate='Bearer realm="http://tokens.example/token",service="x"')

    class Taken(Server):
        handler = Asks

    monkeypatch.setenv("GENZOO_OCI_USER", USER)
    monkeypatch.setenv("GENZOO_OCI_PASSWORD", SECRET)
    with Taken() as server, pytest.raises(RemoteError, match="not https"):
        open_remote(server.url.replace("http://", "oci://") + "/zoo").find("toy")


def test_a_registry_may_offer_several_ways_to_say_who_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Asks(Handler):
        def route(self) -> None:
            self.body()
            if self.path.startswith("/token"):
                self.answer(200, b'{"access_token": "given"}')
            elif self.headers.get("Authorization") == "Bearer given":
                self.answer(404)
            else:
                realm = f"{self.server.url}/token"
                self.answer(401, WWW_Authenticate=f'Negotiate, BASIC Realm="x, y", Bearer Realm={realm}, Service=zoo')

    class Taken(Server):
        handler = Asks

    with Taken() as server, pytest.raises(NotFoundError):
        open_remote(server.url.replace("http://", "oci://") + "/zoo").find("toy")
    assert any(path.startswith("/token?service=zoo&scope=repository%3Azoo%2Ftoy%3Apull") for _, path in server.requests)


def test_a_way_that_is_not_spoken_is_named() -> None:
    class Asks(Handler):
        def route(self) -> None:
            self.body()
            self.answer(401, WWW_Authenticate="Negotiate, NTLM")

    class Taken(Server):
        handler = Asks

    with (
        Taken() as server,
        pytest.raises(RemoteError, match=r"by negotiate, ntlm: not Basic or Bearer"),
    ):
        open_remote(server.url.replace("http://", "oci://") + "/zoo").find("toy")


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("closed", ["info", "resolve"])
def test_a_gated_repository_says_what_opens_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str, status: int
) -> None:
    class Gate(HubHandler):
        def refuse_all(self, **_: str) -> None:
            self.refuse(status, "Access to this model is restricted.", "GatedRepo")

    setattr(Gate, closed, Gate.refuse_all)

    class Gated(Hub):
        handler = Gate

    with Gated(tmp_path / "hub") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.add("zoo/toy", make(tmp_path).folder)
        with pytest.raises(RemoteError, match=rf"zoo/toy is gated or private .*{hub.url}/zoo/toy .*HF_TOKEN") as caught:
            open_remote("hf://zoo").find("toy")
        assert "\n" not in str(caught.value)
        with pytest.raises(RemoteError, match=r"a private one needs `hf auth login` or \$HF_TOKEN|gated or private"):
            open_remote("hf://zoo").find("nothing")


@pytest.mark.parametrize("status", [401, 403])
def test_a_web_server_that_refuses_says_where_a_password_belongs(status: int) -> None:
    class Refuses(Handler):
        def route(self) -> None:
            self.send_response(status, "Not \x1b[2Jyou")
            self.send_header("Content-Length", "0")
            self.end_headers()

    class Closed(Server):
        handler = Refuses

    with Closed() as server, pytest.raises(RemoteError, match=rf"{status}.*~/\.netrc") as caught:
        open_remote(server.url).find("toy")
    assert "\x1b" not in str(caught.value)
