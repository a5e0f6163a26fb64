"""BentoML's service: adaptive batching of what waits (`batchable`), one worker."""

from __future__ import annotations

from typing import Any

import bentoml

from benchmarks.measure.frameworks import GONE_S, MOST
from benchmarks.measure.frameworks.made import Maker

LONGEST_MS = int(1000 * GONE_S)


@bentoml.service(workers=1, traffic={"timeout": 60}, logging={"access": {"enabled": False}})
class Images:
    def __init__(self) -> None:
        self.make = Maker()

    @bentoml.api(route="/v1/images/generations", batchable=True, max_batch_size=MOST, max_latency_ms=LONGEST_MS)  # type: ignore[untyped-decorator]
    def images(self, wishes: list[dict[str, Any]]) -> list[str]:
        return self.make(wishes)
