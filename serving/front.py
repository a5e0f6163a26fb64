"""The measured front: what each generator's settings take and are worth, in one file that a server can read.

    zoo/checkpoints/front.json
        {"format": "genzoo-front/1", "fronts": [{"dataset", "images", "opinions", "runtime", "points": [{
            "title", "generator", "weights", "setting", "calls", "ms", "distances", "beats"}]}]}

`genzoo tree` writes it from records. `beats` are the titles of the points that some feature net holds for worse beyond
chance and none for better: quality is an order of pairs, never a number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zoo import index
from zoo.contract.request import Setting
from zoo.errors import StoreError
from zoo.files import write_json
from zoo.plain import PlainError, rebuild

PATH = index.TREE / "front.json"
FORMAT = "genzoo-front/1"


@dataclass(frozen=True)
class Point:
    """A generator at a setting: `calls` of its network and p50 `ms` for one image, Fréchet `distances` by net.

    `weights` is the digest of the checkpoint that was measured.
    """

    title: str
    generator: str
    weights: str
    setting: Setting
    calls: int
    ms: float
    distances: Mapping[str, float]
    beats: tuple[str, ...] = ()


@dataclass(frozen=True)
class Front:
    """The points of one data set, of so many images each, timed on one runtime; any of them may be beaten."""

    dataset: str
    images: int
    opinions: tuple[str, ...]
    runtime: str
    points: tuple[Point, ...]

    def of(self, weights: Mapping[str, str]) -> Front:
        """What is known of some generators, by the digests of their weights."""
        kept = tuple(point for point in self.points if weights.get(point.generator) == point.weights)
        return Front(self.dataset, self.images, self.opinions, self.runtime, kept)


def unbeaten(points: Sequence[Point]) -> list[Point]:
    """Those that no other of them beats."""
    beaten = {title for point in points for title in point.beats}
    return [point for point in points if point.title not in beaten]


def write(fronts: Sequence[Front], path: Path = PATH) -> Path:
    found = [{**asdict(front), "points": [_plain(point) for point in front.points]} for front in fronts]
    write_json(path, {"format": FORMAT, "fronts": found})
    return path


def _plain(point: Point) -> dict[str, Any]:
    return {**asdict(point), "setting": point.setting.to_json()}


def read(path: Path = PATH) -> dict[str, Front]:
    """By data set. Raises StoreError."""
    try:
        found = json.loads(path.read_text())
        if found["format"] != FORMAT:
            raise ValueError(f"its format is {found['format']!r}, expected {FORMAT!r}")
        fronts = [rebuild(Front, each, "front") for each in found["fronts"]]
    except (OSError, ValueError, LookupError, TypeError, PlainError) as error:
        raise StoreError(f"{path} could not be read ({error}); restore it, or `genzoo tree` writes it") from error
    return {front.dataset: front for front in fronts}
