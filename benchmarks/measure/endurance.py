"""Counted requests to a real `genzoo serve` while things go wrong, and its memory in a long time of plain ones.

`python -m benchmarks.measure.endurance NAMES... [--requests 10000] [--minutes 20] [--readme docs/serving.md]` starts
the command in this host's loopback, asks it for images that it made once before anything went wrong, and counts what
became of each request: its image, another image, a reason in words, or no answer. One request in ten is given up by its
client on the way.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.measure import started
from benchmarks.templates.marks import replace_marked
from serving import interface
from serving.client import LATE, AsyncTritonRunner, ServingError, connected
from zoo.contract.request import SampleRequest, Setting
from zoo.host import children

IMAGE, CLOSE, WRONG = "its image, to the bit", "its image, but for a grey level", "another image"
REASON, LEFT, SILENCE = "a reason", "given up by its client", "no answer"
OUTCOMES = (IMAGE, CLOSE, REASON, LEFT, WRONG, SILENCE)
DISTINCT, STEPS = 32, (1, 4, 20)  # requests of each generator; of those that take steps
LEAVES, LEAVES_S = 10, 0.05  # one in so many, within so long
DEADLINE_S, LOOKS = 30.0, 10
AGAIN_S = 0.5  # after which who was refused asks again
DRAINED = 4  # requests of each client that are under way when the server is told to end


@dataclass(frozen=True)
class Asked:
    """A request, and what it is answered with where nothing is wrong."""

    model: str
    tensors: dict[str, np.ndarray]
    images: np.ndarray | None = None


@dataclass(eq=False)
class Fault:
    """What goes wrong once, with how many images later all is well again; `models` are those that it hits."""

    title: str
    happen: Callable[[], None]
    models: set[str]
    at: float = 0.0
    healed: dict[str, float] = field(default_factory=dict)

    def saw(self, model: str, began: float, now: float) -> None:
        """An image of a request that was asked for then."""
        if self.at and began >= self.at and model in self.models:
            self.healed.setdefault(model, now - self.at)


class Serving:
    """A `genzoo serve` that runs; `ready` is what it says of itself."""

    def __init__(self, process: subprocess.Popen[str], ready: dict[str, Any]) -> None:
        self.process, self.ready = process, ready

    def below(self) -> Iterator[int]:
        """The processes that it has started, and those that these have."""
        waiting = [self.process.pid]
        while waiting:
            found = children(waiting.pop())
            waiting += found
            yield from found

    def kill(self, sign: str) -> None:
        """Those with that in their arguments, as the kernel does where memory runs out."""
        for pid in list(self.below()):
            with contextlib.suppress(OSError):
                if sign.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)

    @property
    def memory(self) -> float:
        """MiB, of all of them, what they share counted once."""
        total = 0
        for pid in (self.process.pid, *self.below()):
            with contextlib.suppress(OSError):
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return total / 1024


@contextmanager
def serving(names: Sequence[str]) -> Iterator[Serving]:
    """The command itself, as a person starts it."""
    with started.process(["-m", "genzoo", "serve", *names, "--json"], heard=True) as process:
        assert process.stdout
        line = process.stdout.readline()
        if not line:
            raise typer.Exit(process.wait() or 1)  # it has said why
        yield Serving(process, json.loads(line))


def faults(running: Serving) -> list[Fault]:
    names = set(running.ready["models"])
    stubs = [
        Fault(f"the process of `{name}` is killed", lambda name=name: running.kill(f"/{name}/"), {name})  # type: ignore[misc]
        for name in sorted(names)
    ]
    return [*stubs, Fault("`tritonserver` is killed", lambda: running.kill("bin/tritonserver"), names)]


async def references(runners: dict[str, AsyncTritonRunner]) -> list[Asked]:
    """The requests, each with the images that it was answered with one after the other."""
    found = []
    for name, runner in runners.items():
        sampling = runner.spec.sampling
        for seed in range(DISTINCT):
            steps = (sampling.steps or STEPS)[seed % len(sampling.steps or STEPS)] if sampling else None
            request = SampleRequest(tuple(range(seed, seed + 1 + seed % 3)), setting=Setting(steps))
            tensors = interface.tensors(runner.spec, request)
            found.append(Asked(name, tensors, (await runner.run(**tensors))["image"]))
    return found


async def outcome(runner: AsyncTritonRunner, asked: Asked, leaves: bool, chance: random.Random) -> str:
    asking = runner.within(DEADLINE_S).run(**asked.tensors)
    try:
        image = (await (asyncio.wait_for(asking, chance.uniform(0, LEAVES_S)) if leaves else asking))["image"]
    except TimeoutError:
        return LEFT
    except ServingError as error:
        if error.code == LATE:
            return SILENCE
        await asyncio.sleep(AGAIN_S)
        return REASON
    assert asked.images is not None
    if image.shape != asked.images.shape:
        return WRONG
    apart = np.abs(image.astype(int) - asked.images).max()
    return IMAGE if apart == 0 else CLOSE if apart <= 1 else WRONG


async def counted(
    runners: dict[str, AsyncTritonRunner],
    asked: Sequence[Asked],
    clients: int,
    goes_on: Callable[[int], bool],
    happening: Sequence[tuple[int, Fault]] = (),
) -> Counter[str]:
    """What became of each request, of clients that ask one after the other while `goes_on` (requests so far)."""
    numbers, chance, found = itertools.count(), random.Random(0), Counter[str]()
    due = dict(happening)

    async def client() -> None:
        while goes_on(number := next(numbers)):
            if number in due:
                due[number].at = time.monotonic()
                await asyncio.to_thread(due[number].happen)
            each, began = asked[number * 7 % len(asked)], time.monotonic()
            told = await outcome(runners[each.model], each, number % LEAVES == 0, chance)
            found[told] += 1
            if told in (IMAGE, CLOSE):
                for fault in due.values():
                    fault.saw(each.model, began, time.monotonic())

    await asyncio.gather(*(client() for _ in range(clients)))
    return found


async def _endure(running: Serving, requests: int, minutes: float, clients: int) -> list[str]:
    names, lines = running.ready["models"], []
    async with connected(running.ready["grpc"], names, timeout_s=DEADLINE_S) as runners:
        asked = await references(runners)
        if minutes:
            lines += [*await _soak(running, runners, asked, minutes, clients), ""]
        happening = faults(running)
        places = [(requests * (index + 1) // (len(happening) + 1), fault) for index, fault in enumerate(happening)]
        under = await counted(runners, asked, clients, lambda number: number < requests, places)
        drained = counted(runners, asked, clients, lambda number: number < clients * DRAINED)
        ending = asyncio.ensure_future(drained)
        await asyncio.sleep(0)
        running.process.terminate()
        last = await ending
    lines += [
        f"| of {sum(under.values()):,} requests of {clients} clients, `{'`, `'.join(names)}` | while "
        f"{len(happening)} processes are killed | as it is told to end |",
        "|---|--:|--:|",
        *(f"| {each} | {under[each]:,} | {last[each]:,} |" for each in OUTCOMES),
        "",
        "; ".join(f"{fault.title}: its next image after {_seconds(fault)}" for fault in happening) + ".",
    ]
    if under[WRONG] + under[SILENCE] + last[WRONG] + last[SILENCE]:
        lines.append("**Not sound**: a request was answered with another's image, or not at all.")
    return lines


def _seconds(fault: Fault) -> str:
    """Of the model that had to wait longest."""
    return f"{max(fault.healed.values()):.1f} s" if fault.healed.keys() >= fault.models else "never"


async def _soak(
    running: Serving, runners: dict[str, AsyncTritonRunner], asked: Sequence[Asked], minutes: float, clients: int
) -> list[str]:
    began, seconds = time.monotonic(), minutes * 60
    seen: list[float] = []

    def goes_on(_: int) -> bool:
        passed = time.monotonic() - began
        if passed >= seconds * len(seen) / LOOKS:
            seen.append(running.memory)
        return passed < seconds

    found = await counted(runners, asked, clients, goes_on)
    return [
        f"{minutes:g} minutes of {clients} clients, {sum(found.values()):,} requests, {found[WRONG]} with another's "
        f"image, {found[SILENCE]} without an answer; memory of all processes after each tenth, MiB: "
        + ", ".join(f"{each:.0f}" for each in seen)
        + "."
    ]


def main(
    names: Annotated[list[str], typer.Argument(help="Checkpoints, or folders of bundles.")],
    requests: Annotated[int, typer.Option(min=1, help="While processes are killed.")] = 10_000,
    minutes: Annotated[float, typer.Option(min=0.0, help="Of plain requests before, whose memory is seen.")] = 0.0,
    clients: Annotated[int, typer.Option(min=1)] = 16,
    readme: Annotated[Path | None, typer.Option(help="Write the table between the marks of this file.")] = None,
) -> None:
    """Count what becomes of requests while a server's processes are killed."""
    with started.ended_by_sigterm(), serving(names) as running:
        table = "\n".join(asyncio.run(_endure(running, requests, minutes, clients)))
    if readme:
        replace_marked(readme, "endurance", table)
    typer.echo(table)
    if "**Not sound**" in table:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
