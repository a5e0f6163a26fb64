"""The real clients of the field read what genzoo wrote, and genzoo reads what they wrote."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.referrers import ReferrersServer
from tests.servers.registry import Registry, environment, tool
from tests.zoo.places import CONTENTS, Place, make, place, read
from zoo import shelf
from zoo.exchange.pull import pull
from zoo.family import Checkpoint
from zoo.store.artifact import Manifest
from zoo.store.local.blobs import BlobStore
from zoo.store.offers import Policy
from zoo.store.remotes import RemoteError, open_remote

# huggingface_hub uploads LFS objects with an argument that its HTTP client calls deprecated
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with place("hf", tmp_path / "hub", monkeypatch) as found:
        yield found


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    if tool("skopeo") is None:
        pytest.skip("skopeo could not be had: see tests/servers/fetch_tools.sh")
    with place("oci", tmp_path / "registry", monkeypatch) as found:
        yield found


def hf(*words: str) -> str:
    """Run the Hub's own command; what it printed."""
    program = Path(sys.executable).with_name("hf")
    env = {**os.environ, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    result = subprocess.run([program, *words], capture_output=True, text=True, env=env, timeout=120, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def skopeo(*words: str) -> None:
    result = subprocess.run(
        [str(tool("skopeo")), "--insecure-policy", *words],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".cache" not in path.parts and path.name != ".gitattributes"
    }


def test_hf_downloads_what_genzoo_pushed(hub: Place, tmp_path: Path) -> None:
    first, second = make(tmp_path), make(tmp_path, 2, CONTENTS | {"config.json": b"{}"})
    hub.remote.push(first.manifest, b"signature", first.path_of)
    hub.remote.push(second.manifest, None, second.path_of)
    hf("download", "zoo/toy", "--local-dir", str(tmp_path / "newest"))
    assert contents(tmp_path / "newest") == CONTENTS | {
        "config.json": b"{}",
        "genzoo.json": second.manifest.to_bytes(),
    }
    hf("download", "zoo/toy", "--revision", "v1", "--local-dir", str(tmp_path / "first"))
    assert contents(tmp_path / "first") == CONTENTS | {
        "genzoo.json": first.manifest.to_bytes(),
        "model.sig": b"signature",
    }


def test_genzoo_pulls_what_hf_uploaded(hub: Place, tmp_path: Path, toy_student: Checkpoint) -> None:
    """A repository of a checkpoint that another client made: verified by what the Hub says of each file."""
    folder = tmp_path / "toy-student"
    shutil.copytree(shelf.directory("toy-student"), folder)
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    (folder / "optimizer.pt").write_bytes(b"\x80\x04K\x01.")
    hf("upload", "zoo/toy-student", str(folder), ".")
    blobs = BlobStore(tmp_path / "store")
    pulled = pull("toy-student", [hub.remote], blobs, Policy(accepted="cc-by-nc-4.0"))
    expected = contents(folder)
    del expected["optimizer.pt"]
    assert {file.path: blobs.path(file.blob).read_bytes() for file in pulled.manifest.files} == expected
    assert pulled.manifest.restricted
    assert pulled.manifest.provenance["signed"] is False
    assert pulled.manifest.provenance["origin"] == "hf://zoo/toy-student"
    assert "optimizer.pt" in pulled.manifest.provenance["skipped"][0]
    again = pull("toy-student", [hub.remote], blobs, Policy(accepted="cc-by-nc-4.0"))
    assert (again.fetched, again.ref.manifest) == (0, pulled.ref.manifest)


def test_genzoo_pulls_an_artifact_that_hf_uploaded_with_its_manifest(hub: Place, tmp_path: Path) -> None:
    made = make(tmp_path)
    (made.folder / "genzoo.json").write_bytes(made.manifest.to_bytes())
    hf("upload", "zoo/toy", str(made.folder), ".")
    found = Manifest.from_bytes(hub.remote.find("toy").manifest)
    assert found == made.manifest
    assert read(hub.remote, found) == CONTENTS


def test_files_of_others_are_not_overwritten(hub: Place, tmp_path: Path) -> None:
    folder = tmp_path / "of somebody else"
    folder.mkdir()
    (folder / "weights.safetensors").write_bytes(b"weights")
    hf("upload", "zoo/toy", str(folder), ".")
    made = make(tmp_path)
    with pytest.raises(RemoteError, match="did not write"):
        hub.remote.push(made.manifest, None, made.path_of)


def test_skopeo_copies_what_genzoo_pushed(registry: Place, tmp_path: Path) -> None:
    made = make(tmp_path)
    registry.remote.push(made.manifest, b"signature", made.path_of)
    source = registry.url.replace("oci://", "docker://") + "/toy:v1"
    skopeo("copy", "--src-tls-verify=false", source, f"oci:{tmp_path / 'layout'}:v1")
    index = json.loads((tmp_path / "layout" / "index.json").read_text())
    blobs = tmp_path / "layout" / "blobs" / "sha256"
    image = json.loads((blobs / index["manifests"][0]["digest"][7:]).read_text())
    assert image["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert image["config"]["mediaType"] == "application/vnd.cncf.model.config.v1+json"
    found = {
        layer["annotations"]["org.cncf.model.filepath"]: (blobs / layer["digest"][7:]).read_bytes()
        for layer in image["layers"]
    }
    assert found == CONTENTS | {"genzoo.json": made.manifest.to_bytes()}
    skopeo("copy", "--src-tls-verify=false", source, f"dir:{tmp_path / 'dir'}")
    for file in made.manifest.files:
        assert hashlib.sha256((tmp_path / "dir" / file.sha256).read_bytes()).hexdigest() == file.sha256


def test_genzoo_pulls_what_skopeo_mirrored(registry: Place, tmp_path: Path) -> None:
    """Another registry, another namespace; the signature comes along under the tag that stands for referrers."""
    made = make(tmp_path)
    registry.remote.push(made.manifest, b"signature", made.path_of)
    source = registry.url.replace("oci://", "docker://") + "/toy"
    with Registry(tmp_path / "mirror") as mirror:
        for tag in ("v1", "latest", *_fallback_tags(registry)):
            words = ("--all", "--src-tls-verify=false", "--dest-tls-verify=false")
            skopeo("copy", *words, f"{source}:{tag}", f"docker://{mirror.host}/mirrored/toy:{tag}")
        remote = open_remote(f"oci://{mirror.host}/mirrored")
        found = remote.find("toy")
        assert Manifest.from_bytes(found.manifest) == made.manifest
        assert found.signature == b"signature"
        assert read(remote, made.manifest) == CONTENTS


def test_a_registry_that_lists_referrers_needs_no_tag_for_a_signature(registry: Place, tmp_path: Path) -> None:
    made = make(tmp_path)
    with ReferrersServer(_host(registry)) as front:
        remote = open_remote(f"oci://{front.host}/zoo")
        remote.push(made.manifest, None, made.path_of)
        assert remote.find("toy").signature is None
        for signature in (b"first", b"another"):  # of another key
            remote.push(made.manifest, signature, made.path_of)
        assert remote.find("toy").signature == b"another"
        assert read(remote, made.manifest) == CONTENTS
        assert [len(entries) for entries in front.referrers.values() if entries] == [2]
    assert _fallback_tags(registry) == []


def _host(registry: Place) -> str:
    return registry.url.removeprefix("oci://").partition("/")[0]


def _fallback_tags(registry: Place) -> list[str]:
    from urllib.request import urlopen

    with urlopen(f"http://{_host(registry)}/v2/zoo/toy/tags/list") as answer:
        return [tag for tag in json.load(answer)["tags"] if tag.startswith("sha256-")]
