"""Drawings to pixels, by resvg: the same bytes on every machine."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np

from zoo.datasets import DatasetError

T = TypeVar("T")
LONG = 1000  # from so many drawings on, one sees how far they are


def one_by_one(items: Sequence[T], name: str) -> Iterable[T]:
    """The same, with a bar on standard error where they are many."""
    if len(items) < LONG:
        return items
    from rich.console import Console
    from rich.progress import track

    return track(items, f"{name} is drawn, once", console=Console(stderr=True))


def rendered(drawing: str, size: int) -> np.ndarray:
    """An SVG's colours and what it covers, uint8 (size, size, 4). Raises DatasetError where resvg is missing."""
    try:
        import resvg_py
        from PIL import Image
    except ImportError as error:
        raise DatasetError("drawings are rendered by resvg-py and pillow: `pip install genzoo[portraits]`") from error
    png = resvg_py.svg_to_bytes(svg_string=drawing, width=size, height=size, skip_system_fonts=True)
    with Image.open(io.BytesIO(bytes(png))) as picture:
        return np.asarray(picture.convert("RGBA"))


def on_white(layer: np.ndarray) -> np.ndarray:
    """(H, W, 4) -> (H, W, 3)."""
    from PIL import Image

    drawn = Image.fromarray(layer)
    return np.asarray(Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn).convert("RGB"))
