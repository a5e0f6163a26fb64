"""Ray Serve's deployment: `@serve.batch` of what waits, one replica. `python -m ...ray_serve PORT`."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray import serve

from benchmarks.measure.frameworks import MOST
from benchmarks.measure.frameworks.made import Maker
from serving.ports import HOST


@serve.deployment(max_ongoing_requests=1024)
class Images:
    def __init__(self) -> None:
        self.maker = Maker()

    @serve.batch(max_batch_size=MOST, batch_wait_timeout_s=0.0)  # type: ignore[untyped-decorator]
    async def make(self, wishes: Sequence[Mapping[str, Any]]) -> list[str]:
        return await asyncio.to_thread(self.maker, wishes)  # the loop goes on taking requests

    async def __call__(self, request: Any) -> dict[str, Any]:
        return {"data": [{"b64_json": await self.make(await request.json())}]}


def main(port: int) -> None:
    ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    serve.start(http_options={"host": HOST, "port": port})
    serve.run(Images.bind())  # type: ignore[attr-defined]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        signal.pause()
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]))
