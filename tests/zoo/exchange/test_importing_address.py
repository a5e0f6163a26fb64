"""Imports over HTTP, from real servers on loopback, one of which cuts, stalls and refuses."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from tests.servers.fault import Fault, FaultServer, Kind, script
from tests.servers.static import StaticServer
from tests.zoo.exchange.test_importing import pipeline, shard
from tests.zoo.exchange.test_importing_onnx import generator
from zoo import registry, shelf
from zoo.exchange.importing import ImportingError, import_from
from zoo.files import HOME_VARIABLE
from zoo.untrusted import UntrustedError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    return tmp_path / "home"


def same(first: str, second: str) -> bool:
    return bool(shelf.config(first)["weights"]["sha256"] == shelf.config(second)["weights"]["sha256"])


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_pipeline_is_fetched_by_the_names_of_its_files(slash: str, tmp_path: Path) -> None:
    import_from(pipeline(tmp_path / "pipe"), name="here")
    (tmp_path / "pipe" / "README.md").write_text("---\nlicense: mit\n---\n")
    with StaticServer(tmp_path) as server:
        counted: list[int] = []
        imported = import_from(f"{server.url}/pipe{slash}", name="there", progress=counted.append)
        ref = shelf.blob_store().ref("there")
        assert ref is not None
        assert ref.source == f"import {server.url}/pipe{slash}"
    assert imported.draft.usable
    assert sum(counted) >= sum(component.bytes for component in imported.draft.components)
    assert same("here", "there")


@pytest.mark.filterwarnings("ignore")
def test_shards_are_fetched(tmp_path: Path) -> None:
    shard(pipeline(tmp_path / "pipe"))
    import_from(tmp_path / "pipe", name="here")
    with StaticServer(tmp_path) as server:
        import_from(f"{server.url}/pipe/", name="there")
    assert same("here", "there")


def test_a_model_is_fetched_with_its_external_data(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    onnx.save(generator(), tmp_path / "a b.onnx", save_as_external_data=True, location="w/1 2.bin", size_threshold=0)
    import_from(tmp_path / "a b.onnx", name="here")
    with StaticServer(tmp_path) as server:
        import_from(f"{server.url}/a%20b.onnx", name="there")
    assert same("here", "there")


@pytest.mark.parametrize("kind", [Kind.CUT, Kind.RESET, Kind.CLOSE, Kind.BUSY, Kind.ERROR, Kind.ETAG])
@pytest.mark.parametrize("at", [0.0, 0.001, 0.5, 0.9999])
def test_a_file_that_ends_early_is_taken_up_where_it_ended(kind: Kind, at: float) -> None:
    data = (shelf.TREE / "gan" / "model.safetensors").read_bytes()
    plan = script(Fault(Kind.CUT, at), Fault(kind, at))
    with FaultServer({"gan.safetensors": data}, plan, retry_after="0") as server:
        import_from(f"{server.url}/gan.safetensors", name="mine", architecture="gan")
        sent = server.sent
    assert shelf.verified_weights("mine").read_bytes() == data
    if kind is Kind.CUT and at > 0.1:
        assert sent < 1.5 * len(data)


def test_what_is_not_there_is_said(tmp_path: Path, home: Path) -> None:
    with StaticServer(tmp_path) as server:
        for address in ("none.safetensors", "none/"):
            with pytest.raises(ImportingError, match=r"404|neither"):
                import_from(f"{server.url}/{address}", name="mine")
    for address in ("http://[::1/x.safetensors", "http://a:port/x.safetensors", "http://a b/"):
        with pytest.raises(ImportingError, match="no address that can be fetched"):
            import_from(address, name="mine")
    with pytest.raises(ImportingError):
        import_from(f"{server.url}/gone.safetensors", name="mine")  # nobody listens
    assert shelf.pulled("mine") is None
    assert not list((home / "imports").iterdir())


def test_a_pickle_is_refused_wherever_it_lies(tmp_path: Path) -> None:
    (tmp_path / "x.ckpt").write_bytes(b"\x80\x04anything")
    with StaticServer(tmp_path) as server, pytest.raises(UntrustedError, match="save_file"):
        import_from(f"{server.url}/x.ckpt", name="mine")
    assert registry.FAMILIES
