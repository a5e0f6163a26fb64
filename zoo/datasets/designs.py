"""Designs: portraits of twelve CC0 designs of DiceBear, told in any order of words, some left out.

What a picture is follows as in portraits.py, of which this is the wider sibling: the same code, six more styles, and
captions whose phrases mean the same in any order ("on red blue dome critter smile"). Of a half of the captions the
order is the grammar's, of the others any; of SHORTENED of them each phrase is left out with probability LEFT_OUT, but
never that of a part that could be absent: what is not said of such a part is that it is not there. So a caption is
never wrong, and `attributes` says exactly all that it leaves open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import compress

import numpy as np

from zoo import files
from zoo.datasets import Data, Dataset
from zoo.datasets.design_styles import DESIGNS, WORDS
from zoo.datasets.portrait_styles import ABSENT, LICENCE, Style
from zoo.datasets.portraits import SEED, SIZE, VERSIONS, Portrait, draw, drawn_once, identity, numbered, read
from zoo.datasets.svg import one_by_one

COUNT = 4000  # of each style, both splits together
SHORTENED, LEFT_OUT = 0.3, 0.2
GRAMMAR = 1  # of captions; another number is another data set
STYLE = "style"
HEADS: Mapping[tuple[str, str], tuple[str, ...]] = {
    (STYLE, STYLE): tuple(style.name for style in DESIGNS),
    **{(style.name, each.name): each.words for style in DESIGNS for each in style.attributes},
}  # (style, attribute) -> the words that it may have; the first says which style it is


def told(shown: Portrait, number: np.random.Generator) -> str:
    """One of its captions: in the grammar's order or in any, whole or shortened."""
    phrases = shown.phrases
    if number.random() < SHORTENED:
        kept = number.random(len(phrases)) >= LEFT_OUT
        optional = [ABSENT in shown.style.attribute(name).words for name in phrases]
        phrases = dict(compress(phrases.items(), kept | np.array(optional)))
    said = [shown.style.word, *phrases.values()]
    return " ".join(said if number.random() < 0.5 else number.permutation(said).tolist())


def whole(shown: Portrait) -> str:
    """Its caption with nothing left out, in the grammar's order."""
    return " ".join([shown.style.word, *shown.phrases.values()])


def understood(caption: str) -> Portrait:
    """What a caption of these designs says. Raises CaptionError."""
    return read(caption, DESIGNS)


def attributes(portraits: Sequence[Portrait]) -> np.ndarray:
    """Which word of each head they have, int64 (N, heads); -1 for what is not known, and for other styles' heads."""
    found = np.full((len(portraits), len(HEADS)), -1, np.int64)
    for row, shown in enumerate(portraits):
        words = {
            (STYLE, STYLE): shown.style.name,
            **{(shown.style.name, key): word for key, word in shown.words.items()},
        }
        for column, (head, choices) in enumerate(HEADS.items()):
            if head in words:
                found[row, column] = choices.index(words[head])
    return found


def load(split: str, source: str | None = None, *, seed: int = SEED, count: int = COUNT) -> Data:
    """Images, uint8 (N, 64, 64, 3) in [0, 255], a caption of each as `prompt`, `attributes`, int64 (N, heads), and
    which of the designs it is of as `class_id`, int64 (N,).

    Of "train", "test" or "all"; drawn once, in about five minutes. Raises DatasetError.
    """
    name = files.identify([identity(seed, count, DESIGNS), GRAMMAR, SHORTENED, LEFT_OUT])
    kept = drawn_once(DATASET.name, name, lambda: _drawn(seed, count), source)
    wanted = np.ones(len(kept["images"]), bool) if split == "all" else kept["held_out"] == (split == "test")
    attributes = kept["attributes"][wanted].astype(np.int64)
    conditions = {
        "prompt": kept["captions"][wanted].tolist(),
        "attributes": attributes,
        "class_id": attributes[:, list(HEADS).index((STYLE, STYLE))],
    }
    return Data(kept["images"][wanted], conditions)


def _drawn(seed: int, count: int) -> dict[str, np.ndarray]:
    shown = numbered(seed, count, DESIGNS)
    captions = [told(each, np.random.default_rng([GRAMMAR, seed, row])) for row, (each, _) in enumerate(shown)]
    return {
        "images": np.stack([draw(*each) for each in one_by_one(shown, DATASET.name)]),
        "captions": np.array(captions),
        "attributes": attributes([each for each, _ in shown]).astype(np.int8),
        "held_out": np.array([each.held_out for each, _ in shown]),
    }


def credited(styles: Sequence[Style]) -> str:
    return "; ".join(style.credit for style in styles)


DATASET = Dataset(
    name="designs",
    title="Portraits in twelve designs",
    licence=LICENCE,
    credit=credited(DESIGNS),
    shows=f"critters, pot plants, people, robots and more by captions of {len(WORDS)} words in any order",
    prepared=f"drawn at {SIZE}x{SIZE} by DiceBear {VERSIONS['dicebear-core']} and resvg",
    verified="by the digest of a sample",
    image_shape=(SIZE, SIZE, 3),
    counts={"train": 37_456, "test": 10_544},
    load=load,
    labels={"class_id": tuple(style.word for style in DESIGNS)},
    asks=("prompt",),
)
