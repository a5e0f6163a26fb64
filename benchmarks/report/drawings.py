"""Rows as points of plots, and what pictures share: sizes, machines in words."""

from __future__ import annotations

import base64
import io
from collections.abc import Collection, Mapping
from typing import Any

from benchmarks.report import plot
from benchmarks.report.comparison import Comparison
from benchmarks.report.palette import look
from benchmarks.report.plot import Frame, Plot, Point
from benchmarks.report.summary import Row, Section


def front(
    section: Section, comparison: Comparison, frame: Frame = plot.FRAME, names: Mapping[str, str] = {}
) -> Plot | None:
    """The p50 of one image against the Fréchet distance in the first opinion's features, on the section's runtime.

    Grey is what another row beats under every opinion, divided what one beats in that net's features and not in all.
    `comparison` is of the section's rows; `names` are labels by the rows' titles. None where nothing was timed and
    judged.
    """
    runtime = section.runtime
    if runtime is None or not section.opinions:
        return None
    net = section.opinions[0]
    beaten = comparison.beaten(latencies(section.rows, runtime))
    divided = Comparison(section.rows, (net,)).beaten(latencies(section.rows, runtime)) - beaten
    points = [
        Point(
            names.get(row.title, row.title),
            number,
            look(row.family),
            x,
            y,
            grey=number - 1 in beaten,
            divided=number - 1 in divided,
        )
        for number, row in enumerate(section.rows, 1)
        if (x := row.percentile(runtime)) and (y := row.metric("fd", net))
    ]
    real = section.baselines.get("floor")
    floor = real.metric("fd", net) if real else None
    return plot.draw(points, frame, floor.value if floor else None)


def latencies(rows: Collection[Row], runtime: str) -> list[float | None]:
    return [found.value if (found := row.percentile(runtime)) else None for row in rows]


def machine(found: Mapping[str, Any]) -> str:
    """In words, without what tells one host from another of its kind."""
    return f"{found['cpu']}, {found['cores']} cores"


def size(grid: str) -> tuple[int, int]:
    """Width and height of a PNG in base64."""
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(grid))) as image:
        width, height = image.size
    return width, height
