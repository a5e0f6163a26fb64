"""Requests that come whether or not the last was answered, as from many people who do not know of each other.

`offered` sends at random times of a rate (Poisson); `closed` has so many clients of which each waits for its answer,
and says what a server can do at most. Times are from when a request was due, so that a client that is held up does not
hide it. `Pool` asks by HTTP over connections that stay.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

PATH = "/v1/images/generations"
MOST_OPEN = 400  # connections, below what a door takes
GAVE_UP = 0  # the status of no answer


@dataclass(frozen=True)
class Answer:
    """`took` seconds from when its request was due."""

    status: int
    took: float
    said: Mapping[str, Any]

    @property
    def good(self) -> bool:
        return self.status == 200


Ask = Callable[[int], Awaitable[tuple[int, Mapping[str, Any]]]]  # of a number: a status, and what was said


class Pool:
    """Connections to one address, each for one request at a time."""

    def __init__(self, address: str, timeout_s: float = 60.0) -> None:
        host, _, port = address.rpartition(":")
        self.host, self.port, self.timeout_s = host, int(port), timeout_s
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._open = asyncio.Semaphore(MOST_OPEN)

    async def post(self, body: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
        """The status, GAVE_UP without an answer, and what was said but for the images."""
        async with self._open:
            try:
                async with asyncio.timeout(self.timeout_s):
                    return await self._post(json.dumps(body).encode())
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                return GAVE_UP, {}

    async def _post(self, content: bytes) -> tuple[int, Mapping[str, Any]]:
        connection = self._free.pop() if self._free else await asyncio.open_connection(self.host, self.port)
        reader, writer = connection
        try:
            head = f"POST {PATH} HTTP/1.1\r\nhost: {self.host}:{self.port}\r\ncontent-type: application/json\r\n"
            writer.write(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
            answer = await _content(reader, lines)
        except BaseException:
            writer.close()
            raise
        if "connection: close" in lines:
            writer.close()
        else:
            self._free.append(connection)
        return int(lines[0].split()[1]), _without_images(answer)

    async def close(self) -> None:
        for _, writer in self._free:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def _content(reader: asyncio.StreamReader, lines: Sequence[str]) -> bytes:
    """By its length, or in chunks (RFC 9112, sections 6 and 7)."""
    lengths = [int(line.split(":")[1]) for line in lines if line.startswith("content-length:")]
    if lengths:
        return await reader.readexactly(lengths[0])
    found = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        found += (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\r\n")
    return found


def _without_images(answer: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(answer)
    except ValueError:
        return {}
    return {key: value for key, value in found.items() if key != "data"} if isinstance(found, dict) else {}


async def offered(ask: Ask, rate: float, seconds: float, seed: int = 0) -> list[Answer]:
    """Of all requests that come in so many seconds, `rate` a second; returns when the last is answered."""
    chance = random.Random(seed)
    due, at = [], chance.expovariate(rate)
    while at < seconds:
        due.append(at)
        at += chance.expovariate(rate)
    began = time.perf_counter()

    async def one(number: int, at: float) -> Answer:
        await asyncio.sleep(max(0.0, began + at - time.perf_counter()))
        status, said = await ask(number)
        return Answer(status, time.perf_counter() - began - at, said)

    return list(await asyncio.gather(*(one(number, at) for number, at in enumerate(due))))


async def closed(ask: Ask, clients: int, seconds: float) -> tuple[list[Answer], float]:
    """Of clients that each ask again once they are answered, and for how long they did."""
    began, found = time.perf_counter(), list[Answer]()

    async def client(place: int) -> None:
        number = 0
        while (now := time.perf_counter()) - began < seconds:
            status, said = await ask(place * 1_000_000 + number)
            found.append(Answer(status, time.perf_counter() - now, said))
            number += 1

    await asyncio.gather(*(client(place) for place in range(clients)))
    return found, time.perf_counter() - began


def in_time(answers: Sequence[Answer], deadline_s: float) -> list[Answer]:
    return [each for each in answers if each.good and each.took <= deadline_s]


def quantile(answers: Sequence[Answer], share: float) -> float:
    """Seconds, of those that got an image; NaN of none."""
    took = [each.took for each in answers if each.good]
    return float(np.quantile(took, share)) if took else float("nan")
