"""The client in an event loop: the same answers and errors as in a thread, and requests that are taken back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from serving.client import BUSY, LATE, REFUSED, ServingError, TritonRunner, connected
from serving.images import Encoding
from serving.ports import HOST
from serving.server import TritonServer
from tests.serving.conftest import ITERATIVE, ONE_SHOT

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
            await runners["toy-ddpm"].within(0.01).run(**long())
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


def test_several_servers_of_one_name_are_asked_in_turn() -> None:
    """As the pods of a headless service are: by two servers here that count."""
    asked = [0, 0]

    def answering(place: int) -> Any:
        class Service(service_pb2_grpc.GRPCInferenceServiceServicer):
            def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
                config = model_config_pb2.ModelConfig(input=[{"name": "seed", "dims": [1]}])
                return service_pb2.ModelConfigResponse(config=config)

            def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
                asked[place] += 1
                return service_pb2.ModelInferResponse()

        server = grpc.server(ThreadPoolExecutor(2))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Service(), server)
        return server

    servers = [answering(place) for place in range(2)]
    ports = [server.add_insecure_port("127.0.0.1:0") for server in servers]
    for server in servers:
        server.start()
    try:
        runner = TritonRunner("ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports), "anything")
        deadline = time.monotonic() + 10.0
        while min(asked) < 5 and time.monotonic() < deadline:  # the second connection may stand later
            runner.run(seed=SEED)
        runner.close()
    finally:
        for server in servers:
            server.stop(0).wait()
    assert min(asked) >= 5, asked
