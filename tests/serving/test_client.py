"""The client in an event loop: the same answers and errors as in a thread, and requests that are taken back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from export.bundle import Bundle
from serving import client, model_repository
from serving.client import BUSY, LATE, REFUSED, ServingError, TritonRunner, connected
from serving.images import Encoding
from serving.ports import HOST
from serving.server import TritonServer
from tests.serving.conftest import ITERATIVE, ONE_SHOT
from tests.serving.test_server import stub

anyio = pytest.mark.anyio
SEED = np.arange(3, dtype=np.uint64)


@anyio
async def test_many_at_once_are_the_images_of_a_thread(server: TritonServer) -> None:
    async with connected(server.grpc_url) as runners:
        assert {name: runner.spec for name, runner in runners.items()} == {"toy-gan": ONE_SHOT, "toy-ddpm": ITERATIVE}
        made = await asyncio.gather(*(runners[name].run(seed=SEED + 7) for name in ["toy-gan", "toy-ddpm"] * 4))
    for name, found in zip(["toy-gan", "toy-ddpm"] * 4, made, strict=True):
        expected = TritonRunner(server.grpc_url, name).run(seed=SEED + 7)["image"]
        np.testing.assert_array_equal(found["image"], expected)


@anyio
async def test_errors_are_the_sentences_of_a_thread(server: TritonServer) -> None:
    async with connected(server.grpc_url, ["toy-ddpm"]) as runners:
        runner = runners["toy-ddpm"]
        with pytest.raises(ServingError, match="class_id 10 is outside 0 to 9") as raised:
            await runner.run(seed=SEED[:1], class_id=np.array([10]))
        assert raised.value.code == REFUSED
        with pytest.raises(ServingError, match="not served of the tier '40dB'"):
            await runner.within(5.0, "40dB").run(seed=SEED)
        assert (await runner.run(seed=SEED))["image"].shape == (3, 8, 8, 1)
    with pytest.raises(ServingError, match=r"unknown model 'toy-gann' at .*: did you mean toy-gan"):
        async with connected(server.grpc_url, ["toy-gann"]):
            pass
    with pytest.raises(ServingError, match="no Triton server answers at") as raised:
        async with connected(f"{HOST}:1"):
            pass
    assert raised.value.code == BUSY


def long(steps: int = 1000, images: int = 64) -> dict[str, np.ndarray]:
    return {"seed": np.arange(images, dtype=np.uint64), "num_steps": np.full(images, steps, np.int32)}


@anyio
async def test_a_deadline_is_of_a_request_with_its_repetitions(server: TritonServer) -> None:
    async with connected(server.grpc_url, ["toy-ddpm"]) as runners:
        began = time.monotonic()
        with pytest.raises(ServingError) as raised:
            await runners["toy-ddpm"].within(0.01).run(**long(images=1280))  # twenty calls of a dozen milliseconds
        assert time.monotonic() - began < 1.0
    assert raised.value.code in (BUSY, LATE)


@anyio
async def test_who_is_cancelled_waits_no_longer_and_holds_nobody_up(server: TritonServer) -> None:
    async with connected(server.grpc_url, ["toy-ddpm"]) as runners:
        tasks = [asyncio.ensure_future(runners["toy-ddpm"].run(**long())) for _ in range(8)]
        await asyncio.sleep(0.01)
        began = time.monotonic()
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert time.monotonic() - began < 0.5
        assert any(isinstance(each, asyncio.CancelledError) for each in ended)
        assert (await runners["toy-ddpm"].run(seed=SEED))["image"].shape == (3, 8, 8, 1)


@anyio
async def test_calls_that_are_given_up_while_they_are_answered_do_not_end_the_server(server: TritonServer) -> None:
    """Triton's gRPC ended by SIGSEGV after some two thousand of them that were taken back."""
    async with connected(server.grpc_url, ["toy-gan", "toy-ddpm"]) as runners:

        async def give_up(index: int) -> None:
            for turn in range(500):
                runner, seconds = runners[["toy-gan", "toy-ddpm"][turn % 2]], 0.0005 * (1 + (turn + index) % 40)
                with contextlib.suppress(ServingError, TimeoutError):
                    if turn % 4 < 2:
                        await runner.within(max(seconds, 0.001)).run(seed=SEED)
                    else:
                        await asyncio.wait_for(runner.run(seed=SEED), seconds)

        await asyncio.gather(*map(give_up, range(8)))
        assert (await runners["toy-gan"].run(seed=SEED))["image"].shape == (3, 8, 8, 1)
    assert "Signal (11)" not in server.log.read_text()


@pytest.mark.parametrize(
    "encoding", [Encoding(), Encoding("webp"), Encoding("webp", 60), Encoding("jpeg", 80)], ids=str
)
@anyio
async def test_pictures_come_encoded(server: TritonServer, encoding: Encoding) -> None:
    runner = TritonRunner(server.grpc_url, "toy-gan")
    images = runner.run(seed=SEED)["image"]
    async with connected(server.grpc_url, ["toy-gan"]) as runners:
        assert await runners["toy-gan"].pictures(encoding, seed=SEED) == runner.pictures(encoding, seed=SEED)
    for picture, image in zip(runner.pictures(encoding, seed=SEED), images, strict=True):
        with Image.open(BytesIO(picture)) as found:
            assert (found.format or "").lower() == encoding.format
            if encoding.quality == 100:
                np.testing.assert_array_equal(np.asarray(found.convert("L")), image[..., 0])


def test_what_ends_after_its_event_loop_breaks_no_later_one(server: TritonServer) -> None:
    async def late() -> bool:
        async with connected(server.grpc_url, ["toy-gan", "toy-ddpm"]) as runners:
            asked = [runners["toy-gan"].within(0.001).run(seed=SEED), runners["toy-ddpm"].within(0.01).run(**long())]
            return any(isinstance(each, ServingError) for each in await asyncio.gather(*asked, return_exceptions=True))

    seen: list[dict[str, Any]] = []

    async def later() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: seen.append(context))
        async with connected(server.grpc_url, ["toy-ddpm"]) as runners:
            assert (await runners["toy-ddpm"].run(seed=SEED))["image"].shape == (3, 8, 8, 1)

    were_late = []
    for _ in range(20):
        with contextlib.closing(asyncio.new_event_loop()) as loop:
            were_late.append(loop.run_until_complete(late()))
        asyncio.run(later())
    assert any(were_late)
    assert seen == []


def test_what_a_killed_process_had_in_flight_is_asked_again(toy_bundles: Mapping[str, Path], tmp_path: Path) -> None:
    """Of what goes row by row Triton would not say that nobody makes it any more."""
    name, asked = "toy-diffusion", long(1000, 1)
    repository = model_repository.write([Bundle.open(toy_bundles[name])], tmp_path / "models", allow_unadmitted=True)
    with TritonServer(repository, tmp_path / "log", canary_seconds=0.5) as server:
        runner = TritonRunner(server.grpc_url, name, timeout_s=60)
        expected = runner.run(**asked)["image"]

        async def of_a_loop() -> list[np.ndarray]:
            async with connected(server.grpc_url, [name], timeout_s=60) as runners:
                made = asyncio.gather(*(runners[name].run(**asked) for _ in range(3)))
                await asyncio.sleep(0.2)
                os.kill(stub(server.pid, name), signal.SIGKILL)
                return [each["image"] for each in await made]

        with ThreadPoolExecutor(3) as pool:
            made = [pool.submit(runner.run, **asked) for _ in range(3)]
            found = asyncio.run(of_a_loop()) + [each.result()["image"] for each in made]
        assert all(np.array_equal(each, expected) for each in found)
        assert server.supervisor is not None
        assert server.supervisor.heals[name] == 1


def test_of_several_servers_the_least_busy_is_asked_and_one_that_dies_loses_nothing(
    toy_bundles: Mapping[str, Path], bundles: dict[str, Bundle], tmp_path: Path
) -> None:
    names = ["toy-diffusion", "toy-gan"]
    both = [Bundle.open(toy_bundles["toy-diffusion"]), bundles["toy-gan"]]
    repository = model_repository.write(both, tmp_path / "models", allow_unadmitted=True)
    requests = [("toy-gan", {"seed": SEED + index}) for index in range(60)]
    requests += [("toy-diffusion", long(20 + 40 * (index % 3), 2)) for index in range(60)]

    async def ask(url: str, ends: int = 0) -> list[np.ndarray]:
        async with connected(url, names, timeout_s=60) as runners:
            left, found = iter(enumerate(requests)), {}

            async def client() -> None:
                for index, (name, tensors) in left:
                    found[index] = (await runners[name].run(**tensors))["image"]
                    if ends and index == 40:
                        os.kill(ends, signal.SIGKILL)

            await asyncio.gather(*(client() for _ in range(12)))
            return [found[index] for index in range(len(requests))]

    with ExitStack() as stack:
        servers = [
            stack.enter_context(TritonServer(repository, tmp_path / f"log{index}", canary_seconds=0.0))
            for index in range(3)
        ]
        expected = asyncio.run(ask(servers[0].grpc_url))
        urls = ",".join(each.grpc_url for each in servers)
        made = asyncio.run(ask(urls, ends=servers[1].pid))
        assert all(np.array_equal(*each) for each in zip(made, expected, strict=True))
        last = asyncio.run(ask(urls))  # one is not there from the beginning
        assert all(np.array_equal(*each) for each in zip(last, expected, strict=True))
        answered = [TritonRunner(each.grpc_url, "toy-gan") for each in (servers[0], servers[2])]
        assert all(images(each) > 20 for each in answered), "both that are left were asked"


def images(runner: TritonRunner) -> int:
    """That a server has made of a model."""
    request = runner._messages.ModelStatisticsRequest(name=runner.name)
    return int(runner._stub.ModelStatistics(request).model_stats[0].inference_count)


def test_a_name_is_that_of_all_servers_that_it_stands_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of the pods of a headless service."""
    found = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 8001, 0, 0)),
        *((socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"10.0.0.{index}", 8001)) for index in (1, 2)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert client._addresses("pods:8001") == ["10.0.0.1:8001", "10.0.0.2:8001"]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found[:1])
    assert client._addresses("pods:8001") == ["[::1]:8001"]
    monkeypatch.undo()
    assert client._addresses("127.0.0.1:8001") == ["127.0.0.1:8001"]
    assert client._addresses("no-port") == ["no-port"]
