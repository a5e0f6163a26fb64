"""The same generator behind this server, behind frameworks, and behind what one writes by hand: FastAPI with torch.

`python -m benchmarks.measure.peers NAMES... [--readme docs/serving.md]` starts all of them on this host's loopback and
asks them in turns, by 1, 4, 16 and 64 clients that each wait for an answer: a PNG in JSON by HTTP, and for Triton
itself pixels by gRPC. Numbers are ratios within a round, so that what else the host does is the same for both. Then
requests come at random times, at shares of what each contender answered at most. BentoML and Ray Serve have
environments of their own, which are made at the first time (`benchmarks.measure.frameworks`).
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.measure import overload, started
from benchmarks.measure.frameworks import FRAMEWORKS, serving_by
from benchmarks.templates.marks import replace_marked
from export.gate import require
from export.runtimes import Runtime
from serving import interface
from serving.bundles import prepare
from serving.client import TritonRunner
from serving.ports import HOST, choose
from zoo.contract.request import SampleRequest, Setting
from zoo.contract.spec import GeneratorSpec

STEPS, SAMPLER = 4, "ddim"  # of what takes any number of steps
CLIENTS, SECONDS, ROUNDS = (1, 4, 16, 64), 1.5, 3
LATE_S = 1.0  # an answer that takes longer is not counted
START_S, LOOK_S = 600.0, 0.1  # what compiles does so at its first request
GRPC, PEER = "Triton, gRPC", "FastAPI, torch"
PEERS = {PEER: Runtime.TORCH, "FastAPI, torch.compile": Runtime.TORCH_COMPILE}

Ask = Callable[[int], object]  # of a seed


@dataclass
class Seen:
    """Of one contender at so many clients: a number a round each."""

    good: list[float] = field(default_factory=list)  # answers in time, a second
    p50: list[float] = field(default_factory=list)  # seconds
    p99: list[float] = field(default_factory=list)

    def add(self, took: Sequence[float], seconds: float) -> None:
        self.good.append(sum(each <= LATE_S for each in took) / seconds)
        self.p50.append(float(np.median(took)))
        self.p99.append(float(np.quantile(took, 0.99)))


@contextmanager
def peer(name: str, runtime: Runtime) -> Iterator[str]:
    """Its address, from when it answers."""
    port = choose({"peer": 0})["peer"]
    words = ["-m", "benchmarks.measure.peer", name, "--runtime", runtime, "--port", str(port)]
    with started.process(words) as process:
        deadline = time.monotonic() + START_S
        while True:
            try:
                connection = http.client.HTTPConnection(HOST, port, timeout=5)
                connection.request("GET", "/health")
                connection.getresponse().read()
                connection.close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(LOOK_S)
        yield f"{HOST}:{port}"


Body = Callable[[int], Mapping[str, Any]]  # of a seed


def body_of(
    name: str, setting: Setting, wrapped: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
) -> Body:
    """What is sent by HTTP, as a framework wants it."""
    said: Mapping[str, Any] = {"num_steps": setting.num_steps, "sampler": setting.sampler}
    body = {"model": name, **{key: value for key, value in said.items() if value is not None}}
    return lambda seed: wrapped(body | {"seed": seed}) if wrapped else body | {"seed": seed}


@contextmanager
def by_http(address: str, body: Body) -> Iterator[Ask]:
    """A client's own connection, which stays."""
    connection = http.client.HTTPConnection(address, timeout=START_S)

    def ask(seed: int) -> None:
        content = json.dumps(body(seed))
        connection.request("POST", "/v1/images/generations", content, {"content-type": "application/json"})
        answer = connection.getresponse()
        found = answer.read()
        assert answer.status == 200, found[:300]

    try:
        yield ask
    finally:
        connection.close()


@contextmanager
def by_grpc(runner: TritonRunner, setting: Setting) -> Iterator[Ask]:
    yield lambda seed: runner.run(**interface.tensors(runner.spec, SampleRequest((seed,), setting=setting)))


def load(client: Callable[[], Any], clients: int, seconds: float) -> tuple[list[float], float]:
    """What answers took, and for how long they were asked for."""
    began = time.perf_counter()

    def asking(place: int) -> list[float]:
        took: list[float] = []
        with client() as ask:
            while (now := time.perf_counter()) - began < seconds:
                ask(place * 1_000_000 + len(took))
                took.append(time.perf_counter() - now)
        return took

    with ThreadPoolExecutor(clients) as pool:
        found = [each for took in pool.map(asking, range(clients)) for each in took]
    return found, time.perf_counter() - began


def measured(
    contenders: Mapping[str, Callable[[], Any]], seconds: float = SECONDS, rounds: int = ROUNDS
) -> dict[tuple[str, int], Seen]:
    found = {(name, clients): Seen() for clients in CLIENTS for name in contenders}
    for name in contenders:  # warm: what compiles does now
        load(contenders[name], 2, seconds)
    for turn in range(rounds):
        for clients in CLIENTS:
            for name in list(contenders)[:: 1 if turn % 2 else -1]:
                found[name, clients].add(*load(contenders[name], clients, seconds))
    return found


def rows(generator: str, found: Mapping[tuple[str, int], Seen]) -> Iterator[str]:
    for name in dict.fromkeys(name for name, _ in found):
        cells = []
        for clients in CLIENTS:
            mine, plain = found[name, clients], found[PEER, clients]
            times = f"{_ms(mine.p50)} / {_ms(mine.p99)} ms"
            if name == PEER or min(plain.good) == 0.0:
                share = "1" if name == PEER else f"{PEER} none in time"
            else:
                ratios = np.array(mine.good) / np.array(plain.good)
                share = f"{np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            cells.append(f"{share}; {times}")
        yield f"| `{generator}` | {name} | {' | '.join(cells)} |"


def _ms(rounds: Sequence[float]) -> str:
    value = float(np.median(rounds)) * 1e3
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def setting_of(spec: GeneratorSpec) -> Setting:
    return Setting(STEPS, SAMPLER) if spec.sampling and not spec.sampling.steps else Setting()


def main(
    names: Annotated[list[str], typer.Argument(help="Generators.")],
    readme: Annotated[Path | None, typer.Option(help="Write the table between the marks of this file.")] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Without what compiles for a minute.")] = False,
    alone: Annotated[bool, typer.Option("--alone", help="Without BentoML and Ray Serve.")] = False,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of each contender at each number of clients.")] = SECONDS,
    rounds: Annotated[int, typer.Option(min=1)] = ROUNDS,
    beyond: Annotated[float, typer.Option(min=0.0, help="Seconds of each load at random times; 0: none.")] = 2.0,
) -> None:
    """Measure this server beside FastAPI with torch, BentoML and Ray Serve."""
    lines = [
        f"| | | {' | '.join(f'{clients} clients' if clients > 1 else 'one client' for clients in CLIENTS)} |",
        f"|---|---|{'---|' * len(CLIENTS)}",
    ]
    loaded: list[str] = []
    for name in names:
        bundle = require(prepare(name))
        setting = setting_of(bundle.served_spec)
        with ExitStack() as stack:
            stack.enter_context(started.ended_by_sigterm())
            server, door = stack.enter_context(started.triton_and_door(bundle))
            addresses = {"the door": door.address}
            for title, runtime in PEERS.items():
                if not (plain and runtime.compiles):
                    addresses[title] = stack.enter_context(peer(name, runtime))
            bodies = dict.fromkeys(addresses, body_of(name, setting))
            for each in () if alone else FRAMEWORKS:
                addresses[each.title] = stack.enter_context(serving_by(each, name, partial(typer.echo, err=True)))
                bodies[each.title] = body_of(name, setting, each.body)
            runner = TritonRunner(server.grpc_url, name)
            contenders: dict[str, Callable[[], Any]] = {GRPC: partial(by_grpc, runner, setting)}
            contenders |= {title: partial(by_http, where, bodies[title]) for title, where in addresses.items()}
            found = measured(contenders, seconds, rounds)
            lines += rows(name, found)
            runner.close()
            if beyond:
                most = {title: capacity(found, title) for title in contenders}
                opened: dict[str, overload.Opened] = {
                    GRPC: partial(overload.by_grpc, server.grpc_url, name, setting),
                    **{title: partial(overload.by_http, addresses[title], bodies[title]) for title in addresses},
                }
                loaded += overload.rows(name, overload.measured(opened, most, beyond, LATE_S), most)
    table = "\n".join([*lines, *(["", *overload.heading(), *loaded] if loaded else [])])
    if readme:
        replace_marked(readme, "peers", table)
    typer.echo(table)


def capacity(found: Mapping[tuple[str, int], Seen], name: str) -> float:
    """Images in time a second, of the number of clients that get the most."""
    return max(float(np.median(found[name, clients].good)) for clients in CLIENTS)


if __name__ == "__main__":
    typer.run(main)
