"""Portraits: 64x64 colour pictures of six CC0 designs of DiceBear, each with a caption that says all that varies.

Drawn here, so unlimited: picture `index` of a style follows from the style, the grammar in portrait_styles.py, a seed,
and the versions of DiceBear and resvg, to the bit. A caption is exact and can be read back (`read`), so what a
generator made of it can be judged attribute by attribute.

Split by combination, never by file: a picture is held out, in "test", where one of two pairs of its attributes is of
the eighth of all such pairs that "train" never shows together; it shows each of the two with others.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np

from zoo import files
from zoo.contract.errors import nearest
from zoo.datasets import Data, Dataset, DatasetError
from zoo.datasets.portrait_styles import ABSENT, BY_WORD, GROUND, LICENCE, STYLES, WORDS, Attribute, Style
from zoo.files import home

SIZE = 64
SEED = 0
COUNT = 5000  # of each style, both splits together
HELD_OUT = 8  # of so many pairs of two attributes' values, one is in no picture of "train"
VERSIONS = {"dicebear-core": "10.7.0", "dicebear-styles": "10.6.0", "resvg-py": "0.5.0"}
CURE = "`pip install genzoo[portraits]`"


class CaptionError(DatasetError, ValueError):
    """A text that is no caption of the grammar."""


@dataclass(frozen=True)
class Portrait:
    """A style, and a word for each of its attributes, ABSENT for a part that is not there."""

    style: Style
    words: Mapping[str, str]

    @property
    def caption(self) -> str:
        said = [self.style.word]
        for name, word in self.words.items():
            said += [GROUND] * (name == GROUND) + [word] * (word != ABSENT)
        return " ".join(said)

    @property
    def held_out(self) -> bool:
        """Whether no picture of "train" shows this combination."""
        return any(self._held_out(*pair, turn) for turn, pair in enumerate(self.style.held_out))

    def _held_out(self, first: str, second: str, turn: int) -> bool:
        a, b = (self.style.attribute(name).words.index(self.words[name]) for name in (first, second))
        return (3 * a + b + turn) % HELD_OUT == 0


def read(caption: str) -> Portrait:
    """The portrait that a caption describes, all attributes named: the inverse of `Portrait.caption`.

    Raises CaptionError.
    """
    word, *rest = caption.lower().split() or [""]
    if word not in BY_WORD:
        raise CaptionError(f"caption {caption!r} begins with no style's word: {nearest(word, BY_WORD)}")
    words: dict[str, str] = {}
    for attribute in BY_WORD[word].attributes:
        if attribute.name == GROUND and rest[:1] == [GROUND]:
            rest = rest[1:]
        known = bool(rest) and rest[0] in attribute.words
        if not known and ABSENT not in attribute.words:
            said = f"{rest[0]!r} where" if rest else "no more words where"
            raise CaptionError(f"caption {caption!r} has {said} its {attribute.name} is named: {_choices(attribute)}")
        words[attribute.name] = rest.pop(0) if known else ABSENT
    if rest:
        raise CaptionError(f"caption {caption!r} has {rest[0]!r} where no word is expected, leave it out")
    return Portrait(BY_WORD[word], words)


def _choices(attribute: Attribute) -> str:
    return f"expected one of {', '.join(attribute.words)}"


def portrait(style: Style, index: int, seed: int = SEED) -> Portrait:
    """The portrait of that number: every value is as likely as any other."""
    words = {}
    for attribute in style.attributes:
        drawn = hashlib.sha256(f"{seed} {style.name} {index} {attribute.name}".encode()).digest()
        words[attribute.name] = attribute.words[int.from_bytes(drawn[:8], "big") % len(attribute.words)]
    return Portrait(style, words)


def draw(shown: Portrait, seed: str = "") -> np.ndarray:
    """Its picture, uint8 (64, 64, 3) in [0, 255], on white where the design has no background.

    `seed` decides what no caption says, like a planet's stars. Raises DatasetError where DiceBear or resvg is missing.
    """
    try:
        import resvg_py
        from dicebear import Avatar
        from PIL import Image
    except ImportError as error:
        raise DatasetError(f"portraits are drawn by dicebear-core, resvg-py and pillow: {CURE}") from error
    svg = str(Avatar(_design(shown.style.name), {**_options(shown), "seed": seed}))
    png = resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE, skip_system_fonts=True)
    with Image.open(io.BytesIO(bytes(png))) as picture:
        ground = Image.new("RGBA", picture.size, "white")
        return np.asarray(Image.alpha_composite(ground, picture.convert("RGBA")).convert("RGB"))


def _options(shown: Portrait) -> dict[str, Any]:
    """What DiceBear is asked for, with nothing left to its own chance that a caption names."""
    options = dict(shown.style.fixed)
    for attribute in shown.style.attributes:
        word, part = shown.words[attribute.name], attribute.option.removesuffix("Variant")
        if word != ABSENT:
            options[attribute.option] = [attribute.values[word]]
        if part != attribute.option:
            options[f"{part}Probability"] = 0 if word == ABSENT else 100
    return options


@lru_cache
def _design(name: str) -> Any:
    """A style of DiceBear. Raises DatasetError where another version than the pinned one is installed."""
    from dicebear import Style as Design

    found = {package: metadata.version(package) for package in VERSIONS}
    if found != VERSIONS:
        raise DatasetError(f"portraits are drawn by {_written(VERSIONS)}, here is {_written(found)}: {CURE}")
    return Design(json.loads((resources.files("dicebear_styles") / f"{name}.json").read_text("utf-8")))


def _written(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{package} {version}" for package, version in versions.items())


def load(split: str, source: str | None = None, *, seed: int = SEED, count: int = COUNT) -> Data:
    """Images, uint8 (N, 64, 64, 3) in [0, 255], and their captions as `prompt`, of "train", "test" or "all".

    Of `count` pictures a style about a fifth are held out. Drawn once, in about two minutes, and kept in `source`,
    else in `data/portraits` of genzoo's home. Raises DatasetError.
    """
    path = Path(source or home() / "data" / "portraits") / f"{identity(seed, count)}.npz"
    if not path.is_file():
        _keep(path, *pictures(seed, count))
    try:
        with np.load(path, allow_pickle=False) as kept:
            images, captions = kept["images"], kept["captions"].tolist()
    except (OSError, ValueError, KeyError) as error:
        raise DatasetError(f"portraits: {path} cannot be read ({error}); remove it and it is drawn again") from error
    if split == "all":
        return Data(images, {"prompt": captions})
    wanted = np.array([read(caption).held_out is (split == "test") for caption in captions])
    return Data(images[wanted], {"prompt": [caption for caption, here in zip(captions, wanted, strict=True) if here]})


def identity(seed: int, count: int) -> str:
    """Of all that determines the pictures."""
    return files.identify([VERSIONS, [asdict(style) for style in STYLES], SIZE, seed, count])


def pictures(seed: int, count: int) -> tuple[np.ndarray, list[str]]:
    """The first `count` pictures of each style and their captions, in an order that mixes the styles."""
    shown = [(style, index) for index in range(count) for style in STYLES]
    portraits = [portrait(style, index, seed) for style, index in shown]
    images = [draw(each, f"{seed} {index}") for each, (_, index) in zip(portraits, shown, strict=True)]
    return np.stack(images), [each.caption for each in portraits]


def _keep(path: Path, images: np.ndarray, captions: list[str]) -> None:
    with files.atomic(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, images=images, captions=np.array(captions))


def examples(count: int) -> tuple[str, ...]:
    """So many captions of held-out combinations, of all styles."""
    shown = (portrait(style, index) for index in itertools.count() for style in STYLES)
    return tuple(itertools.islice((each.caption for each in shown if each.held_out), count))


DATASET = Dataset(
    name="portraits",
    title="Portraits in six designs",
    licence=LICENCE,
    credit="; ".join(style.credit for style in STYLES),
    shows=f"critters, pot plants, moods, planets, voxel people and peeps by captions of {len(WORDS)} words",
    prepared=f"drawn at {SIZE}x{SIZE} by DiceBear {VERSIONS['dicebear-core']} and resvg",
    verified="by the digest of a sample",
    image_shape=(SIZE, SIZE, 3),
    counts={"train": 23_294, "test": 6_706},
    load=load,
)
