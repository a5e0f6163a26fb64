"""OpenMoji 17 (HfG Schwäbisch Gmünd and contributors, CC BY-SA 4.0): the black outlines of its 4,495 pictures.

Read from the npm package `openmoji` as `npm pack` leaves it, checked by digest, never unpacked; drawn by resvg, white
on black at 28 pixels in a frame of 2, as Fashion-MNIST's clothes are.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from zoo.datasets import Data, Dataset, DatasetError
from zoo.datasets.svg import rendered
from zoo.files import home

PACKAGE = "openmoji-17.0.0.tgz"
DIGEST = "55ee7d13485dec86e9f38c1f3a645a13382d33ff97c0cd845ee824b0aef45e68"
SOURCE_VARIABLE = "GENZOO_OPENMOJI"
OUTLINES = "package/black/svg/"
SKIN_TONES = ("1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF")
DRAWN, FRAME = 28, 2
TEST_EVERY = 10  # one drawing in so many is never trained on


def package_path(source: str | None = None) -> Path:
    return Path(source or os.environ.get(SOURCE_VARIABLE) or home() / "data" / "openmoji" / PACKAGE)


def outlines(source: str | None = None) -> np.ndarray:
    """Each drawing once, skin tones left out: uint8 (N, 32, 32, 1) in [0, 255], by code point.

    Most flags are one and the same empty frame, and some symbols are drawn twice; the first of equals is kept.
    `source` is the package's file; without one, the environment variable GENZOO_OPENMOJI, then `data/openmoji` in
    genzoo's home. Raises DatasetError.
    """
    drawn: dict[bytes, np.ndarray] = {}
    for name, svg in sorted(drawings(package(package_path(source)))):
        if not has_skin_tone(name):
            picture = draw(svg)
            drawn.setdefault(picture.tobytes(), picture)
    return np.pad(np.stack(list(drawn.values())), ((0, 0), (FRAME, FRAME), (FRAME, FRAME), (0, 0)))


def package(path: Path) -> bytes:
    """The published package's bytes. Raises DatasetError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(
            f"OpenMoji: {path} could not be read ({error}); fetch it with zoo/datasets/fetch_openmoji.sh "
            f"{path.parent} or set {SOURCE_VARIABLE} to the file {PACKAGE}"
        ) from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != DIGEST:
        raise DatasetError(
            f"OpenMoji: {path} has sha256 {digest[:12]}, expected {DIGEST[:12]}; it is not version 17.0.0 as "
            "published, fetch it again"
        )
    return data


def drawings(data: bytes, folder: str = OUTLINES) -> Iterator[tuple[str, str]]:
    """The code points and the SVG of each picture in a folder of a package, by default the outlines."""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        for member in archive:
            if member.isfile() and member.name.startswith(folder) and member.name.endswith(".svg"):
                file = archive.extractfile(member)
                assert file is not None
                yield Path(member.name).stem, file.read().decode()


def has_skin_tone(name: str) -> bool:
    return any(part in SKIN_TONES for part in name.split("-"))


def draw(svg: str) -> np.ndarray:
    """What an SVG covers, white on black, uint8 (28, 28, 1). Raises DatasetError where resvg is missing."""
    return rendered(svg, DRAWN)[:, :, 3:]


def load(split: str, source: str | None = None) -> Data:
    """The outlines of "train" or "test", uint8 (N, 32, 32, 1), one drawing in ten for the test. Raises DatasetError."""
    drawn = outlines(source)
    is_test = np.arange(len(drawn)) % TEST_EVERY == TEST_EVERY - 1
    return Data(drawn[is_test == (split == "test")])


DATASET = Dataset(
    name="openmoji",
    title="OpenMoji 17",
    licence="CC BY-SA 4.0",
    credit="HfG Schwäbisch Gmünd and contributors, https://openmoji.org",
    shows="the outlines of emoji as 28x28 grey pictures",
    prepared="drawn white on black at 28x28, padded to 32x32",
    verified="by digest",
    image_shape=(DRAWN + 2 * FRAME, DRAWN + 2 * FRAME, 1),
    counts={"train": 1_845, "test": 205},
    load=load,
)
