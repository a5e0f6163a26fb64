"""Pieces of work for workers of other processes, which find them by this module's name."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from zoo import fanout
from zoo.errors import GenzooError
from zoo.files import home


class PieceError(GenzooError):
    """What a piece of work says when it cannot be done."""


def square(number: int) -> int:
    return number * number


def slow_square(given: tuple[int, str]) -> tuple[int, str]:
    """With a mark in a folder when it begins, so that a test knows what is under way."""
    number, folder = given
    (Path(folder) / f"{number}-{home().name}-{time.time_ns()}").touch()
    time.sleep(0.4)
    return number * number, home().name


def patient_square(given: tuple[int, str]) -> tuple[int, str]:
    """The first few at once, the others once one of them is on the node `late`."""
    number, folder = given
    (Path(folder) / f"{number}-{home().name}-{time.time_ns()}").touch()
    if home().name == "late":
        (Path(folder) / "go").touch()
    while number >= 4 and not (Path(folder) / "go").exists():
        time.sleep(0.05)
    time.sleep(0.1)
    return number * number, home().name


def who(given: int) -> str:
    return home().name


def here() -> str:
    return home().name


def span(seconds: float) -> tuple[str, float, float]:
    """The node, and when this piece began and ended there, by the clock that all of this host's processes share."""
    began = time.monotonic()
    time.sleep(seconds)
    return home().name, began, time.monotonic()


def refused(number: int) -> int:
    if number == 2:
        raise PieceError("the piece 2 is refused: give another")
    return number


def killer(number: int) -> int:
    os.kill(os.getpid(), 9)
    return number


def received(sha256: str) -> bytes:
    path = home() / "received" / sha256
    fanout.write(sha256, path)
    return path.read_bytes()


def opened(folder: fanout.Folder) -> str:
    from export.bundle import Bundle

    return str(Bundle.open(folder.here()).path)


def study_checkpoints(piece: Any) -> dict[str, str]:
    """The digests of a study's checkpoints as this worker finds them."""
    from benchmarks import studies
    from export import pieces

    with pieces.checkpoints(piece.checkpoints):
        return dict(studies.identity(piece.name)["checkpoints"])
