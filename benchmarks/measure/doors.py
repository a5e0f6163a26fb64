"""What users can do to a server by its own HTTP, and what by the door before it.

`python -m benchmarks.measure.doors NAME [--readme docs/serving.md]` starts both on one generator in this host's
loopback, sends each a body far beyond any limit and more connections than it needs, none of which says a whole
request, and asks for images: one after the other, then many at once, also beside clients whose requests are refused,
and makes the same images in this process.
"""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.measure import started
from benchmarks.templates.marks import replace_marked
from export import runtimes
from export.bundle import Bundle
from export.gate import require
from export.runtimes import Runtime
from serving import interface
from serving.bundles import prepare
from serving.client import ServingError, TritonRunner, connected
from serving.doors.process import Door
from serving.server import TritonServer
from zoo.contract.generator import Generator
from zoo.contract.spec import GeneratorSpec

BODY_MIB, CONNECTIONS, WAIT_S, PROBES = 300, 600, 20.0, 200
LOOK_S = 0.02
CLIENTS, IMAGES, REFUSED, ROUNDS = 32, 3000, 2, 3
SEVERAL = 4  # images of a request
HALF = b"POST /v1 HTTP/1.1\r\nhost: 127.0.0.1\r\n"


@dataclass(frozen=True)
class Entrance:
    """An HTTP address, the process behind it, and the path of a request for images."""

    address: str
    pid: int
    path: str


def resident(pid: int) -> float:
    """MiB."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(lines["VmRSS"].split()[0]) / 1024


def body(entrance: Entrance) -> tuple[float, str]:
    """The memory in MiB that a body takes at most, and what is answered."""
    before, seen, ended = resident(entrance.pid), [0.0], threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_S):
            seen.append(resident(entrance.pid) - before)

    watch = threading.Thread(target=look)
    watch.start()
    connection = http.client.HTTPConnection(entrance.address, timeout=60)
    answer = "closed"
    try:
        part = b" " * (1 << 20)
        headers = {"content-type": "application/json", "content-length": str(BODY_MIB << 20)}
        with suppress(ConnectionError):
            connection.request("POST", entrance.path, (part for _ in range(BODY_MIB)), headers)
        with suppress(ConnectionError):
            answer = str(connection.getresponse().status)
    finally:
        connection.close()
        ended.set()
        watch.join()
    return max(seen), answer


def connections(entrance: Entrance) -> int:
    """How many that said half of a request are still open after a while."""
    host, port = entrance.address.split(":")
    with ExitStack() as stack:
        held = []
        for _ in range(CONNECTIONS):
            held.append(stack.enter_context(socket.create_connection((host, int(port)))))
            with suppress(ConnectionError):
                held[-1].sendall(HALF)
        time.sleep(WAIT_S)
        return sum(map(_is_open, held))


def _is_open(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


def p50(ask: Callable[[], object]) -> float:
    """Of an image, in milliseconds."""
    took = []
    for _ in range(PROBES):
        began = time.perf_counter()
        ask()
        took.append(time.perf_counter() - began)
    return float(np.median(took)) * 1e3


async def asked(url: str, spec: GeneratorSpec, requests: int, clients: int, refused: int = 0, images: int = 1) -> int:
    """So many requests of so many clients, for as many images each, beside others who are always refused: how often."""
    tensors, left, count = interface.canary(spec, images), iter(range(requests)), 0
    number = next(each.name for each in interface.inputs(spec) if each.dtype == "int64")
    wrong = interface.canary(spec) | {number: np.full((1, 1), -1)}
    async with connected(url, [spec.name]) as runners:
        runner, ended = runners[spec.name], asyncio.Event()

        async def ask() -> None:
            for _ in left:
                await runner.run(**tensors)

        async def ask_in_vain() -> None:
            nonlocal count
            while not ended.is_set():
                with suppress(ServingError):
                    await runner.run(**wrong)
                count += 1

        vain = [asyncio.ensure_future(ask_in_vain()) for _ in range(refused)]
        await asyncio.gather(*(ask() for _ in range(clients)))
        ended.set()
        await asyncio.gather(*vain)
    return count


@dataclass(frozen=True)
class Spent:
    """Of the server's processor, in seconds, Triton's `own` part of it, and how long it took."""

    all: float
    own: float
    seconds: float
    refused: int = 0


def spent(
    server: TritonServer, spec: GeneratorSpec, requests: int, clients: int, refused: int = 0, images: int = 1
) -> Spent:
    whole, own, began = started.processor(server.pid), started.own_processor(server.pid), time.perf_counter()
    count = asyncio.run(asked(server.grpc_url, spec, requests, clients, refused, images))
    seconds = time.perf_counter() - began
    return Spent(started.processor(server.pid) - whole, started.own_processor(server.pid) - own, seconds, count)


def in_this_process(generator: Generator) -> float:
    """Seconds for IMAGES, as many at once as there are clients."""
    tensors, began = interface.canary(generator.spec, CLIENTS), time.perf_counter()
    for _ in range(IMAGES // CLIENTS):
        generator.run(**tensors)
    return time.perf_counter() - began


def many(server: TritonServer, bundle: Bundle) -> list[str]:
    """What images of many clients take of the processor, and what refusals beside them take. A paragraph each.

    Refusals are compared with nothing in their place, which counts what they take themselves to the others, and with as
    many requests more that are served.
    """
    spec, generator = bundle.served_spec, runtimes.generator(bundle, Runtime.ONNXRUNTIME)
    found: dict[str, list[float]] = {}
    for turn in range(ROUNDS + 1):  # the first warms up
        here, alone = in_this_process(generator), spent(server, spec, IMAGES, CLIENTS)
        beside = spent(server, spec, IMAGES, CLIENTS, REFUSED)
        served = spent(server, spec, IMAGES + beside.refused, CLIENTS + REFUSED)
        several = spent(server, spec, IMAGES // SEVERAL, CLIENTS, images=SEVERAL)
        values = {
            "share": alone.own / alone.all,
            "own": alone.own / IMAGES * 1e3,
            "several": several.own / several.all,
            "speed": here / alone.seconds,
            "refused": beside.refused / REFUSED,
            "alone": beside.all / alone.all,
            "served": beside.all / served.all,
        }
        for name, value in values.items() if turn else ():
            found.setdefault(name, []).append(value)
    said = {name: f"{np.median(each):.2f} ({min(each):.2f} to {max(each):.2f})" for name, each in found.items()}
    return [
        f"{IMAGES:,} images of {CLIENTS} clients, one a request, {ROUNDS} rounds: {said['speed']} of what this process "
        f"makes in the time, {CLIENTS} at once and without a client. Triton itself takes {said['own']} ms of the "
        f"processor for a request, which is {said['share']} of the server's time, and {said['several']} with {SEVERAL} "
        "images a request.",
        f"Beside {REFUSED} clients who are always refused ({np.median(found['refused']):.0f} each meanwhile) the "
        f"server's processor time is {said['alone']} of that of the images alone, and {said['served']} of that of as "
        f"many requests in all, of {CLIENTS + REFUSED} clients, that are all served.",
    ]


def asking(door: Door, name: str) -> Callable[[], object]:
    """A PNG of the door, over a connection that stays."""
    connection = http.client.HTTPConnection(door.address, timeout=60)

    def ask() -> None:
        content = f'{{"model": "{name}", "seed": 0}}'.encode()
        connection.request("POST", "/v1/images/generations", content, {"content-type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status

    return ask


def main(
    name: Annotated[str, typer.Argument(help="A generator that is quick and is told a number, as a class.")],
    readme: Annotated[Path | None, typer.Option(help="Write the table between the marks of this file.")] = None,
) -> None:
    """Measure a server's own HTTP beside a door."""
    bundle = require(prepare(name))
    with started.ended_by_sigterm(), started.triton_and_door(bundle) as (server, door):
        entrances = {
            "Triton's HTTP": Entrance(server.http_url, server.pid, f"/v2/models/{name}/infer"),
            "the door": Entrance(door.address, door.pid, "/v1/images/generations"),
        }
        bodies = {what: body(each) for what, each in entrances.items()}
        open_ = {what: connections(each) for what, each in entrances.items()}
        runner, tensors = TritonRunner(server.grpc_url, name), interface.canary(bundle.served_spec)
        together = many(server, bundle)
        own, through = p50(lambda: runner.run(**tensors)), p50(asking(door, name))
    lines = [
        f"| | {' | '.join(entrances)} |",
        f"|---|{'--:|' * len(entrances)}",
        f"| memory that a body of {BODY_MIB} MiB takes | "
        + " | ".join(f"{taken:.0f} MiB" for taken, _ in bodies.values())
        + " |",
        "| what it is answered | " + " | ".join(answer for _, answer in bodies.values()) + " |",
        f"| of {CONNECTIONS} connections that say half of a request, open after {WAIT_S:.0f} s | "
        + " | ".join(str(each) for each in open_.values())
        + " |",
        "",
        f"One image of `{name}`, p50 of {PROBES}: {own:.1f} ms by gRPC, {through:.1f} ms as a PNG through the door.",
        *(line for each in together for line in ("", each)),
    ]
    table = "\n".join(lines)
    if readme:
        replace_marked(readme, "doors", table)
    typer.echo(table)


if __name__ == "__main__":
    typer.run(main)
