"""People of three designs, each beside another picture of the same person, and a caption that says all but who it is.

Who somebody is, are WHO: skin, hair and its cut, glasses, beard. The other picture shows the same person with all else
of chance, half of the time in another design, as far as both designs can show it: a person whom the other design cannot
show so is not in the set. What is wanted is of combinations that "train" of "designs" shows or not, as the split says.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from zoo import files
from zoo.datasets import Data, Dataset, designs
from zoo.datasets.design_styles import DESIGNS
from zoo.datasets.portrait_styles import LICENCE, Style
from zoo.datasets.portraits import SEED, SIZE, VERSIONS, Portrait, draw, drawn_once, identity, portrait
from zoo.datasets.svg import one_by_one

COUNT = 9000  # of all designs, both splits together
PEOPLE = tuple(style for style in DESIGNS if style.name in ("voxel-art", "open-peeps", "pixel-art"))
WHO = ("skin", "hair", "top", "glasses", "beard")
FACE = "face"
HEAD = (slice(0, 48), slice(8, 56))  # of a picture, in each of the designs


@dataclass(frozen=True)
class Pair:
    """What is wanted, another picture of the same person, what is the same in both, and what is said."""

    wanted: Portrait
    beside: Portrait
    same: tuple[str, ...]
    seed: str

    @property
    def caption(self) -> str:
        """All of what is wanted but who it is."""
        return " ".join([self.wanted.style.word, *(self.wanted.phrases[name] for name in self.asked)])

    @property
    def asked(self) -> tuple[str, ...]:
        """The attributes that the caption says."""
        return tuple(name for name in self.wanted.phrases if name not in WHO)

    @property
    def face(self) -> np.ndarray:
        """The head in the other picture, uint8 (48, 48, 3). Raises DatasetError."""
        return draw(self.beside, f"{self.seed} beside")[HEAD]


def pairs() -> Iterator[Pair]:
    """Without end, of the designs in turn."""
    for index in itertools.count():
        for style in PEOPLE:
            draws = np.random.default_rng([SEED, index, PEOPLE.index(style)])
            wanted, other = portrait(style, index), style
            if draws.random() < 0.5:
                other = [each for each in PEOPLE if each is not style][int(draws.integers(2))]
            same = tuple(name for name in WHO if _has(style, name) and _has(other, name))
            if all(wanted.words[name] in other.attribute(name).words for name in same):
                beside = portrait(other, (1 << 24) + index)  # of no other set
                for name in same:
                    beside = beside.with_word(name, wanted.words[name])
                yield Pair(wanted, beside, same, f"{SEED} {index}")


def _has(style: Style, name: str) -> bool:
    return any(each.name == name for each in style.attributes)


def load(split: str, source: str | None = None, *, count: int = COUNT) -> Data:
    """Images, uint8 (N, 64, 64, 3) in [0, 255], a `prompt` of each, and as `face` uint8 (N, 48, 48, 3).

    Of "train" or "test"; drawn once, in about two minutes. Raises DatasetError.
    """
    name = files.identify([identity(SEED, count, PEOPLE), WHO, [[each.start, each.stop] for each in HEAD]])
    kept = drawn_once(DATASET.name, name, lambda: _drawn(count), source)
    wanted = kept["held_out"] == (split == "test")
    return Data(kept["images"][wanted], {"prompt": kept["captions"][wanted].tolist(), FACE: kept[FACE][wanted]})


def _drawn(count: int) -> dict[str, np.ndarray]:
    found = list(itertools.islice(pairs(), count))
    drawn = [(draw(each.wanted, each.seed), each.face) for each in one_by_one(found, DATASET.name)]
    return {
        "images": np.stack([first for first, _ in drawn]),
        FACE: np.stack([second for _, second in drawn]),
        "captions": np.array([each.caption for each in found]),
        "held_out": np.array([each.wanted.held_out for each in found]),
    }


DATASET = Dataset(
    name="same_people",
    title="People in three designs beside another picture of them",
    licence=LICENCE,
    credit=designs.credited(PEOPLE),
    shows="voxel people, peeps and pixel people by a face, and words for all but who it is",
    prepared=f"drawn at {SIZE}x{SIZE} by DiceBear {VERSIONS['dicebear-core']} and resvg",
    verified="by the digest of a sample",
    image_shape=(SIZE, SIZE, 3),
    counts={"train": 7_096, "test": 1_904},
    load=load,
    judged_by="designs",
    asks=("prompt", FACE),
)
