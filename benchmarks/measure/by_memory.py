"""What it saves that large answers come through memory of who asks for them, and not by the wire.

`python -m benchmarks.measure.by_memory NAME [--readme docs/serving.md]` asks a generator for as many images as a
request may have, and a model that has its images ready made, of several sizes, in turns both ways.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.measure import started
from benchmarks.templates.marks import replace_marked
from export.gate import require
from serving import interface, memory, model_config
from serving.bundles import prepare
from serving.client import TritonRunner
from serving.server import TritonServer
from zoo.contract.graph import MAX_BATCH
from zoo.contract.request import SampleRequest
from zoo.contract.spec import Axis, GeneratorSpec

SMALLEST, LARGEST = 32, 512
COUNTS_AND_SIDES = (
    (64, SMALLEST),
    (64, 64),
    (8, LARGEST),
    (64, LARGEST),
)  # of the images that are ready made, in colour
SECONDS, ROUNDS, CALLS = 1.0, 5, 3  # of each way in a round, and at least so many calls
READY = GeneratorSpec("ready-made", "none", (), ("side", "side", 3), axes=(Axis("side", SMALLEST, SMALLEST, LARGEST),))
MODEL = """
import json

import numpy as np
import triton_python_backend_utils as pb_utils

from serving.memory import MEMORY, hand_over


class TritonPythonModel:
    def initialize(self, args):
        self.made = {}

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        count = len(pb_utils.get_input_tensor_by_name(request, "seed").as_numpy())
        side = int(pb_utils.get_input_tensor_by_name(request, "side").as_numpy()[0, 0])
        images = self.made.setdefault((count, side), np.full((count, side, side, 3), 7, np.uint8))
        if hand_over(json.loads(request.parameters() or "{}").get(MEMORY, ""), images):
            images = images[:0]
        return pb_utils.InferenceResponse([pb_utils.Tensor("image", images)])
"""


@dataclass
class Took:
    """One way of one answer, in milliseconds: the medians of rounds on the clock, and of the processors of both."""

    clock: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def add(self, ask: Callable[[], object], server: TritonServer) -> None:
        took: list[float] = []
        spent, began = time.process_time() + started.processor(server.pid), time.perf_counter()
        while (now := time.perf_counter()) - began < SECONDS or len(took) < CALLS:
            ask()
            took.append(time.perf_counter() - now)
        spent = time.process_time() + started.processor(server.pid) - spent
        self.clock.append(float(np.median(took)) * 1e3)
        self.processor.append(spent / len(took) * 1e3)


def measured(server: TritonServer, request: SampleRequest, name: str) -> str:
    """The cells of a row."""
    runners = {way: TritonRunner(server.grpc_url, name) for way in ("wire", "memory")}
    runners["wire"].wire = True
    tensors = interface.tensors(runners["wire"].spec, request)
    first, other = (each.run(**tensors)["image"] for each in runners.values())
    np.testing.assert_array_equal(first, other)
    took = {way: Took() for way in runners}
    for turn in range(ROUNDS):
        for way in list(runners)[:: 1 if turn % 2 else -1]:
            took[way].add(lambda way=way: runners[way].run(**tensors)["image"].max(), server)  # type: ignore[misc]
    for each in runners.values():
        each.close()
    ratios = np.array(took["memory"].clock) / took["wire"].clock
    cells = [f"{np.median(each.clock):.2f} / {np.median(each.processor):.2f} ms" for each in took.values()]
    return " | ".join([*cells, f"{np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"])


def add_ready_made(server: TritonServer) -> None:
    """A model beside the generator, which answers as one."""
    folder = server.repository.path / READY.name
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.py").write_text(MODEL)
    for path in (folder / "config.pbtxt", folder / "configs" / f"{server.config}.pbtxt"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(model_config.public_config(READY, model_config.Parts("none")))
    assert server.supervisor is not None
    server.supervisor.endpoint.load(READY.name)


def main(
    name: Annotated[str, typer.Argument(help="A generator.")],
    readme: Annotated[Path | None, typer.Option(help="Write the table between the marks of this file.")] = None,
) -> None:
    """Measure answers through memory beside those by the wire."""
    memory.LARGE = 1  # the smaller ones too, which else come by the wire
    bundle = require(prepare(name))
    lines = ["| an answer of | by the wire | through memory | ratio |", "|---|--:|--:|--:|"]
    with started.ended_by_sigterm(), started.triton(bundle) as server:
        cells = measured(server, SampleRequest(tuple(range(MAX_BATCH))), name)
        lines.append(f"| {MAX_BATCH} images that `{name}` makes | {cells} |")
        add_ready_made(server)
        for count, side in COUNTS_AND_SIDES:
            cells = measured(server, SampleRequest(tuple(range(count)), sizes={"side": side}), READY.name)
            size = f"{count * side * side * 3 / 1e6:.2f} MB"
            lines.append(f"| {count} images of {side} x {side} in colour, {size}, ready made | {cells} |")
    table = "\n".join(lines)
    if readme:
        replace_marked(readme, "by-memory", table)
    typer.echo(table)


if __name__ == "__main__":
    typer.run(main)
