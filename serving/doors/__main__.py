"""`python -m serving.doors --triton HOST:PORT`: OpenAI's image API over a Triton that is running."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import uvicorn
from PIL import Image

from serving import front
from serving.client import ServingError, connected
from serving.doors.auto import Auto, Group
from serving.doors.limits import LOOPBACK, Budgets, Guard, Keys, Limits, protocol
from serving.doors.metrics import Metrics
from serving.doors.openai import application
from serving.doors.orders import Offer
from serving.doors.schema import DoorError
from serving.doors.tracing import Traces, traces
from serving.doors.watch import Watched
from serving.logs import LogFormat, begin
from serving.ports import HOST
from zoo.errors import GenzooError

GRACE_S, LOOK_S = 3, 1.0
MAX_PIXELS = 1 << 24  # of a picture that is sent, half of which Pillow begins to warn at


def main(words: Sequence[str]) -> int:
    """Serves until SIGTERM or SIGINT; what a person can act on is one sentence."""
    asked = _arguments().parse_args(words)
    begin(LogFormat(asked.log_format))
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    limits = Limits(**{each.name: getattr(asked, each.name) for each in dataclasses.fields(Limits)})
    try:
        fronts = front.read(asked.front)
        told = traces(asked.traces)
        keys, address = Keys.of(asked.keys), (asked.host, asked.port)
        _check(asked.host, keys)
        asyncio.run(_wait(asked.triton, asked.wait))
        asyncio.run(_serve(asked.triton, address, keys, limits, fronts, told))
        told.close()
    except (GenzooError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serving.doors", description=__doc__)
    parser.add_argument("--triton", required=True, help="its gRPC address, HOST:PORT")
    parser.add_argument("--host", default=HOST, help="the address to listen at; beyond this machine only with keys")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--keys", type=Path, help="a file of API keys, lines of NAME KEY")
    parser.add_argument("--front", type=Path, default=front.PATH, help="what was measured, of which `auto` chooses")
    parser.add_argument("--wait", type=float, default=0.0, metavar="S", help="for a server that is not there yet")
    parser.add_argument("--log-format", choices=list(LogFormat), default=LogFormat.TEXT, help="json: each request too")
    parser.add_argument("--traces", default="", metavar="URL", help="a collector of traces that takes OTLP over HTTP")
    for each in dataclasses.fields(Limits):
        option = f"--{each.name.replace('_', '-')}"
        parser.add_argument(option, type=type(each.default), default=each.default, metavar="N", help=f"{each.default}")
    return parser


def _check(host: str, keys: Keys) -> None:
    """Raises DoorError."""
    if host not in LOOPBACK and not keys.known:
        raise DoorError(f"{host} is open to other machines: give --keys, a file of lines of NAME KEY")


async def _wait(triton: str, seconds: float) -> None:
    """For a server that answers, so long at most; whatever is wrong then is for who asks it next to say."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(ServingError):
            async with connected(triton, timeout_s=LOOK_S):
                return
        await asyncio.sleep(LOOK_S)


async def _serve(
    triton: str,
    address: tuple[str, int],
    keys: Keys,
    limits: Limits,
    fronts: Mapping[str, front.Front],
    told: Traces,
) -> None:
    """Raises DoorError, ServingError and OSError."""
    host, _ = address
    async with connected(triton, metadata=told.metadata) as runners:
        offers = {name: Offer.of(runner, limits) for name, runner in runners.items()}
        if not offers:
            raise DoorError(f"{triton} serves no generator: `genzoo serve NAME` does")
        budgets, auto, metrics = Budgets(limits), Auto.of(fronts, offers, limits.slots), Metrics()
        for name in offers:
            metrics.offer(name)
        for dataset, group in auto.groups.items() if auto else ():
            await group.warm()
            metrics.waiting(dataset, partial(_waiting, group))
        hosts = LOOPBACK if host in LOOPBACK else ()
        config = uvicorn.Config(
            Watched(Guard(application(offers, budgets, metrics, auto), limits, keys, budgets, hosts), metrics, told),
            http=protocol(limits),
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE_S,
        )
        with socket.create_server(address, backlog=limits.connections) as listening:
            await uvicorn.Server(config).serve([listening])


def _waiting(group: Group) -> int:
    return len(group.turns.waiting)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
