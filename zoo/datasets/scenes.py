"""Scenes: two to four figures of three designs in a landscape, each with a box, a mask and a label, all exact.

Planets hang in the sky, critters and pot plants stand in the hills. A caption says the hour and each figure's colour
and kind, in an order of chance: "scene dusk red critter blue planet". A scene is held out, in "test", where it shows
at its hour a figure that "train" never shows at that hour, an eighth of all such pairs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from zoo import files
from zoo.datasets import Data, Dataset
from zoo.datasets.designs import credited
from zoo.datasets.portrait_styles import LICENCE, STYLES, Style
from zoo.datasets.portraits import HELD_OUT, SIZE, VERSIONS, drawn_once, identity, layer, portrait, svg
from zoo.datasets.svg import on_white, one_by_one, rendered

SEED = 0
COUNT = 6000
FEWEST, MOST = 2, 4
SCENE = "scene"
KINDS = tuple(style for style in STYLES if style.name in ("critters", "sprouts", "planets"))
SKY = KINDS[2]  # whose figures hang in it
COLOR = {"critters": "bodyColor", "sprouts": "potColor", "planets": "planetColor"}
HOURS: Mapping[str, Mapping[str, str]] = {
    "day": {"background": "#d5f3ff", "hill1": "#b0d2b0", "hill2": "#92a86d", "hill3": "#6b8143", "hill4": "#445423"},
    "dusk": {"background": "#ffc9a3", "hill1": "#e2beb2", "hill2": "#c38f65", "hill3": "#9e6258", "hill4": "#673d3d"},
    "night": {"background": "#27304f", "hill1": "#3b4a73", "hill2": "#30506f", "hill3": "#24405c", "hill4": "#162a42"},
}
LABELS = tuple(f"{word} {style.word}" for style in KINDS for word in style.attribute("color").words)
WORDS = tuple(sorted({SCENE, *HOURS, *(word for label in LABELS for word in label.split())}))
CREDIT = "„Landscape” (https://www.dicebear.com) by „DiceBear”"
BARE = {"backgroundColor": ["#00000000"]}
SIZES = (20, 30)
OVERLAP = 0.1  # of the smaller of two boxes, at most
TRIES = 200


@dataclass(frozen=True)
class Figure:
    label: int  # of LABELS
    index: int  # which of its design's portraits, but for the colour
    left: int
    top: int
    size: int


@dataclass(frozen=True)
class Scene:
    hour: str
    figures: tuple[Figure, ...]  # from behind to the front

    @property
    def held_out(self) -> bool:
        hour = tuple(HOURS).index(self.hour)
        return any((each.label + 3 * hour) % HELD_OUT == 0 for each in self.figures)


def scene(index: int, seed: int = SEED) -> Scene:
    """The scene of that number."""
    draws = np.random.default_rng([seed, index])
    hour = str(draws.choice(tuple(HOURS)))
    figures: list[Figure] = []
    wanted = int(draws.integers(FEWEST, MOST + 1))
    for _ in range(TRIES):
        size = int(draws.integers(SIZES[0], SIZES[1] + 1))
        label = int(draws.integers(len(LABELS)))
        low, high = (0, SIZE // 2 - size // 2) if _kind(label) is SKY else (SIZE // 2 - size // 3, SIZE - size)
        left, top = int(draws.integers(SIZE - size + 1)), int(draws.integers(low, max(high, low) + 1))
        new = Figure(label, int(draws.integers(1 << 20)), left, min(top, SIZE - size), size)
        if all(_overlap(new, each) <= OVERLAP for each in figures):
            figures.append(new)
        if len(figures) == wanted:
            break
    return Scene(hour, tuple(figures))


def held_out() -> Iterator[tuple[Scene, int]]:
    """Scenes of combinations that "train" does not show, without end, each with its number."""
    return ((found, index) for index in itertools.count() if (found := scene(index)).held_out)


def hours_of(captions: Iterable[str]) -> list[str]:
    """The hour of the scene that each caption is of."""
    return [next(hour for hour in HOURS if hour in said.split()) for said in captions]


def _overlap(one: Figure, other: Figure) -> float:
    """What two squares share, of the smaller."""
    sides = [
        max(0, min(a + one.size, b + other.size) - max(a, b)) for a, b in ((one.left, other.left), (one.top, other.top))
    ]
    return sides[0] * sides[1] / min(one.size, other.size) ** 2


def _kind(label: int) -> Style:
    return next(style for style in KINDS if LABELS[label].endswith(style.word))


def draw(shown: Scene, seed: str = "") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Its picture, whose each pixel is, and the boxes.

    uint8 (64, 64, 3); uint8 (64, 64), 0 for the landscape, else the figure's place from 1 on; float32 (4, 5), rows of
    label, left, top, right, bottom, corners as shares of the picture, -1 and zeros where there is no figure.
    """
    ground = {f"{name}Color": [colour] for name, colour in HOURS[shown.hour].items()}
    picture = on_white(
        rendered(svg("landscape", {**ground, "animationVariant": ["none"], "orbProbability": 0, "seed": seed}), SIZE)
    )
    picture, whose = picture.astype(np.float32), np.zeros((SIZE, SIZE), np.uint8)
    boxes = np.tile(np.array([-1, 0, 0, 0, 0], np.float32), (MOST, 1))
    for place, figure in enumerate(shown.figures):
        sprite = _sprite(figure, seed)
        rows, columns = slice(figure.top, figure.top + figure.size), slice(figure.left, figure.left + figure.size)
        cover = sprite[..., 3:] / np.float32(255.0)
        picture[rows, columns] += cover * (sprite[..., :3] - picture[rows, columns])
        there = sprite[..., 3] > 127
        whose[rows, columns][there] = place + 1
        ys, xs = np.nonzero(there)
        corners = figure.left + xs.min(), figure.top + ys.min(), figure.left + xs.max() + 1, figure.top + ys.max() + 1
        boxes[place] = figure.label, *(corner / SIZE for corner in corners)
    return picture.round().astype(np.uint8), whose, boxes


def _sprite(figure: Figure, seed: str) -> np.ndarray:
    """A figure on nothing, uint8 (size, size, 4)."""
    style = _kind(figure.label)
    shown = portrait(style, figure.index).with_word("color", LABELS[figure.label].split()[0])
    stars = {"starProbability": 0} if style is SKY else {}
    return layer(shown, f"{seed} {figure.index}", figure.size, **BARE, **stars)


def caption(shown: Scene, draws: np.random.Generator) -> str:
    said = [shown.hour, *(LABELS[each.label] for each in shown.figures)]
    return " ".join([SCENE, *draws.permutation(said).tolist()])


def load(split: str, source: str | None = None, *, seed: int = SEED, count: int = COUNT) -> Data:
    """Images, uint8 (N, 64, 64, 3), with `prompt`, `boxes`, float32 (N, 4, 5), and `figures`, uint8 (N, 64, 64).

    Of "train", "test" or "all"; see `draw`. Drawn once, in about two minutes. Raises DatasetError.
    """
    told = [HOURS, LABELS, SIZES, OVERLAP, BARE, count]
    kept = drawn_once(
        "scenes", files.identify([identity(seed, count, KINDS), *told]), lambda: _drawn(seed, count), source
    )
    wanted = np.ones(len(kept["images"]), bool) if split == "all" else kept["held_out"] == (split == "test")
    conditions = {name: kept[name][wanted] for name in ("boxes", "figures")}
    return Data(kept["images"][wanted], {"prompt": kept["captions"][wanted].tolist(), **conditions})


def _drawn(seed: int, count: int) -> dict[str, np.ndarray]:
    shown = [scene(index, seed) for index in range(count)]
    images, figures, boxes = zip(
        *(draw(each, f"{seed} {index}") for index, each in enumerate(one_by_one(shown, "scenes"))), strict=True
    )
    captions = [caption(each, np.random.default_rng([seed, index, 1])) for index, each in enumerate(shown)]
    return {
        "images": np.stack(images),
        "figures": np.stack(figures),
        "boxes": np.stack(boxes),
        "captions": np.array(captions),
        "held_out": np.array([each.held_out for each in shown]),
    }


DATASET = Dataset(
    name="scenes",
    title="Scenes of three designs",
    licence=LICENCE,
    credit=f"{credited(KINDS)}; {CREDIT}",
    shows="two to four critters, pot plants and planets in a landscape, with boxes, masks and captions",
    prepared=f"drawn at {SIZE}x{SIZE} by DiceBear {VERSIONS['dicebear-core']} and resvg, figure by figure",
    verified="by the digest of a sample",
    image_shape=(SIZE, SIZE, 3),
    counts={"train": 4_084, "test": 1_916},
    load=load,
)
