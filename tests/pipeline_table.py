"""How far each class of pipeline goes, as docs/pipelines.md shows it: `python -m tests.pipeline_table` writes it.

Each is written by diffusers with random weights, imported, exported, gated, sampled on torch and on ONNX Runtime, built
for TensorRT without a GPU, and sampled by Triton; a cell says yes, or the sentence that stopped it. Takes minutes.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.templates.marks import replace_marked
from export.parity import LIMITS, image_error
from export.variant import Precision
from tests import pipelines
from zoo.contract.request import SampleRequest, Setting
from zoo.errors import GenzooError
from zoo.files import HOME_VARIABLE

PAGE, MARK = Path(__file__).parents[1] / "docs" / "pipelines.md", "classes"
HEAD = ("pipeline", "its class", "import", "export", "gate", "sample", "build", "serve")
NAME = "imported"
REQUEST = SampleRequest((1, 2), setting=Setting(4))


def table(names: Sequence[str], last: str) -> str:
    """A row of each class, in Markdown: those named are taken as far as the stage `last`, the rest as they were."""
    known = {
        line.split(" | ")[0].removeprefix("| "): line for line in PAGE.read_text().splitlines() if "Pipeline`" in line
    }
    rows = [_line(HEAD), _line(["---"] * len(HEAD))]
    for name in pipelines.KINDS:
        rows.append(_line(row(name, last)) if name in names else known.get(name) or _line([name, *["not run"] * 7]))
    return "\n".join(rows)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def row(name: str, last: str) -> tuple[str, ...]:
    with tempfile.TemporaryDirectory() as scratch:
        os.environ[HOME_VARIABLE] = str(Path(scratch, "home"))
        written = pipelines.KINDS[name](Path(scratch, NAME))
        return name, f"`{type(written).__name__}`", *cells(Path(scratch), last)


def cells(scratch: Path, last: str) -> list[str]:
    """Of each stage after the one before it."""
    found, state = [], {"scratch": scratch}
    for stage in STAGES:
        try:
            stage(state)
        except GenzooError as error:
            found.append(str(error).replace("|", "/").replace(str(scratch), "..."))
            break
        found.append("yes")
        if HEAD[1 + len(found)] == last:
            return [*found, *["not run"] * (len(STAGES) - len(found))]
    return [*found, *["—"] * (len(STAGES) - len(found))]


def imports(state: dict[str, Any]) -> None:
    from zoo import registry
    from zoo.exchange.importing import import_from

    import_from(state["scratch"] / NAME, licence="mit")
    state["checkpoint"] = registry.checkpoint(NAME)


def exports(state: dict[str, Any]) -> None:
    from export.exporter import export

    state["bundle"] = export(state["checkpoint"])


def gates(state: dict[str, Any]) -> None:
    from export.gate import require

    require(state["bundle"])


def samples(state: dict[str, Any]) -> None:
    """The same images on torch and on ONNX Runtime."""
    from export.runners import TorchRunner, bundle_generator

    request = state.get("request", REQUEST)
    state["images"] = bundle_generator(state["bundle"]).sample(request)
    _check(TorchRunner(state["checkpoint"]).generator.sample(request), state["images"])


def builds(state: dict[str, Any]) -> None:
    from export.engine_build import build

    bundle = state["bundle"]
    for graph in (bundle.entry, *bundle.encoders):
        build(bundle, graph)


def serves(state: dict[str, Any]) -> None:
    """The same images by Triton."""
    from serving.client import TritonRunner
    from serving.model_repository import write
    from serving.server import TritonServer
    from zoo.contract.request import columns

    bundle, expected = state["bundle"], state["images"]
    with TritonServer(write([bundle], state["scratch"] / "models"), state["scratch"] / "log") as server:
        runner = TritonRunner(server.grpc_url, NAME)
        found = runner.run(**columns(bundle.served_spec, state.get("request", REQUEST)))["image"]
        runner.close()
    _check(expected, found)


def _check(expected: np.ndarray, found: np.ndarray) -> None:
    if fault := image_error(expected, found).fault(LIMITS[Precision.FP32]):
        raise GenzooError(fault)


STAGES: tuple[Callable[[dict[str, Any]], None], ...] = (imports, exports, gates, samples, builds, serves)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="How far each class of pipeline goes, in docs/pipelines.md.")
    parser.add_argument("name", nargs="*", default=[], help="the rows to make again; all where none is named")
    parser.add_argument("--until", choices=HEAD[2:], default="serve", help="the last stage that is run")
    asked = parser.parse_args()
    for each in asked.name or pipelines.KINDS:
        replace_marked(PAGE, MARK, table([each], asked.until))
