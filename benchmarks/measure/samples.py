"""The images in which a generator is judged: fixed seeds, its own conditions, kept by the digest of what made them."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.quality import features, metrics
from benchmarks.quality.judges import Judges
from benchmarks.records import identify
from serving.images import grid as sheet
from zoo import files
from zoo.contract.assets import NO_ASSETS, Assets
from zoo.contract.conditions import turns
from zoo.contract.request import SampleRequest, Setting, defaults
from zoo.contract.spec import GeneratorSpec
from zoo.datasets import DatasetError, dataset
from zoo.files import home

FIRST_SEED = 1_000_000  # those below are for grids and for people
GRID_ROWS = 4
FRAMES = 10
COLUMNS = 10  # of the grid of a generator whose conditions do not come in turn
VISIBLE = 32  # pixels: smaller images are enlarged to be seen


class Sampled(Protocol):
    """A generator, as far as it is judged."""

    spec: GeneratorSpec

    def sample(self, request: SampleRequest) -> np.ndarray: ...

    def between(self, request: SampleRequest, frames: int) -> np.ndarray: ...


def draw(generator: Sampled, setting: Setting, count: int, made_by: Mapping[str, Any]) -> np.ndarray:
    """`count` images, uint8 (N, H, W, C), of seeds from FIRST_SEED on; `made_by` has the digests of what makes them."""
    path = _path("samples", setting.resolved(generator.spec), count, made_by).with_suffix(".npy")
    if path.is_file():
        return np.asarray(np.load(path, allow_pickle=False))
    images = generator.sample(SampleRequest(tuple(range(FIRST_SEED, FIRST_SEED + count)), setting=setting))
    with files.atomic(path) as temporary, temporary.open("wb") as file:
        np.save(file, images)
    return images


def judge(
    generator: Sampled,
    setting: Setting,
    count: int,
    made_by: Mapping[str, Any],
    judges: Judges,
    assets: Assets = NO_ASSETS,
) -> dict[str, Any]:
    """The quality of `count` images, asked for what `assets` have where nobody says: what `metrics.judged` finds.

    Raises QualityError.
    """
    nets = digests(judges)
    path = _path(
        "quality",
        setting.resolved(generator.spec),
        count,
        {**made_by, "nets": nets, "metrics": list(metrics.LOWER_IS_BETTER)},
    ).with_suffix(".json")
    if path.is_file():
        found: dict[str, Any] = json.loads(path.read_text())
        return found
    images = draw(generator, setting, count, made_by)
    asked = defaults(generator.spec, range(FIRST_SEED, FIRST_SEED + count), assets)
    found = metrics.judged(judges, images, asked)
    if judges.nets and count >= metrics.MEMORY_FROM:
        with contextlib.suppress(DatasetError):  # quality can be measured without the data set, this cannot
            training = dataset(judges.dataset).load("train", None).images
            memorised = metrics.memorised(images[: metrics.MEMORY_CHECKED], training)
            found["metrics"][metrics.MEMORISED] = dataclasses.asdict(memorised)
    files.write_json(path, found)
    return found


def digests(judges: Judges) -> dict[str, dict[str, str]]:
    """The files of each judge, as far as they decide anything. Raises FeatureNetError."""
    return {each.name: features.config(each.name)["files"] for each in judges.everybody}


def _path(kind: str, setting: Setting, count: int, made_by: Mapping[str, Any]) -> Path:
    identity = {"setting": setting.to_json(), "count": count, "first_seed": FIRST_SEED, **made_by}
    return home() / kind / identify(identity)


def pictures(generator: Sampled, setting: Setting, made_by: Mapping[str, Any]) -> dict[str, str]:
    """`grid` and `interpolation`, PNG in base64: they are the same on every runtime."""
    path = _path("pictures", setting.resolved(generator.spec), GRID_ROWS, {**made_by, "frames": FRAMES})
    path = path.with_suffix(".json")
    if path.is_file():
        found: dict[str, str] = json.loads(path.read_text())
        return found
    drawn = {"grid": grid(generator, setting), "interpolation": interpolation(generator, setting)}
    made = {name: base64.b64encode(picture).decode() for name, picture in drawn.items()}
    files.write_json(path, made)
    return made


def grid(generator: Sampled, setting: Setting) -> bytes:
    """A column for each value that comes in turn, a row for each of a few seeds."""
    columns = turns(generator.spec.conditions) or COLUMNS
    return png(generator.sample(SampleRequest(tuple(range(columns * GRID_ROWS)), setting=setting)), columns)


def interpolation(generator: Sampled, setting: Setting) -> bytes:
    """A row from each of a few seeds to the next."""
    made = generator.between(SampleRequest(tuple(range(GRID_ROWS + 1)), setting=setting), FRAMES)
    return png(made.reshape(-1, *made.shape[2:]), FRAMES)


def png(images: np.ndarray, columns: int) -> bytes:
    """uint8 (N, H, W, C) with C 1 or 3 as one picture, row by row; small images are enlarged to be seen."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(sheet(features.enlarged(images, VISIBLE), columns, gap=0)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
