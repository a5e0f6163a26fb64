"""A new version beside the one that is served: swapped under load without a failed request, or not taken."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from export.bundle import Bundle
from serving import control, model_repository
from serving.client import TritonRunner
from serving.endpoint import Endpoint
from serving.model_repository import RepositoryError
from serving.server import ServerError, TritonServer
from tests.serving.conftest import ITERATIVE, ONE_SHOT, make_bundle
from tests.serving.test_server import in_process
from zoo.files import HOME_VARIABLE

SEED = np.arange(4, dtype=np.uint64)
CLASSES = np.array([1, 2, 3, 4])


def asked(runner: TritonRunner) -> np.ndarray:
    return runner.run(seed=SEED, class_id=CLASSES)["image"]


@contextmanager
def load_of(url: str, name: str, seen: list[np.ndarray]) -> Iterator[None]:
    """Four clients that ask without a pause for the time of the block, and fail with what fails for them."""
    ended = threading.Event()

    def ask() -> None:
        runner = TritonRunner(url, name, timeout_s=20)
        while not ended.is_set():
            seen.append(asked(runner))

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(ask) for _ in range(4)]
        try:
            yield
        finally:
            ended.set()
        for client in clients:
            client.result()


@pytest.mark.parametrize("spec", [ONE_SHOT, ITERATIVE], ids=lambda spec: spec.name)
def test_a_new_version_takes_over_under_load(spec: object, tmp_path: Path) -> None:
    first, second = (make_bundle(tmp_path / str(scale), spec, scale=scale) for scale in (4.0, 40.0))  # type: ignore[arg-type]
    before, after = (in_process(each).run(seed=SEED, class_id=CLASSES)["image"] for each in (first, second))
    assert (before != after).any()
    repository = model_repository.write([first], tmp_path / "models")
    seen: list[np.ndarray] = []
    with TritonServer(repository, tmp_path / "log", canary_seconds=0.2) as server:
        name = first.spec.name
        assert server.renew(first).version == 1, "nothing is new"
        with load_of(server.grpc_url, name, seen):
            assert server.renew(second).version == 2
            counted = len(seen)
            runner = TritonRunner(server.grpc_url, name)
            for _ in range(20):
                np.testing.assert_array_equal(asked(runner), after)
        assert counted > 0
        assert all(any(np.array_equal(each, version) for version in (before, after)) for each in seen)
        assert not list(repository.path.glob("*/1")), "the old version takes no room"
        assert [(each.version, each.spec) for each in Endpoint(server.http_url).generators()] == [(2, first.spec)]
        assert server.supervisor is not None
        assert server.supervisor.heals[name] == 0, "the old version's process was missed"
        server.supervisor.heal(server.repository.models[0])  # as when its process has died
        np.testing.assert_array_equal(asked(runner), after)
        assert server.renew(first).version == 3
        np.testing.assert_array_equal(asked(runner), before)


def test_what_fails_is_not_taken(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    broken = make_bundle(tmp_path / "broken", ONE_SHOT, scale=float("nan"))
    repository = model_repository.write([bundles["toy-gan"]], tmp_path / "models")
    versions = sorted(repository.path.glob("*/[0-9]*"))
    configs = {path: path.read_text() for path in repository.path.rglob("*.pbtxt")}
    with TritonServer(repository, tmp_path / "log", canary_seconds=0.2) as server:
        runner = TritonRunner(server.grpc_url, "toy-gan")
        before = asked(runner)
        with pytest.raises(ServerError, match=r"toy-gan is served as before: the new version failed .*scale"):
            server.renew(broken)
        np.testing.assert_array_equal(asked(runner), before)
        assert sorted(repository.path.glob("*/[0-9]*")) == versions
        assert {path: path.read_text() for path in repository.path.rglob("*.pbtxt")} == configs
        assert server.repository == repository
        with pytest.raises(RepositoryError, match="has no toy-ddpm: serve it anew"):
            server.renew(bundles["toy-ddpm"])
        unadmitted = make_bundle(tmp_path / "refused", ONE_SHOT, admitted=False)
        with pytest.raises(RepositoryError, match="was refused by the gate"):
            server.renew(unadmitted)
        assert server.renew(make_bundle(tmp_path / "good", ONE_SHOT, scale=9.0)).version == 2


def test_the_command_reaches_the_server_that_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    with pytest.raises(control.ControlError, match="no server of this home serves toy-gan: none runs"):
        list(control.reload([("toy-gan", "toy-gan")]))
    place = tmp_path / "toy-gan"
    make_bundle(place, ONE_SHOT)
    command = [sys.executable, "-m", "genzoo"]
    with subprocess.Popen([*command, "serve", place, "--json"], stdout=subprocess.PIPE, text=True) as serving:
        try:
            assert serving.stdout
            ready = json.loads(serving.stdout.readline())
            runner = TritonRunner(ready["grpc"], "toy-gan")
            before = asked(runner)
            shutil.rmtree(place)
            make_bundle(place, ONE_SHOT, scale=40.0)
            said = subprocess.run([*command, "reload", place, "--json"], stdout=subprocess.PIPE, check=True).stdout
            assert json.loads(said) == [{"pid": serving.pid, "name": "toy-gan", "version": 2}]
            assert (asked(runner) != before).any()
            with pytest.raises(
                control.ControlError, match=f"is process 1 and serves toy-gan: process {serving.pid} serves toy-gan"
            ):
                list(control.reload([("toy-gan", str(place))], pid=1))
        finally:
            serving.send_signal(signal.SIGINT)
    assert list(control.running()) == []
