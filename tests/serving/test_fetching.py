"""What a container brings itself: signed or not at all, and once it is there without the mirrors."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from export.bundle import Bundle
from serving.fetching import FetchError, Wish, parted, repository
from serving.ports import HOST
from tests.zoo.keys import Pair, pair
from tests.zoo.pulling import Artifact
from zoo.errors import GenzooError
from zoo.store.artifact import Kind
from zoo.store.remotes import open_remote


@pytest.fixture
def alice(tmp_path: Path) -> Pair:
    return pair(tmp_path / "keys", "alice")


@pytest.fixture
def mirror(bundles: dict[str, Bundle], tmp_path: Path, alice: Pair, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that has a signed bundle, to a host that has nothing."""
    monkeypatch.setenv("GENZOO_HOME", str(tmp_path / "cache"))
    return published(bundles["toy-gan"], tmp_path / "mirror", alice)


def published(bundle: Bundle, folder: Path, key: Pair | None) -> Path:
    Artifact(bundle.path, f"{bundle.name}.bundle.fp32", Kind.BUNDLE).push(open_remote(str(folder)), key)
    return folder


def test_options_are_its_own_or_triton_s(tmp_path: Path) -> None:
    words = ["--fetch=gan", "--http-port=1", "--from=https://a", "--fetch=ddpm", "--key=k.pem", "--engine=sm89"]
    wish, others = parted([*words, "--fro=x"])
    assert wish == Wish(("gan", "ddpm"), ("https://a",), Path("k.pem"), ("sm89",))
    assert others == ["--http-port=1", "--fro=x"]
    assert parted(["--model-repository=/models"]) == (None, ["--model-repository=/models"])
    with pytest.raises(FetchError, match="--fetch needs --key"):
        parted(["--fetch=gan"])
    with pytest.raises(FetchError, match="name generators, --fetch=NAME"):
        parted(["--engine=sm89"])
    with pytest.raises(FetchError, match="no engine is for 'sm1': choose of portable, sm80"):
        repository(Wish(("gan",), (), tmp_path, ("sm1",)), tmp_path)


def test_what_was_fetched_is_served_without_the_mirror_too(
    mirror: Path, tmp_path: Path, alice: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    wish = Wish(("toy-gan",), (str(mirror),), alice.public, ())
    first = repository(wish, tmp_path / "models")
    files = {path.relative_to(first): path.read_bytes() for path in first.rglob("*") if path.is_file()}
    assert Path("toy-gan_generator/1/model.onnx") in files
    shutil.rmtree(mirror)
    caplog.clear()
    second = repository(wish, tmp_path / "models")
    assert second == first, "the pod's own, new at each start"
    assert files == {path.relative_to(second): path.read_bytes() for path in second.rglob("*") if path.is_file()}
    assert "toy-gan fp32 version 1 is served as it is here" in caplog.text


def test_a_stranger_s_bundle_is_not_served(
    mirror: Path, bundles: dict[str, Bundle], tmp_path: Path, alice: Pair
) -> None:
    mallory = pair(tmp_path / "keys", "mallory")
    with pytest.raises(GenzooError, match="none of the 1 trusted ones"):
        repository(Wish(("toy-gan",), (str(mirror),), mallory.public, ()), tmp_path / "models")
    unsigned = published(bundles["toy-ddpm"], tmp_path / "unsigned", None)
    with pytest.raises(GenzooError, match="sign"):
        repository(Wish(("toy-ddpm",), (str(unsigned),), alice.public, ()), tmp_path / "models")
    assert not (tmp_path / "models").exists()


def container(*options: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "serving.entrypoint", *options]
    return subprocess.Popen(words, env=os.environ, stderr=subprocess.PIPE, text=True)


def test_what_cannot_be_had_is_one_sentence_and_ends_the_container(mirror: Path, tmp_path: Path, alice: Pair) -> None:
    options = (f"--model-repository={tmp_path}/models", "--fetch=no-such", f"--from={mirror}", f"--key={alice.public}")
    with container(*options) as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.startswith("error: ")
    assert "no-such" in said
    assert len(said.splitlines()) == 1


def test_a_container_that_is_told_to_end_does_not_wait_for_a_mirror(tmp_path: Path, alice: Pair) -> None:
    with socket.create_server((HOST, 0)) as silent:
        silent.settimeout(30)
        where = f"http://{HOST}:{silent.getsockname()[1]}/zoo"
        process = container("--fetch=toy-gan", f"--from={where}", f"--key={alice.public}")
        try:
            with silent.accept()[0]:  # it asks, and gets no answer
                process.send_signal(signal.SIGTERM)
                assert process.wait(10) == 128 + signal.SIGTERM
        finally:
            process.kill()
            process.communicate()
