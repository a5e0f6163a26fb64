"""What a server is compared with: one by hand that makes the same images, and a load that counts what is in time."""

from __future__ import annotations

import base64
import http.client
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from benchmarks.measure import peers
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
        with peers.by_http(address, "gan", Setting()) as ask:
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
