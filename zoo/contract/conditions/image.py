"""A picture, or a mask of one: 8-bit pixels outside, a range of floats for the network; none of it is black."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from zoo.contract.assets import Assets
from zoo.contract.conditions import Condition, Kind
from zoo.contract.errors import RequestError
from zoo.contract.graph import AXIS, TensorSpec, size
from zoo.images import to_pixels
from zoo.plain import PlainError

MAX_SIDE = 1 << 14
MAX_CHANNELS = 64
MODES = {1: "L", 3: "RGB"}
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")  # Pillow hands others, like EPS, to programs


@dataclass(frozen=True)
class Options:
    """Pixels 0 to 255 become `low` to `high`; a size may be one that the request chooses, like "height/8"."""

    height: int | str
    width: int | str
    channels: int = 3
    low: float = -1.0
    high: float = 1.0


def check(condition: Condition) -> None:
    options = condition.options
    check_sides(condition)
    if not 1 <= options.channels <= MAX_CHANNELS:
        raise PlainError(f"the image {condition.name} has {options.channels} channels, expected 1 to {MAX_CHANNELS}")
    if not (math.isfinite(options.low) and math.isfinite(options.high) and options.low < options.high):
        raise PlainError(
            f"the pixels of {condition.name} are {options.low:g} to {options.high:g}, the lower comes first"
        )


def check_sides(condition: Condition) -> None:
    """Raises PlainError for a height or a width that no picture has."""
    for side in (condition.options.height, condition.options.width):
        if not (AXIS.fullmatch(side) if isinstance(side, str) else 1 <= side <= MAX_SIDE):
            raise PlainError(f"a side of {condition.name} is {side}, expected 1 to {MAX_SIDE} or the name of a size")


def edge(condition: Condition) -> TensorSpec:
    options = condition.options
    return TensorSpec(condition.name, "uint8", (options.height, options.width, options.channels))


def tensors(condition: Condition) -> tuple[TensorSpec, ...]:
    options = condition.options
    return (TensorSpec(condition.name, "float32", (options.channels, options.height, options.width)),)


def sides(condition: Condition, sizes: Mapping[str, int]) -> tuple[int, int]:
    """Height and width in pixels."""
    return size(condition.options.height, sizes), size(condition.options.width, sizes)


def parse(condition: Condition, text: str, sizes: Mapping[str, int]) -> np.ndarray:
    """The picture of the file PATH or @PATH, as `read` has it."""
    return _pixels(condition, path_of(text), sizes)


def read(condition: Condition, content: bytes, sizes: Mapping[str, int]) -> np.ndarray:
    """A picture brought to the size: upright as its camera was held, what is transparent on white."""
    return _pixels(condition, BytesIO(content), sizes)


def path_of(text: str) -> Path:
    return Path(text.removeprefix("@"))


def _pixels(condition: Condition, source: Path | BytesIO, sizes: Mapping[str, int]) -> np.ndarray:
    from PIL import Image

    channels = condition.options.channels
    if channels not in MODES:
        raise RequestError(f"{condition.name} has {channels} channels, which no picture has: give an array")
    height, width = sides(condition, sizes)
    picture = _on_white(_of_eight_bits(condition, load(condition, source))).convert(MODES[channels])
    resized = picture.resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(resized).reshape(height, width, channels)


def load(condition: Condition, source: Path | BytesIO) -> Any:
    """The upright picture of a file or of what one holds, of Pillow. Raises RequestError."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    path = source if isinstance(source, Path) else "what was sent"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(source, formats=FORMATS) as picture:
                picture.load()
                found = ImageOps.exif_transpose(picture)
    except UnidentifiedImageError:
        raise RequestError(f"{condition.name}: {path} is no picture: give a PNG, a JPEG or a WebP") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        most = Image.MAX_IMAGE_PIXELS or 0
        raise RequestError(f"{condition.name}: {path} has more than {most:,} pixels: give a smaller one") from None
    except (OSError, SyntaxError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise RequestError(f"{condition.name}: {path} cannot be read ({why}): give a PNG, a JPEG or a WebP") from error
    return found


def _of_eight_bits(condition: Condition, picture: Any) -> Any:
    from PIL import Image

    if picture.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.mode in ("I", "F"):
        raise RequestError(f"{condition.name} has pixels of 32 bits, whose range nothing says: save it with 8")
    return picture


def _on_white(picture: Any) -> Any:
    from PIL import Image

    if not picture.has_transparency_data:
        return picture
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)


def array(condition: Condition, value: Any, sizes: Mapping[str, int]) -> np.ndarray:
    """Pixels, uint8 (H, W, C), or (H, W) of one channel; or a whole number, which is a picture of that grey level."""
    options = condition.options
    height, width = sides(condition, sizes)
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and 0 <= value <= 255:
        return np.full((height, width, options.channels), value, np.uint8)
    wanted = f"expected pixels from 0 to 255, uint8 ({height}, {width}, {options.channels})"
    if not isinstance(value, np.ndarray):
        raise RequestError(f"{condition.name} is of type {type(value).__name__}: {wanted}")
    found = value[..., None] if value.ndim == 2 and options.channels == 1 else value
    if found.dtype != np.uint8 or found.shape != (height, width, options.channels):
        raise RequestError(f"{condition.name} is {value.dtype} {value.shape}: {wanted}")
    return found


def encode(condition: Condition, arrays: np.ndarray, _: Assets) -> dict[str, np.ndarray]:
    low, high = condition.options.low, condition.options.high
    if (low, high) == (-1.0, 1.0):
        return {condition.name: to_pixels(arrays)}  # bit for bit what networks are trained on
    pixels = np.ascontiguousarray(arrays.transpose(0, 3, 1, 2), np.float32) / np.float32(255.0)
    return {condition.name: pixels * np.float32(high - low) + np.float32(low)}


def null(condition: Condition, sizes: Mapping[str, int]) -> np.ndarray:
    return array(condition, 0, sizes)


def picture(_: Condition, arrays: np.ndarray) -> np.ndarray:
    return arrays


KIND = Kind(Options, edge, tensors, parse, array, encode, null, check=check, picture=picture, read=read)
