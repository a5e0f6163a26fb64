"""Contenders beyond what they can do: requests at random times, at shares of what each answers at most."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.measure.frameworks import GONE_S
from benchmarks.measure.open_loop import Answer, Ask, Pool, in_time, offered, quantile
from serving import interface
from serving.client import LATE, ServingError, connected
from zoo.contract.request import SampleRequest, Setting

SHARES = (0.5, 0.8, 1.0, 1.2, 2.0)
PAUSE_S = 0.5  # between two loads

Opened = Callable[[], AbstractAsyncContextManager[Ask]]


@dataclass(frozen=True)
class Load:
    """Of one contender at one rate: images in time a second, and seconds of those that were answered."""

    rate: float
    goodput: float
    p50: float
    p99: float

    @classmethod
    def of(cls, answers: Sequence[Answer], rate: float, seconds: float, late_s: float) -> Load:
        good = len(in_time(answers, late_s)) / seconds
        return cls(rate, good, quantile(answers, 0.5), quantile(answers, 0.99))


@asynccontextmanager
async def by_http(address: str, body: Callable[[int], Mapping[str, Any]]) -> AsyncIterator[Ask]:
    pool = Pool(address, GONE_S)
    try:
        yield lambda number: pool.post(body(number))
    finally:
        await pool.close()


@asynccontextmanager
async def by_grpc(url: str, name: str, setting: Setting) -> AsyncIterator[Ask]:
    async with connected(url, [name], timeout_s=GONE_S) as runners:
        runner = runners[name]

        async def ask(number: int) -> tuple[int, Mapping[str, Any]]:
            try:
                await runner.run(**interface.tensors(runner.spec, SampleRequest((number,), setting=setting)))
            except ServingError as error:
                return (504 if error.code == LATE else 503), {}
            return 200, {}

        yield ask


def measured(
    contenders: Mapping[str, Opened], capacities: Mapping[str, float], seconds: float, late_s: float
) -> dict[tuple[str, float], Load]:
    """By contender and share of its capacity, which is in images a second; loads in turns."""
    found: dict[tuple[str, float], Load] = {}
    for turn, share in enumerate(SHARES):
        for name in list(contenders)[:: 1 if turn % 2 else -1]:
            rate = share * capacities[name]
            if rate > 0.0:
                found[name, share] = asyncio.run(_one(contenders[name], rate, seconds, late_s, turn))
    return found


async def _one(opened: Opened, rate: float, seconds: float, late_s: float, seed: int) -> Load:
    async with opened() as ask:
        answers = await offered(ask, rate, seconds, seed)
    await asyncio.sleep(PAUSE_S)
    return Load.of(answers, rate, seconds, late_s)


def rows(generator: str, found: Mapping[tuple[str, float], Load], capacities: Mapping[str, float]) -> list[str]:
    """A line a contender: goodput as a share of its capacity, p50 and p99."""
    lines = []
    for name, most in capacities.items():
        cells = [_cell(found[name, share], most) if (name, share) in found else "" for share in SHARES]
        lines.append(f"| `{generator}` | {name} | {most:.0f} | {' | '.join(cells)} |")
    return lines


def heading() -> list[str]:
    cells = " | ".join(f"at {share:.0%}" for share in SHARES)
    return [f"| | | images a second | {cells} |", f"|---|---|--:|{'---|' * len(SHARES)}"]


def _cell(load: Load, most: float) -> str:
    return f"{load.goodput / most:.2f}; {_ms(load.p50)} / {_ms(load.p99)} ms"


def _ms(seconds: float) -> str:
    value = seconds * 1e3
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
