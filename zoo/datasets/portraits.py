"""Portraits: 64x64 colour pictures of six CC0 designs of DiceBear, each with a caption that says all that varies.

Drawn here, so unlimited: picture `index` of a style follows from the style, the grammar in portrait_styles.py, a seed,
and the versions of DiceBear and resvg, to the bit. A caption is exact and can be read back (`read`), so what a
generator made of it can be judged attribute by attribute.

Split by combination, never by file: a picture is held out, in "test", where one of two pairs of its attributes is of
the eighth of all such pairs that "train" never shows together; it shows each of the two with others.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np

from zoo import files
from zoo.contract.errors import nearest
from zoo.datasets import Data, Dataset, DatasetError
from zoo.datasets.portrait_styles import ABSENT, GROUND, LICENCE, STYLES, WORDS, Attribute, Style
from zoo.datasets.svg import on_white, one_by_one, rendered
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
    """A style, and a word for each of its attributes, ABSENT for a part that is not there.

    One that was read from a caption lacks the attributes that the caption leaves open.
    """

    style: Style
    words: Mapping[str, str]

    @property
    def caption(self) -> str:
        """All of it, in the order of the grammar, which tells the words apart."""
        said = [self.style.word]
        for name, word in self.words.items():
            said += [GROUND] * (name == GROUND) + [word] * (word != ABSENT)
        return " ".join(said)

    @property
    def phrases(self) -> dict[str, str]:
        """What it says of each attribute, in words that mean the same in any order: "red hair", "on red", "dome"."""
        found: dict[str, str] = {}
        for name, word in self.words.items():
            before = f"{GROUND} " * (name == GROUND)
            behind = f" {name}" * self.style.is_named(self.style.attribute(name))
            found |= {name: f"{before}{word}{behind}"} if word != ABSENT else {}
        return found

    @property
    def held_out(self) -> bool:
        """Whether no picture of "train" shows this combination."""
        return any(self._held_out(*pair, turn) for turn, pair in enumerate(self.style.held_out))

    def _held_out(self, first: str, second: str, turn: int) -> bool:
        a, b = (self.style.attribute(name).words.index(self.words[name]) for name in (first, second))
        return (3 * a + b + turn) % HELD_OUT == 0

    def with_word(self, name: str, word: str) -> Portrait:
        """The same with another value of one attribute."""
        return Portrait(self.style, {**self.words, name: word})


def read(caption: str, styles: Sequence[Style] = STYLES) -> Portrait:
    """What a caption says, in any order: the inverse of `Portrait.caption`, and of any choice of `Portrait.phrases`.

    A part that may be absent is so where nothing is said of it; of anything else that is unsaid, nothing is known.
    A word that two attributes share is the first's that is not said yet, unless the attribute's name follows.
    Raises CaptionError.
    """
    said = caption.lower().split()
    by_word = {style.word: style for style in styles}
    place = next((place for place, word in enumerate(said) if word in by_word), None)
    if place is None:
        raise CaptionError(f"caption {caption!r} names no style: {nearest(said[0] if said else '', by_word)}")
    style, rest = by_word[said[place]], said[:place] + said[place + 1 :]
    words: dict[str, str] = {}
    while rest:
        open_ones = [each for each in style.attributes if each.name not in words]
        attribute = max(open_ones, key=lambda each: _phrase(each, rest), default=None)
        if attribute is None or not (taken := _phrase(attribute, rest)):
            left = "; ".join(_choices(each) for each in open_ones) or "nothing more"
            raise CaptionError(f"caption {caption!r} has {rest[0]!r}, which says nothing of a {style.word}: {left}")
        words[attribute.name] = rest[attribute.name == GROUND]
        rest = rest[taken:]
    told = ((each, words.get(each.name, ABSENT)) for each in style.attributes)
    return Portrait(style, {each.name: word for each, word in told if word in each.words})


def _phrase(attribute: Attribute, rest: Sequence[str]) -> int:
    """How many of these words, from the first on, say something of an attribute."""
    skipped = int(attribute.name == GROUND and rest[0] == GROUND)
    if (attribute.name == GROUND) != skipped or rest[skipped : skipped + 1] == [ABSENT]:
        return 0
    known = len(rest) > skipped and rest[skipped] in attribute.words
    return known * (1 + skipped + (rest[skipped + 1 : skipped + 2] == [attribute.name]))


def _choices(attribute: Attribute) -> str:
    return f"its {attribute.name} is one of {', '.join(attribute.words)}"


def portrait(style: Style, index: int, seed: int = SEED) -> Portrait:
    """The portrait of that number: every value is as likely as any other."""
    words = {}
    for attribute in style.attributes:
        drawn = hashlib.sha256(f"{seed} {style.name} {index} {attribute.name}".encode()).digest()
        words[attribute.name] = attribute.words[int.from_bytes(drawn[:8], "big") % len(attribute.words)]
    return Portrait(style, words)


def draw(shown: Portrait, seed: str = "", **options: Any) -> np.ndarray:
    """Its picture, uint8 (64, 64, 3) in [0, 255], on white where the design has no background.

    `seed` decides what no caption says, like a planet's stars; `options` are DiceBear's, over what the portrait says.
    Raises DatasetError where DiceBear or resvg is missing.
    """
    return on_white(layer(shown, seed, **options))


def layer(shown: Portrait, seed: str, size: int = SIZE, **options: Any) -> np.ndarray:
    """The same of any size, with what it covers: uint8 (size, size, 4)."""
    return rendered(svg(shown.style.name, {**_options(shown), **options, "seed": seed}), size)


def svg(design: str, options: Mapping[str, Any]) -> str:
    """What DiceBear draws. Raises DatasetError where it is missing."""
    try:
        from dicebear import Avatar
    except ImportError as error:
        raise DatasetError(f"portraits are drawn by dicebear-core: {CURE}") from error
    return str(Avatar(_design(design), dict(options)))


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

    def make() -> dict[str, np.ndarray]:
        images, captions = pictures(seed, count)
        return {"images": images, "captions": np.array(captions)}

    kept = drawn_once("portraits", identity(seed, count), make, source)
    images, captions = kept["images"], kept["captions"].tolist()
    if split == "all":
        return Data(images, {"prompt": captions})
    wanted = np.array([read(caption).held_out is (split == "test") for caption in captions])
    return Data(images[wanted], {"prompt": [caption for caption, here in zip(captions, wanted, strict=True) if here]})


def drawn_once(
    name: str, identity: str, make: Callable[[], dict[str, np.ndarray]], source: str | None
) -> Mapping[str, np.ndarray]:
    """What `make` draws, kept in a file of that identity in `source`, else in `data/<name>` of genzoo's home.

    Raises DatasetError where what was kept cannot be read.
    """
    path = Path(source or home() / "data" / name) / f"{identity}.npz"
    if not path.is_file():
        made = make()
        with files.atomic(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **made)  # type: ignore[arg-type]
        return made
    try:
        with np.load(path, allow_pickle=False) as kept:
            return dict(kept)
    except (OSError, ValueError, KeyError) as error:
        raise DatasetError(f"{name}: {path} cannot be read ({error}); remove it and it is drawn again") from error


def identity(seed: int, count: int, styles: Sequence[Style] = STYLES) -> str:
    """Of all that determines the pictures."""
    return files.identify([VERSIONS, [asdict(style) for style in styles], SIZE, seed, count])


def numbered(seed: int, count: int, styles: Sequence[Style] = STYLES) -> list[tuple[Portrait, str]]:
    """The first `count` portraits of each style, each with the seed of its picture, in an order that mixes styles."""
    return [(portrait(style, index, seed), f"{seed} {index}") for index in range(count) for style in styles]


def pictures(seed: int, count: int, styles: Sequence[Style] = STYLES) -> tuple[np.ndarray, list[str]]:
    """Their pictures and captions."""
    shown = numbered(seed, count, styles)
    return np.stack([draw(*each) for each in one_by_one(shown, "portraits")]), [each.caption for each, _ in shown]


def examples(count: int, styles: Sequence[Style] = STYLES) -> tuple[Portrait, ...]:
    """So many of held-out combinations, of all styles."""
    shown = (portrait(style, index) for index in itertools.count() for style in styles)
    return tuple(itertools.islice((each for each in shown if each.held_out), count))


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
