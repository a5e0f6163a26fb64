"""Load that comes by itself, and what is said of `auto` under it; the command itself needs a quiet host."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

import pytest

from benchmarks.measure import auto, open_loop
from benchmarks.measure.auto import AUTO, Seen
from benchmarks.measure.open_loop import Answer, Pool
from serving import front
from serving.front import Point
from zoo.contract.request import Setting


async def in_a_while(number: int) -> tuple[int, Mapping[str, Any]]:
    await asyncio.sleep(0.02)
    return 200, {"number": number}


def test_requests_come_at_a_rate_and_wait_for_nobody() -> None:
    began = time.perf_counter()
    found = asyncio.run(open_loop.offered(in_a_while, 400.0, 1.0))
    assert time.perf_counter() - began < 10.0, "400 times 20 ms one after the other would be 8 s and more"
    assert 320 < len(found) < 480
    assert sorted(int(each.said["number"]) for each in found) == list(range(len(found)))
    assert all(each.took >= 0.02 for each in found)
    again = asyncio.run(open_loop.offered(in_a_while, 400.0, 1.0))
    assert len(again) == len(found), "of one seed the same load"


def test_a_request_that_was_due_is_late_from_then_on() -> None:
    async def stalls(number: int) -> tuple[int, Mapping[str, Any]]:
        time.sleep(0.05)  # the client itself is held up
        return 200, {}

    found = asyncio.run(open_loop.offered(stalls, 100.0, 0.3))
    assert max(each.took for each in found) > 0.2


def test_clients_wait_for_their_answers() -> None:
    found, seconds = asyncio.run(open_loop.closed(in_a_while, 4, 0.3))
    assert len({int(each.said["number"]) for each in found}) == len(found) <= 4 * 15
    assert 0.3 <= seconds < 3.0


def test_a_pool_keeps_connections_and_says_where_there_was_no_answer() -> None:
    opened, bodies = [0], list[Any]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened[0] += 1
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            bodies.append(json.loads(await reader.readexactly(length)))
            if bodies[-1]["seed"] == 2:
                writer.close()
                return
            said = json.dumps({"data": ["an image"], "generator": {"name": "gan"}}).encode()
            if bodies[-1]["seed"] == 1:
                parts = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (said[:9], said[9:], b""))
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + parts)
            else:
                writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(said)}\r\n\r\n".encode() + said)

    async def ask() -> list[tuple[int, Mapping[str, Any]]]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        pool = Pool(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        found = [await pool.post({"model": "gan", "seed": seed}) for seed in range(4)]
        await pool.close()
        server.close()
        return found

    found = asyncio.run(ask())
    assert found[0] == found[1] == (200, {"generator": {"name": "gan"}}), "without the images"
    assert [status for status, _ in found] == [200, 200, open_loop.GAVE_UP, 200]
    assert [body["seed"] for body in bodies] == [0, 1, 2, 3]
    assert opened[0] == 2


POINT = Point("ddpm 20 g2", "ddpm", "", Setting(20, guidance_scale=2.0), 40, 30.0, {"a": 1.0, "b": 4.0})
QUICK = Point("ddpm-pd1 1", "ddpm-pd1", "", Setting(1, "ddim"), 1, 2.0, {"a": 9.0, "b": 9.0})


def test_a_choice_is_asked_for_by_its_own_words() -> None:
    assert auto.body(None, 0.25) == {"model": "auto", "deadline_ms": 250}
    asked = auto.body(POINT, 0.25)
    assert asked == {"model": "ddpm", "num_steps": 20, "guidance_scale": 2.0, "deadline_ms": 250}
    assert "guidance_scale" not in auto.body(QUICK, 0.25)


def test_what_was_seen_is_of_what_was_in_time() -> None:
    known = {each.title: each for each in (POINT, QUICK)}
    said = [{"generator": {"chosen": title}} for title in known]
    answers = [Answer(200, 0.1, said[0]), Answer(200, 0.2, said[1]), Answer(200, 0.9, said[0]), Answer(503, 0.01, {})]
    found = auto.seen(answers, None, known, 2.0, 0.25)
    assert found.goodput == 1.0
    assert found.distance == pytest.approx((2.0 + 9.0) / 2)
    assert found.chosen == {"ddpm 20 g2": 1, "ddpm-pd1 1": 1}
    assert (found.turned_away, found.asked) == (1, 4)
    assert found.p50 == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("goodput", "distance", "other", "sentence"),
    [
        (95.0, 3.0, (96.0, 4.0), "at least 0.9), at a mean distance of 3.00: no fixed choice with as many is better"),
        (95.0, 3.0, (96.0, 2.0), "**better images and as many in time** have `ddpm-pd1 1`"),
        (80.0, 3.0, (20.0, 2.0), "**less than** 0.9), and no fixed choice has as many"),
    ],
)
def test_a_claim_is_held_against_what_was_seen(
    goodput: float, distance: float, other: tuple[float, float], sentence: str
) -> None:
    def one(goodput: float, distance: float) -> Seen:
        return Seen(goodput, distance, 0.1, 0.2, {"ddpm-pd1 1": 1}, 1, 4)

    found = {(2.0, AUTO): one(goodput, distance), (2.0, "ddpm-pd1 1"): one(*other)}
    text = auto.verdict(found, 100.0, 2.0)
    assert sentence in text
    lines = auto.table(100.0, "ddpm-pd1 1", found, 0.25)
    assert text in lines
    assert lines[-1] == "Of its requests at 2 it turned 25% away at once, and 50% were late."


def test_choices_are_of_one_data_set() -> None:
    known = front.read()["fashion_mnist"].points
    assert {"ddpm-pd1 1", "ddpm 50"} <= {point.title for point in known}
    assert auto.distance(POINT) == pytest.approx(2.0)
