"""Requests of many steps beside short ones: a server that goes by rows, and one that runs Triton's batches as a whole.

`python -m benchmarks.measure.by_rows [NAME] [--readme docs/serving.md]` starts both on one bundle in this host's
loopback, and asks them in turns, so that each number of the one has a neighbour of the other.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.measure import started
from benchmarks.templates.marks import replace_marked
from export.bundle import Bundle
from export.gate import require
from serving import interface
from serving.bundles import prepare
from serving.client import TritonRunner
from zoo.contract.request import SampleRequest, Setting

FORMS = {"by rows": True, "as a whole": False}
LONG = SampleRequest(tuple(range(16)), setting=Setting(100))
SHORT, USUAL = SampleRequest((1,), setting=Setting(1)), SampleRequest((1,), setting=Setting(50))
STEPS, SCALES = (1, 4, 20, 50), (1.0, 2.0, 3.0)
CLIENTS, REQUESTS, ROUNDS, PROBES = 8, 96, 3, 20
HEAD = 0.2  # seconds that a long request has before the short ones come


@contextmanager
def server(bundle: Bundle, *, by_rows: bool) -> Iterator[TritonRunner]:
    with started.triton(bundle, by_rows=by_rows) as running:
        yield TritonRunner(running.grpc_url, bundle.name)


def seconds(runner: TritonRunner, request: SampleRequest) -> float:
    began = time.perf_counter()
    runner.run(**interface.tensors(runner.spec, request))
    return time.perf_counter() - began


def alone(runner: TritonRunner, request: SampleRequest) -> list[float]:
    return [seconds(runner, request) for _ in range(PROBES)]


def behind(runner: TritonRunner) -> list[float]:
    """Short requests one after the other from when a long one has begun until it ends, at most `PROBES`."""
    with ThreadPoolExecutor(1) as pool:
        long = pool.submit(seconds, runner, LONG)
        time.sleep(HEAD)
        found = [seconds(runner, SHORT)]
        while not long.done() and len(found) < PROBES:
            found.append(seconds(runner, SHORT))
    return found


def mixed(runner: TritonRunner) -> tuple[float, list[float]]:
    """Images a second of traffic of many kinds, and what its requests of one step took."""
    sampling = runner.spec.sampling
    assert sampling is not None
    requests = [
        SampleRequest(
            (index,),
            setting=Setting(
                STEPS[index % len(STEPS)],
                sampling.samplers[index // len(STEPS) % len(sampling.samplers)],
                SCALES[index % len(SCALES)] if sampling.max_guidance_scale > 1.0 else 1.0,
            ),
        )
        for index in range(REQUESTS)
    ]
    began = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        took = list(pool.map(lambda each: seconds(runner, each), requests))
    whole = time.perf_counter() - began
    short = [each for each, request in zip(took, requests, strict=True) if request.setting.num_steps == 1]
    return REQUESTS / whole, short


def measured(runners: Mapping[str, TritonRunner]) -> list[str]:
    """The table, a line each."""
    lone: dict[str, list[float]] = {form: [] for form in runners}
    usual: dict[str, list[float]] = {form: [] for form in runners}
    late: dict[str, list[float]] = {form: [] for form in runners}
    rates: dict[str, list[float]] = {form: [] for form in runners}
    short: dict[str, list[float]] = {form: [] for form in runners}
    for turn in range(ROUNDS + 1):  # the first warms up
        for form in list(runners)[:: 1 if turn % 2 else -1]:
            found = alone(runners[form], SHORT), alone(runners[form], USUAL), behind(runners[form])
            rate, among = mixed(runners[form])
            if turn:
                lone[form] += found[0]
                usual[form] += found[1]
                late[form] += found[2]
                rates[form].append(rate)
                short[form] += among
    rows = {
        "one step, alone: p50": {form: _ms(np.median(each)) for form, each in lone.items()},
        f"{USUAL.setting.num_steps} steps, alone: p50": {form: _ms(np.median(each)) for form, each in usual.items()},
        f"one step, behind {len(LONG.seeds)} images of {LONG.setting.num_steps}: p50": {
            form: _ms(np.median(each)) for form, each in late.items()
        },
        "the same, the longest": {form: _ms(max(each)) for form, each in late.items()},
        f"one step in mixed traffic of {CLIENTS} clients: p50": {
            form: _ms(np.median(each)) for form, each in short.items()
        },
        "the same, p99": {form: _ms(np.quantile(each, 0.99)) for form, each in short.items()},
        "mixed traffic, images a second": {form: f"{np.median(each):.1f}" for form, each in rates.items()},
    }
    ratios = np.array(rates["by rows"]) / np.array(rates["as a whole"])
    lines = [f"| | {' | '.join(runners)} |", f"|---|{'--:|' * len(runners)}"]
    lines += [f"| {what} | {' | '.join(each[form] for form in runners)} |" for what, each in rows.items()]
    return [
        *lines,
        "",
        f"By rows, mixed traffic has {np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f} in {ROUNDS} "
        "rounds) times the images a second.",
    ]


def _ms(value: float) -> str:
    return f"{value * 1e3:.1f} ms"


def main(
    name: Annotated[str, typer.Argument(help="A generator that takes any number of steps.")] = "ddpm",
    readme: Annotated[Path | None, typer.Option(help="Write the table between the marks of this file.")] = None,
) -> None:
    """Measure a server that goes by rows beside one that does not."""
    bundle = require(prepare(name))
    with ExitStack() as stack:
        stack.enter_context(started.ended_by_sigterm())
        runners = {form: stack.enter_context(server(bundle, by_rows=each)) for form, each in FORMS.items()}
        table = "\n".join(measured(runners))
    if readme:
        replace_marked(readme, "by-rows", table)
    typer.echo(table)


if __name__ == "__main__":
    typer.run(main)
