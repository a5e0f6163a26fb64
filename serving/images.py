"""Images to files: a grid to look at, or arrays to compute with. A file appears whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from zoo import files
from zoo.errors import GenzooError
from zoo.images import constant_images

GAP = 2  # pixels between the images of a grid
FORMATS = ("png", "webp", "jpeg")  # of a picture by itself


class OutputError(GenzooError):
    """A file name whose ending says nothing that can be written, or images that are none."""


def check_path(path: Path) -> None:
    """Before any image is made. Raises OutputError, and OSError for a folder that cannot be made or written."""
    if path.suffix not in (".png", ".npz"):
        raise OutputError(f"{path} ends in {path.suffix or 'nothing'!r}: end it in .png for a grid or .npz for arrays")
    if path.is_dir():
        raise OutputError(f"{path} is a folder: give the name of a file")
    files.check_writable(path.parent)


def check_contents(images: np.ndarray, name: str) -> None:
    """uint8 (N, H, W, C): where all are of one colour, `name` computed no numbers. Raises OutputError."""
    if constant_images(images).all():
        raise OutputError(
            f"{name} made nothing but images of one colour (value {images.flat[0]}), which are not taken: "
            f"`genzoo gate {name}` says what is wrong, --ungated takes them all the same"
        )


def write(
    path: Path,
    images: np.ndarray,
    seeds: np.ndarray,
    conditions: Mapping[str, np.ndarray],
    columns: int | None = None,
) -> None:
    """`images` uint8 (N, H, W, C); arrays have the seed of each and what it was asked for, a grid has `columns`."""
    with files.atomic(path) as temporary:
        if path.suffix == ".npz":
            with temporary.open("wb") as file:
                arrays: dict[str, Any] = {"images": images, "seeds": seeds, **conditions}
                np.savez_compressed(file, **arrays)
        else:
            from PIL import Image

            Image.fromarray(grid(images, columns)).save(temporary, format="PNG", optimize=True)


def grid(images: np.ndarray, columns: int | None = None, gap: int = GAP) -> np.ndarray:
    """One picture of all images in reading order, white where none is: uint8 (H', W') or (H', W', 3)."""
    count, height, width, channels = images.shape
    columns = columns or int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    canvas = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), 255, np.uint8)
    for index, image in enumerate(images):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        canvas[top : top + height, left : left + width] = image
    return canvas[..., 0] if channels == 1 else canvas


@dataclass(frozen=True)
class Encoding:
    """How a picture is written: `format` is png, webp or jpeg, `quality` 0 to 100 of the latter two; of a WebP 100
    loses nothing."""

    format: str = "png"
    quality: int = 100

    def __call__(self, image: np.ndarray) -> bytes:
        """`image` uint8 (H, W, 1) or (H, W, 3). Raises OutputError for other channels and formats."""
        from PIL import Image

        if self.format not in FORMATS or image.shape[2] not in (1, 3):
            seen = f"{self.format!r} of {image.shape[2]} channels"
            raise OutputError(f"a picture as {seen} cannot be written: choose {', '.join(FORMATS)}, of 1 or 3 channels")
        options: dict[str, Any] = {"quality": self.quality} if self.format != "png" else {}
        if self.format == "webp":
            options["lossless"] = self.quality == 100
        file = BytesIO()
        Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(file, format=self.format, **options)
        return file.getvalue()
