"""A generator behind FastAPI as one writes it in an afternoon: one process, torch, a request at a time in its threads.

`python -m benchmarks.measure.peer NAME --runtime torch --port 8090`: what `benchmarks.measure.peers` compares a door
with. It answers as the door does: a PNG in base64, in JSON.
"""

from __future__ import annotations

import base64
from typing import Annotated, Any

import numpy as np
import typer
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from export.runtimes import Runtime
from serving import interface
from serving.generators import in_process
from serving.images import Encoding
from serving.ports import HOST
from zoo.contract.request import SampleRequest, Setting


class Wish(BaseModel):
    """As the door's, as far as they are compared."""

    model: str
    seed: int
    num_steps: int | None = None
    sampler: str | None = None


def application(name: str, runtime: Runtime) -> FastAPI:
    app, generator, encoding = FastAPI(), in_process(name, runtime, ungated=True), Encoding("png")

    def images(wish: Wish) -> dict[str, Any]:
        request = SampleRequest((wish.seed,), setting=Setting(wish.num_steps, wish.sampler))
        made: np.ndarray = generator.run(**interface.tensors(generator.spec, request))["image"]
        return {"data": [{"b64_json": base64.b64encode(encoding(image)).decode()} for image in made]}

    images.__annotations__["wish"] = Wish
    app.post("/v1/images/generations")(images)
    app.get("/health")(_health)
    return app


def _health() -> dict[str, str]:
    return {"status": "ok"}


def main(
    name: Annotated[str, typer.Argument(help="A checkpoint.")],
    runtime: Annotated[Runtime, typer.Option(help="torch or torch-compile.")] = Runtime.TORCH,
    port: Annotated[int, typer.Option(help="On the loopback address.")] = 8090,
) -> None:
    """Serve a checkpoint by FastAPI."""
    uvicorn.run(application(name, runtime), host=HOST, port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    typer.run(main)
