"""The images in which a generator is judged: fixed seeds, conditions drawn by them, made and kept in shards.

A shard is kept by the digest of all that decides its images, so fewer images are the first of more, a run that was
stopped goes on, and another machine may make some.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.quality import features, metrics
from benchmarks.quality.judges import Judges
from benchmarks.records import identify
from serving.images import grid as sheet
from zoo import datasets, files
from zoo.contract.assets import NO_ASSETS, Assets
from zoo.contract.conditions import arrays, default, kind, turns
from zoo.contract.request import SampleRequest, Setting, sizes_of
from zoo.contract.spec import GeneratorSpec
from zoo.files import home
from zoo.sampling import noise

FIRST_SEED = 1_000_000  # those below are for grids and for people
SHARD = 250  # images
DRAWN = "at random by the seed"  # the conditions
OF_HELD_OUT = "those of held-out pictures, at random by the seed"
CONDITIONS = 1 << 32  # the stream that they are drawn of; noise has the first ones
GRID_ROWS = 4
FRAMES = 10
COLUMNS = 10  # of the grid of a generator whose conditions do not come in turn
VISIBLE = 32  # pixels: smaller images are enlarged to be seen


class Sampled(Protocol):
    """A generator, as far as it is judged."""

    spec: GeneratorSpec

    def sample(self, request: SampleRequest) -> np.ndarray: ...

    def between(self, request: SampleRequest, frames: int) -> np.ndarray: ...


@dataclass(frozen=True)
class Shard:
    """Some images of a generator: they follow from what stands here, wherever they are made.

    `made_by` has the digests of what makes them, and what else decides their last bit (runtime, images an execution);
    `frequencies` are of the values of a condition, by its name, where they are not all alike.
    """

    setting: Setting  # resolved
    first_seed: int
    count: int
    made_by: Mapping[str, Any]
    frequencies: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def seeds(self) -> range:
        return range(self.first_seed, self.first_seed + self.count)

    @property
    def path(self) -> Path:
        """Where its images are kept, uint8 (count, H, W, C)."""
        identity = {
            "setting": self.setting.to_json(),
            "first_seed": self.first_seed,
            "count": self.count,
            "conditions": {"drawn": DRAWN, "frequencies": self.frequencies},
            **self.made_by,
        }
        return (home() / "samples" / identify(identity)).with_suffix(".npy")

    def load(self) -> np.ndarray | None:
        """The images, if they were kept."""
        return np.asarray(np.load(self.path, allow_pickle=False)) if self.path.is_file() else None

    def keep(self, images: np.ndarray) -> None:
        with files.atomic(self.path) as temporary, temporary.open("wb") as file:
            np.save(file, images)


def shards(
    spec: GeneratorSpec,
    setting: Setting,
    count: int,
    made_by: Mapping[str, Any],
    frequencies: Mapping[str, tuple[float, ...]] | None = None,
) -> list[Shard]:
    """The first `count` images from FIRST_SEED on: SHARD of them in each but the last."""
    starts = range(0, count, SHARD)
    return [
        Shard(setting.resolved(spec), FIRST_SEED + start, min(SHARD, count - start), made_by, frequencies or {})
        for start in starts
    ]


def make(generator: Sampled, shard: Shard, assets: Assets = NO_ASSETS) -> np.ndarray:
    """The images of a shard, uint8 (N, H, W, C), made anew. Raises RequestError."""
    asked = conditions(generator.spec, shard.seeds, assets, shard.frequencies)
    return generator.sample(SampleRequest(tuple(shard.seeds), asked, shard.setting))


def conditions(
    spec: GeneratorSpec,
    seeds: Sequence[int],
    assets: Assets = NO_ASSETS,
    frequencies: Mapping[str, tuple[float, ...]] | None = None,
) -> dict[str, list[Any]]:
    """What each seed is asked for, a value a seed by the name of a condition: drawn at random by the seed.

    Values come as often as `frequencies` say, and all alike where they do not: classes, or examples, as `asked` gives
    them, of which a seed has one whole. Raises RequestError where there is none.
    """
    drawn = noise.uniform(seeds, CONDITIONS)
    found: dict[str, list[Any]] = {}
    for condition in spec.conditions:
        known = (frequencies or {}).get(condition.name)
        places = np.searchsorted(np.cumsum(known)[:-1], drawn, "right") if known else drawn * 2.0**32
        found[condition.name] = [default(condition, int(place), assets) for place in places]
    return found


def examples(spec: GeneratorSpec) -> tuple[str, ...]:
    """The conditions of which a seed has one of a list of examples where nobody asks for anything."""
    return tuple(each.name for each in spec.conditions if each.default is None and not kind(each).turns(each))


def asks(spec: GeneratorSpec, dataset: str) -> bool:
    """Whether a generator is asked for what held-out pictures of a data set show, and not by its few examples."""
    known, needed = datasets.known(dataset), examples(spec)
    return known is not None and bool(needed) and set(needed) <= set(known.asks)


def asked(spec: GeneratorSpec, dataset: str, assets: Assets) -> Assets:
    """What it is asked for where it is judged, in the place of its examples. Raises DatasetError."""
    return replace(assets, given=_held_out(dataset)) if asks(spec, dataset) else assets


@lru_cache(2)  # they may be pictures
def _held_out(dataset: str) -> Mapping[str, Sequence[Any]]:
    known = datasets.dataset(dataset)
    conditions: Mapping[str, Any] = known.load("test", None).conditions
    return {name: conditions[name] for name in known.asks}


def draw(
    generator: Sampled,
    setting: Setting,
    count: int,
    made_by: Mapping[str, Any],
    assets: Assets = NO_ASSETS,
    frequencies: Mapping[str, tuple[float, ...]] | None = None,
    told: Callable[[int], None] = lambda _: None,
) -> np.ndarray:
    """`count` images, uint8 (N, H, W, C), of seeds from FIRST_SEED on; each shard is kept as soon as it is made.

    `told` hears how many there are. Raises RequestError.
    """
    parts: list[np.ndarray] = []
    for shard in shards(generator.spec, setting, count, made_by, frequencies):
        found = shard.load()
        if found is None:
            found = make(generator, shard, assets)
            shard.keep(found)
        parts.append(found)
        told(shard.first_seed + shard.count - FIRST_SEED)
    return np.concatenate(parts)


def judge(
    generator: Sampled,
    setting: Setting,
    count: int,
    made_by: Mapping[str, Any],
    judges: Judges,
    assets: Assets = NO_ASSETS,
    told: Callable[[int], None] = lambda _: None,
    kinds: Collection[str] = (),
) -> dict[str, Any]:
    """The quality of `count` images, of random conditions: what `metrics.judged` finds, by some kinds of metric or all.

    Raises QualityError, RequestError.
    """
    nets, spec, frequencies = digests(judges), generator.spec, metrics.frequencies(judges)
    asked_by = {"nets": nets, "code": metrics.code(), "frequencies": frequencies}
    asked_by |= {"kinds": sorted(kinds)} if kinds else {}
    path = _path("quality", setting.resolved(spec), count, {**made_by, **asked_by, "conditions": DRAWN})
    path = path.with_suffix(".json")
    if path.is_file():
        found: dict[str, Any] = json.loads(path.read_text())
        return found
    images = draw(generator, setting, count, made_by, assets, frequencies, told)
    values = conditions(spec, range(FIRST_SEED, FIRST_SEED + count), assets, frequencies)
    sizes = sizes_of(spec, {})
    asked = {each.name: arrays(each, values[each.name], sizes) for each in spec.conditions}
    found = metrics.judged(judges, images, asked, kinds)
    files.write_json(path, found)
    return found


def digests(judges: Judges) -> dict[str, dict[str, str]]:
    """The files of each judge, as far as they decide anything. Raises FeatureNetError."""
    return {each.name: features.digests(each.name, judges.dataset) for each in judges.everybody}


def _path(kind: str, setting: Setting, count: int, made_by: Mapping[str, Any]) -> Path:
    identity = {"setting": setting.to_json(), "count": count, "first_seed": FIRST_SEED, **made_by}
    return home() / kind / identify(identity)


def pictures(
    generator: Sampled, setting: Setting, made_by: Mapping[str, Any], assets: Assets = NO_ASSETS
) -> dict[str, str]:
    """`grid`, and `interpolation` where there is noise, PNG in base64: they are the same on every runtime."""
    path = _path("pictures", setting.resolved(generator.spec), GRID_ROWS, {**made_by, "frames": FRAMES})
    path = path.with_suffix(".json")
    if path.is_file():
        found: dict[str, str] = json.loads(path.read_text())
        return found
    drawn = {"grid": grid(generator, setting, assets)}
    if generator.spec.noise:
        drawn["interpolation"] = interpolation(generator, setting)
    made = {name: base64.b64encode(picture).decode() for name, picture in drawn.items()}
    files.write_json(path, made)
    return made


def grid_columns(spec: GeneratorSpec) -> int:
    return turns(spec.conditions) or COLUMNS


def grid(generator: Sampled, setting: Setting, assets: Assets = NO_ASSETS) -> bytes:
    """A column for each value that comes in turn, a row for each of a few seeds; above each what it was shown."""
    columns = grid_columns(generator.spec)
    seeds = range(columns * GRID_ROWS)
    images = generator.sample(SampleRequest(tuple(seeds), setting=setting))
    seen = pictures_shown(generator.spec, seeds, assets)
    if seen is not None:
        rows = [each.reshape(GRID_ROWS, columns, *each.shape[1:]) for each in (seen, images)]
        images = np.stack(rows, axis=1).reshape(-1, *images.shape[1:])
    return png(images, columns)


def pictures_shown(spec: GeneratorSpec, seeds: Sequence[int], assets: Assets) -> np.ndarray | None:
    """What the checkpoint's own examples show each seed, uint8 NHWC; None where they show nothing of an image's size.

    Raises RequestError where it has none.
    """
    for condition in spec.conditions:
        picture, sizes = kind(condition).picture, sizes_of(spec, {})
        if picture is not None:
            values = [default(condition, seed, assets) for seed in seeds]
            found = picture(condition, arrays(condition, values, sizes))
            return found if found.shape[1:] == spec.default_image_shape else None
    return None


def interpolation(generator: Sampled, setting: Setting) -> bytes:
    """A row from each of a few seeds to the next."""
    made = generator.between(SampleRequest(tuple(range(GRID_ROWS + 1)), setting=setting), FRAMES)
    return png(made.reshape(-1, *made.shape[2:]), FRAMES)


def png(images: np.ndarray, columns: int) -> bytes:
    """uint8 (N, H, W, C) with C 1 or 3 as one picture, row by row; small images are enlarged to be seen.

    One in colour has its 256 best colours and a third of the bytes, for records and cards travel with every clone; no
    number is taken from it.
    """
    from PIL import Image

    buffer = io.BytesIO()
    picture = Image.fromarray(sheet(features.enlarged(images, VISIBLE), columns, gap=0))
    if picture.mode == "RGB":
        picture = picture.quantize(256, dither=Image.Dither.NONE)
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
