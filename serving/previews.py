"""What images look like on their way, for those who ask while they are made; NumPy only: Triton's models import it.

A model answers each request once, so a preview is a request of its own: it names the one that it is about by
`preview_id`, and which of its previews is meant. It is answered once that is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np

from zoo.contract.errors import RequestError, shown

MOST = 3  # of one request, as OpenAI's `partial_images`
PREVIEWS, PREVIEW, PREVIEW_ID = "previews", "preview", "preview_id"  # parameters: how many; which, from 0; of what
MAX_ID = 64  # characters

Answer = Callable[[np.ndarray], None]


class NoPreviewError(RequestError):
    """A preview of what is not being made, or not any more."""


@dataclass
class _Watched:
    count: int
    made: dict[int, np.ndarray] = field(default_factory=dict)
    waiting: dict[int, tuple[Answer, Callable[[Exception], None]]] = field(default_factory=dict)


class Previews:
    """Of the requests that are being made with some; threads may share one."""

    def __init__(self) -> None:
        self._watched: dict[str, _Watched] = {}
        self._lock = Lock()

    def begin(self, name: str, count: Any, images: int) -> None:
        """Raises RequestError."""
        if not 0 < len(name) <= MAX_ID or type(count) is not int or not 1 <= count <= MOST or images != 1:
            raise RequestError(
                f"{shown(count)} previews of {images} images by the {PREVIEW_ID} {shown(name)}: at most {MOST} of one "
                f"image are given, by an id of up to {MAX_ID} characters"
            )
        with self._lock:
            if name in self._watched:
                raise RequestError(f"{PREVIEW_ID} {shown(name)} is of a request that is being made: choose another")
            self._watched[name] = _Watched(count)

    def seen(self, name: str, index: int, image: np.ndarray) -> None:
        """`image` uint8 (1, H, W, C) is what it looks like."""
        with self._lock:
            watched = self._watched[name]
            watched.made[index] = image
            waiting = watched.waiting.pop(index, None)
        if waiting:
            waiting[0](image)

    def ask(self, name: str, index: Any, answer: Answer, failed: Callable[[Exception], None]) -> None:
        """Exactly one of both is called, once, now or later. Raises NoPreviewError for what there will not be."""
        with self._lock:
            watched = self._watched.get(name)
            if watched is None or index not in range(watched.count) or index in watched.waiting:
                raise NoPreviewError(f"there is no preview {shown(index)} of {shown(name)}, or it is asked for already")
            image = watched.made.get(index)
            if image is None:
                watched.waiting[index] = answer, failed
        if image is not None:
            answer(image)

    def end(self, name: str) -> None:
        """It was made, or will not be."""
        with self._lock:
            watched = self._watched.pop(name, None)
        for _, failed in watched.waiting.values() if watched else ():
            failed(NoPreviewError(f"{shown(name)} ended before its next preview"))


def rows_of(count: int, rows: int) -> Iterator[tuple[int, int]]:
    """(row, preview) of a table of so many rows: spread evenly, none at its end, each at a row of its own."""
    taken = set()
    for index in range(count):
        row = (index + 1) * rows // (count + 1)
        if 0 < row < rows and row not in taken:
            taken.add(row)
            yield row, index
