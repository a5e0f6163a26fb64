"""Pictures of strips for README and docs: a row of images with a line above, and a word below each."""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.templates import template
from zoo import files
from zoo.contract.generator import Generator
from zoo.contract.request import SampleRequest, Setting

SEED = 4  # where a picture does not say another
SIDE, GAP = 96, 10  # in the units of the picture
HEAD = 56  # of a strip's line and words


@dataclass(frozen=True)
class Strip:
    """A row of pictures with a line above, and a word below each: PNG in base64."""

    title: str
    command: str
    pictures: tuple[tuple[str, str], ...]


def strip(title: str, command: str, names: Iterable[str], images: Iterable[np.ndarray]) -> Strip:
    """Images are uint8 (H, W, 1 or 3), as many as names."""
    return Strip(title, command, tuple((name, _png(image)) for name, image in zip(names, images, strict=True)))


def drawn(strips: Sequence[Strip]) -> str:
    pitch = SIDE + HEAD
    width = GAP + max(len(each.pictures) for each in strips) * (SIDE + GAP)
    page: str = template("strips.svg.j2").render(
        strips=strips, side=SIDE, gap=GAP, pitch=pitch, width=width, height=pitch * len(strips)
    )
    return page


def one(generator: Generator, setting: Setting, seed: int = SEED, **given: Any) -> np.ndarray:
    """The image of a seed, uint8 (H, W, C)."""
    [image] = generator.sample(SampleRequest((seed,), {name: (each,) for name, each in given.items()}, setting))
    return np.asarray(image)


def write(svg: Callable[[], str]) -> None:
    """The program of a module that draws such a picture: its one argument is where to."""
    with files.atomic(Path(sys.argv[1])) as temporary:
        temporary.write_text(svg())


def _png(image: np.ndarray) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, format="PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()
