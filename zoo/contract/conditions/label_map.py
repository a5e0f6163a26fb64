"""A class for each pixel, 0 to count - 1; none of it is the class `count` everywhere, which no request can name."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from zoo.contract.assets import Assets
from zoo.contract.conditions import Condition, Kind, image, scalar
from zoo.contract.conditions.class_id import MAX_COUNT
from zoo.contract.errors import RequestError, shown
from zoo.contract.graph import TensorSpec
from zoo.plain import PlainError


@dataclass(frozen=True)
class Options:
    """A size may be one that the request chooses, like "height/8"."""

    height: int | str
    width: int | str
    count: int


def check(condition: Condition) -> None:
    image.check_sides(condition)
    if not 1 <= condition.options.count <= MAX_COUNT:
        raise PlainError(f"{condition.name} has {condition.options.count} classes, expected 1 to {MAX_COUNT}")


def edge(condition: Condition) -> TensorSpec:
    return TensorSpec(condition.name, _dtype(condition).name, (condition.options.height, condition.options.width))


def _dtype(condition: Condition) -> np.dtype[Any]:
    return np.dtype(np.uint8 if condition.options.count <= 255 else np.int32)


def tensors(condition: Condition) -> tuple[TensorSpec, ...]:
    return (TensorSpec(condition.name, "int64", (condition.options.height, condition.options.width)),)


def parse(condition: Condition, text: str, sizes: Mapping[str, int]) -> np.ndarray:
    """The picture of the file PATH or @PATH, as `read` has it."""
    return _classes(condition, image.path_of(text), sizes)


def read(condition: Condition, content: bytes, sizes: Mapping[str, int]) -> np.ndarray:
    """A picture whose grey levels, or numbers in its palette, are the classes; no class is mixed of its neighbours."""
    return _classes(condition, BytesIO(content), sizes)


def _classes(condition: Condition, source: Path | BytesIO, sizes: Mapping[str, int]) -> np.ndarray:
    from PIL import Image

    picture = image.load(condition, source)
    if len(picture.getbands()) > 1:
        where = source if isinstance(source, Path) else "what was sent"
        raise RequestError(f"{condition.name}: {where} has colours, expected grey levels or a palette, one a class")
    height, width = image.sides(condition, sizes)
    found = np.asarray(picture.resize((width, height), Image.Resampling.NEAREST))
    return found.astype(np.uint8) if found.dtype == bool else found


def array(condition: Condition, value: Any, sizes: Mapping[str, int]) -> np.ndarray:
    """Whole numbers (H, W), or one, which is a map of that class."""
    height, width = image.sides(condition, sizes)
    found = scalar.plain(value)
    count = condition.options.count
    wanted = f"expected whole numbers from 0 to {count - 1}, ({height}, {width})"
    if found.dtype.kind not in "iu":
        raise RequestError(f"{condition.name} is {shown(value)}: {wanted}")
    if found.shape not in ((), (height, width)):
        raise RequestError(f"{condition.name} has the shape {found.shape}: {wanted}")
    if (outside := found[(found < 0) | (found >= count)]).size:
        raise RequestError(f"{condition.name} has the class {outside.flat[0]}: {wanted}")
    return np.broadcast_to(found, (height, width)).astype(_dtype(condition))


def encode(condition: Condition, arrays: np.ndarray, _: Assets) -> dict[str, np.ndarray]:
    return {condition.name: arrays.astype(np.int64)}


def null(condition: Condition, sizes: Mapping[str, int]) -> np.ndarray:
    return np.full(image.sides(condition, sizes), condition.options.count, _dtype(condition))


def picture(condition: Condition, arrays: np.ndarray) -> np.ndarray:
    """A colour for each class: hues all around, light and dark by turns."""
    classes = range(condition.options.count + 1)  # none of it is one too
    found = [colorsys.hls_to_rgb(each / len(classes), 0.35 + 0.3 * (each % 2), 0.6) for each in classes]
    return np.asarray((255.0 * np.array(found)).astype(np.uint8)[arrays])


KIND = Kind(Options, edge, tensors, parse, array, encode, null, check=check, picture=picture, read=read)
