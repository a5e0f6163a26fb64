"""What users can do to a server by its own HTTP, and what by the door before it.

`python -m benchmarks.measure.doors NAME [--readme docs/serving.md]` starts both on one generator in this host's
loopback, sends each a body far beyond any limit and more connections than it needs, none of which says a whole
request, and asks for images: one after the other, then many at once, also beside clients whose requests are refused.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.templates.marks import replace_marked
from export.gate import require
from serving import interface, model_repository
from serving.bundles import prepare
from serving.client import ServingError, TritonRunner, connected
from serving.doors.process import Door
from serving.server import TritonServer
from zoo.contract.spec import GeneratorSpec
from zoo.host import children

BODY_MIB, CONNECTIONS, WAIT_S, PROBES = 300, 600, 20.0, 200
LOOK_S = 0.02
CLIENTS, IMAGES, REFUSED, ROUNDS = 32, 3000, 2, 3
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


def processor(pid: int) -> float:
    """Seconds, of a process and all that it has started."""
    return _own(pid) + sum(map(processor, children(pid)))


def _own(pid: int) -> float:
    spent = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return sum(map(int, spent)) / os.sysconf("SC_CLK_TCK")


async def asked(url: str, spec: GeneratorSpec, refused: int) -> None:
    """IMAGES of CLIENTS, beside so many whose every request is refused: a batch that has one cannot run as it is."""
    tensors, left = interface.canary(spec), iter(range(IMAGES))
    number = next(each.name for each in interface.inputs(spec) if each.dtype == "int64")
    wrong = tensors | {number: np.full((1, 1), -1)}
    async with connected(url, [spec.name]) as runners:
        runner, ended = runners[spec.name], asyncio.Event()

        async def ask() -> None:
            for _ in left:
                await runner.run(**tensors)

        async def ask_in_vain() -> None:
            while not ended.is_set():
                with suppress(ServingError):
                    await runner.run(**wrong)

        vain = [asyncio.ensure_future(ask_in_vain()) for _ in range(refused)]
        await asyncio.gather(*(ask() for _ in range(CLIENTS)))
        ended.set()
        await asyncio.gather(*vain)


def many(server: TritonServer, spec: GeneratorSpec) -> str:
    """What images of many clients take of the processor, Triton's own part of it, and how much more beside refusals."""
    shares, ratios = [], []
    for turn in range(ROUNDS + 1):  # the first warms up
        spent = []
        for refused in (0, REFUSED):
            before, own = processor(server.pid), _own(server.pid)
            asyncio.run(asked(server.grpc_url, spec, refused))
            spent.append(processor(server.pid) - before)
            if turn and not refused:
                shares.append((_own(server.pid) - own) / spent[0])
        ratios += [spent[1] / spent[0]] * bool(turn)
    share, ratio = (f"{np.median(each):.2f} ({min(each):.2f} to {max(each):.2f})" for each in (shares, ratios))
    return (
        f"{IMAGES:,} images of {CLIENTS} clients, {ROUNDS} rounds: Triton itself is {share} of the server's processor "
        f"time; beside {REFUSED} clients whose every request is refused they take {ratio} times as much of it."
    )


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
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        repository = model_repository.write([bundle], folder / "models")
        server = stack.enter_context(TritonServer(repository, folder / "triton.log", canary_seconds=0))
        roomy = ("--requests-per-minute", "1e9")
        door = stack.enter_context(Door(server.grpc_url, folder / "door.log", options=roomy))
        entrances = {
            "Triton's HTTP": Entrance(server.http_url, server.pid, f"/v2/models/{name}/infer"),
            "the door": Entrance(door.address, door.pid, "/v1/images/generations"),
        }
        bodies = {what: body(each) for what, each in entrances.items()}
        open_ = {what: connections(each) for what, each in entrances.items()}
        runner, tensors = TritonRunner(server.grpc_url, name), interface.canary(bundle.served_spec)
        together = many(server, bundle.served_spec)
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
        "",
        together,
    ]
    table = "\n".join(lines)
    if readme:
        replace_marked(readme, "doors", table)
    typer.echo(table)


if __name__ == "__main__":
    typer.run(main)
