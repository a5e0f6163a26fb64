"""What a server is compared with: one by hand that makes the same images, and a load that counts what is in time."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.measure import frameworks, overload, peers
from benchmarks.measure.frameworks import FRAMEWORKS
from benchmarks.measure.frameworks.made import Maker
from benchmarks.measure.open_loop import Ask
from export.runtimes import Runtime
from serving import interface
from serving.generators import in_process
from zoo.contract.request import SampleRequest, Setting


def test_the_peer_makes_the_images_of_the_contract() -> None:
    with peers.peer("gan", Runtime.TORCH) as address:
        connection = http.client.HTTPConnection(address, timeout=60)
        body = json.dumps({"model": "gan", "seed": 7})
        connection.request("POST", "/v1/images/generations", body, {"content-type": "application/json"})
        [image] = json.loads(connection.getresponse().read())["data"]
        connection.close()
        with peers.by_http(address, peers.body_of("gan", Setting())) as ask:
            ask(3)
    with Image.open(BytesIO(base64.b64decode(image["b64_json"]))) as picture:
        found = np.asarray(picture)[..., None]
    generator = in_process("gan", Runtime.TORCH, ungated=True)
    own = generator.run(**interface.tensors(generator.spec, SampleRequest((7,))))["image"][0]
    np.testing.assert_array_equal(found, own)


def test_a_load_is_of_so_many_clients_and_seeds_never_come_twice() -> None:
    seeds: list[int] = []

    @contextmanager
    def client() -> Iterator[Callable[[int], None]]:
        def ask(seed: int) -> None:
            seeds.append(seed)
            time.sleep(0.02)

        yield ask

    took, seconds = peers.load(client, 4, 0.5)
    assert len(took) == len(seeds) == len(set(seeds))
    assert {seed // 1_000_000 for seed in seeds} == set(range(4))
    assert min(took) >= 0.02
    assert 0.5 <= seconds < 5.0


def test_what_is_late_is_not_counted() -> None:
    seen = peers.Seen()
    seen.add([0.1, 0.2, 0.3, 2 * peers.LATE_S], 2.0)
    assert seen.good == [1.5]
    assert seen.p50 == pytest.approx([0.25])


def test_ratios_are_those_of_a_round() -> None:
    found = {}
    for clients in peers.CLIENTS:
        for name, rates in ((peers.PEER, (10.0, 20.0, 40.0)), ("the door", (20.0, 40.0, 60.0))):
            found[name, clients] = peers.Seen(list(rates), [0.1] * 3, [0.2] * 3)
    plain, door = peers.rows("gan", found)
    assert plain.startswith(f"| `gan` | {peers.PEER} | 1; 100 / 200 ms |")
    assert "2.00 (1.50 to 2.00); 100 / 200 ms" in door


def test_a_plain_one_that_is_late_with_all_is_no_measure() -> None:
    found = {}
    for clients in peers.CLIENTS:
        found[peers.PEER, clients] = peers.Seen([0.0] * 3, [2.0] * 3, [3.0] * 3)
        found["the door", clients] = peers.Seen([9.0] * 3, [0.1] * 3, [0.2] * 3)
    _, door = peers.rows("gan", found)
    assert f"{peers.PEER} none in time; 100 / 200 ms" in door


def test_what_is_measured_against_is_pinned_with_the_torch_that_is_ours() -> None:
    """Else a ratio would be of two releases of it."""
    own = next(line for line in Path("constraints.txt").read_text().splitlines() if line.startswith("torch=="))
    for framework in FRAMEWORKS:
        pinned = (frameworks.HERE / f"{framework.name}.txt").read_text().splitlines()
        assert own in pinned
        assert all("==" in line for line in pinned if not line.startswith("#"))
        assert any(line.startswith(f"{framework.name.split('-')[0]}==") for line in pinned)


def test_a_batch_of_wishes_is_each_one_s_own_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENZOO_GENERATOR", "ddpm-pd4")
    maker = Maker()
    wishes = [{"seed": 3}, {"seed": 7, "num_steps": 4, "sampler": "ddim"}, {"seed": 5}]
    together = maker(wishes)
    assert len(set(together)) == 3
    for wish, image in zip(wishes, together, strict=True):
        pictures = [np.asarray(Image.open(BytesIO(base64.b64decode(each)))) for each in (image, *maker([wish]))]
        assert np.abs(pictures[0].astype(int) - pictures[1]).max() <= 1


def test_beyond_what_it_can_do_a_server_is_late() -> None:
    """Of one that makes an image in 10 ms, one at a time."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Ask]:
        turn = asyncio.Lock()

        async def ask(number: int) -> tuple[int, dict[str, object]]:
            async with turn:
                await asyncio.sleep(0.01)
            return 200, {}

        yield ask

    found = overload.measured({"it": opened}, {"it": 90.0}, 1.0, 0.1)
    calm, crowd = found["it", 0.5], found["it", 2.0]
    assert calm.goodput > 30.0
    assert calm.p50 < 0.1 < crowd.p50
    assert crowd.goodput < 0.5 * crowd.rate
    [line] = overload.rows("gan", found, {"it": 90.0})
    assert line.startswith("| `gan` | it | 90 | ")
    assert len(overload.heading()[0].split("|")) == len(line.split("|"))
