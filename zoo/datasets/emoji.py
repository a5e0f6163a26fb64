"""Emoji: 64x64 colour pictures of OpenMoji 17's smileys, hearts, animals, plants and food, with their drawn outlines.

Restricted to what holds together: no flags, no signs, no people, no skin tones. The coloured picture and the outline of
a code point are two drawings of the same lines. Split by code point, one in ten for the test.
"""

from __future__ import annotations

import json
import tarfile
from io import BytesIO

import numpy as np

from zoo import files
from zoo.datasets import Data, Dataset
from zoo.datasets.openmoji import DATASET as OPENMOJI
from zoo.datasets.openmoji import DIGEST, OUTLINES, TEST_EVERY, drawings, package, package_path
from zoo.datasets.portraits import drawn_once
from zoo.datasets.svg import on_white, rendered

SIZE = 64
COLOURED = "package/color/svg/"
TABLE = "package/data/openmoji.json"
# What is kept, by its place in the package's own table: the start of "group/subgroup" -> the word for it.
KINDS = {
    "smileys-emotion/face": "smiley",
    "smileys-emotion/cat-face": "cat",
    "smileys-emotion/heart": "heart",
    "animals-nature/animal": "animal",
    "animals-nature/plant": "plant",
    "food-drink/food": "food",
    "food-drink/drink": "drink",
}


def kinds(data: bytes) -> dict[str, tuple[int, str]]:
    """The kind, as its place in KINDS, and the name of each code point that is kept."""
    with tarfile.open(fileobj=BytesIO(data), mode="r:gz") as archive:
        table = archive.extractfile(TABLE)
        assert table is not None
        entries = json.load(table)
    found = {}
    for entry in entries:
        where = f"{entry['group']}/{entry['subgroups']}"
        places = [place for place, start in enumerate(KINDS) if where.startswith(start)]
        if places and not entry["skintone"]:
            found[entry["hexcode"]] = places[0], entry["annotation"]
    return found


def load(split: str, source: str | None = None) -> Data:
    """Images, uint8 (N, 64, 64, 3), with `prompt`, `class_id` and `outline`, uint8 (N, 64, 64, 1), 255 for a line.

    Of "train", "test" or "all". `source` is the package's file, as of OpenMoji. Drawn once. Raises DatasetError.
    """
    kept = drawn_once("emoji", files.identify([DIGEST, KINDS, SIZE]), lambda: _drawn(source), None)
    place = np.arange(len(kept["images"]))
    held_out = place % TEST_EVERY == TEST_EVERY - 1
    wanted = np.ones(len(place), bool) if split == "all" else held_out == (split == "test")
    conditions = {"class_id": kept["class_id"][wanted], "outline": kept["outline"][wanted]}
    return Data(kept["images"][wanted], {"prompt": kept["names"][wanted].tolist(), **conditions})


def _drawn(source: str | None) -> dict[str, np.ndarray]:
    data = package(package_path(source))
    coloured, outlined = (dict(drawings(data, folder)) for folder in (COLOURED, OUTLINES))
    shown = {code: found for code, found in sorted(kinds(data).items()) if code in coloured and code in outlined}
    return {
        "images": np.stack([on_white(rendered(coloured[code], SIZE)) for code in shown]),
        "outline": np.stack([rendered(outlined[code], SIZE)[..., 3:] for code in shown]),
        "class_id": np.array([kind for kind, _ in shown.values()], np.int64),
        "names": np.array([name for _, name in shown.values()]),
    }


DATASET = Dataset(
    name="emoji",
    title="Emoji of OpenMoji 17",
    licence=OPENMOJI.licence,
    credit=OPENMOJI.credit,
    shows="smileys, hearts, animals, plants and food as 64x64 colour pictures, with their outlines",
    prepared=f"drawn at {SIZE}x{SIZE} by resvg, on white",
    verified="by digest",
    image_shape=(SIZE, SIZE, 3),
    counts={"train": 394, "test": 43},
    load=load,
    labels={"class_id": tuple(KINDS.values())},
)
