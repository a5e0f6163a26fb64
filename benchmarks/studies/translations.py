"""Whether what comes out belongs to what went in, of generators that turn one picture into another.

What a drawing, a map, a scene or a face should have become is known exactly: the pair of a drawing, the colours of a
map's classes, the labels of boxes, the scene at the other hour, the face drawn anew with other hair or skin. Each is of
a combination that training never showed. The baseline is what comes out where nothing is done, or what belongs to
another of its kind; of one drawing's many colourings it is the one that Pix2Pix gives.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from benchmarks.measure.sweep import in_process
from benchmarks.quality.judges.portraits import CAPTIONED
from benchmarks.statistics import mean
from benchmarks.studies import Cells, Findings, Study, value
from export.gate import require
from serving.bundles import prepare
from zoo.contract.generator import Generator
from zoo.contract.request import SampleRequest
from zoo.datasets import critters_and_plants, day_and_night, drawings, faces, scene_boxes, scene_maps
from zoo.datasets.critters_and_plants import CRITTER, PLANT, of_kind
from zoo.datasets.parts import outlines, parts_of
from zoo.datasets.portraits import Portrait, draw
from zoo.datasets.scenes import LABELS

IMAGES = 200
COLOURINGS = 16  # of a drawing
CELLS, SHADES, RIDGE = 16, 5, 1.0  # of a judge of boxes: places a side, shades a channel, how small its weights are
DAY, NIGHT = range(len(day_and_night.HOURS))
COLUMNS = ("generator", "shown", "measured", "it", "baseline", "real pictures")
Measured = tuple[np.ndarray, np.ndarray, np.ndarray]  # a value an image, (N,): its own, the baseline's, real pictures'


@dataclass(frozen=True)
class Check:
    """`less`: the smaller is the better; `matched`: it need not be better than the baseline, only near it."""

    shown: str
    measured: str
    less: bool
    run: Callable[[Generator, int], Measured]
    matched: bool = False


def run() -> Findings:
    rows = [row for name in CHECKS for row in _rows(name)]
    return Findings(COLUMNS, tuple(rows), answer(rows))


def _rows(name: str) -> list[Cells]:
    generator = in_process(require(prepare(name)))
    found: list[Cells] = []
    for check in CHECKS[name]:
        cells = [str(mean(each).estimate()) for each in check.run(generator, IMAGES)]
        found.append((name, check.shown, check.measured, *cells))
    return found


def away(images: np.ndarray, others: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
    """The mean distance in grey levels of each image from another, (N,), perhaps of some pixels, bool (N, H, W)."""
    found = np.abs(images.astype(np.int16) - others).mean(axis=-1)
    where = np.ones(found.shape, bool) if where is None else where
    return np.asarray((found * where).sum((1, 2)) / np.maximum(1, where.sum((1, 2))))


def _coloured(generator: Generator, draw: Callable[[np.ndarray], np.ndarray], count: int) -> tuple[np.ndarray, ...]:
    """Pictures, what is made of their drawings, and another picture of the design of each."""
    shown, pictures = drawings.examples(count)
    made = generator.sample(SampleRequest(tuple(range(count)), {"image": list(draw(pictures))}))
    return pictures, made, pictures[another([each.style.name for each in shown])]


def another(kinds: Sequence[str]) -> np.ndarray:
    """For each the next of its kind, the first for the last: (N,)."""
    found = np.arange(len(kinds))
    for kind in set(kinds):
        mine = np.flatnonzero(np.array(kinds) == kind)
        found[mine] = np.roll(mine, -1)
    return found


def colours_of_drawings(generator: Generator, count: int) -> Measured:
    pictures, made, others = _coloured(generator, drawings.pencilled, count)
    return away(made, pictures), away(others, pictures), np.zeros(count)


def lines_of_drawings(generator: Generator, count: int) -> Measured:
    pictures, made, others = _coloured(generator, drawings.inked, count)
    lines = outlines(pictures)
    return agreement(outlines(made), lines), agreement(outlines(others), lines), np.ones(count)


def agreement(lines: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The pixels that two drawings share, twice, of all that they have, (N,) (Dice)."""
    a, b = lines > 0, others > 0
    return np.asarray(2.0 * (a & b).sum((1, 2, 3)) / np.maximum(1, a.sum((1, 2, 3)) + b.sum((1, 2, 3))))


def colours_of_maps(generator: Generator, count: int) -> Measured:
    pictures, maps = scene_maps.examples(count)
    made = generator.sample(SampleRequest(tuple(range(count)), {scene_maps.MAP: list(maps)}))
    return recovered(made, maps), recovered(np.roll(made, 1, axis=0), maps), recovered(pictures, maps)


def recovered(images: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """The mean intersection over union of a map's classes with the pixels nearest to their colours, (N,).

    Classes of one colour are one.
    """
    found = []
    for picture, classes in zip(images, maps, strict=True):
        colours, first = np.unique(scene_maps.COLOURS[np.unique(classes)], axis=0), scene_maps.COLOURS[classes]
        asked = (first[..., None, :] == colours).all(axis=-1)  # (H, W, colours)
        away_from = np.abs(picture[..., None, :].astype(np.int16) - colours).sum(axis=-1)
        there = away_from.argmin(axis=-1)[..., None] == np.arange(len(colours))
        found.append(((asked & there).sum((0, 1)) / (asked | there).sum((0, 1))).mean())
    return np.array(found)


def colourings_nearest(generator: Generator, count: int) -> Measured:
    """The distance of a picture from the nearest colouring of its drawing in ink."""
    _, pictures = drawings.examples(count)
    made = [colouring(generator, pictures, turn) for turn in range(COLOURINGS)]
    nearest = np.min([away(each, pictures) for each in made], axis=0)
    return nearest, away(colouring(_rival(), pictures), pictures), np.zeros(count)


def colourings_apart(generator: Generator, count: int) -> Measured:
    """The distance of two colourings of a drawing; of real pictures, from the same figure in other colours."""
    shown, pictures = drawings.examples(count)
    apart = away(colouring(generator, pictures, 0), colouring(generator, pictures, 1))
    rival = _rival()
    real = away(np.stack([draw(recoloured(each, row)) for row, each in enumerate(shown)]), pictures)
    return apart, away(colouring(rival, pictures, 0), colouring(rival, pictures, 1)), real


def colourings_read(generator: Generator, count: int) -> Measured:
    """Of what lines tell, which parts there are, the share that the attributes' judge finds in a colouring."""
    shown, pictures = drawings.examples(count)
    made = (colouring(generator, pictures), colouring(_rival(), pictures), pictures)
    asked = [(each, [part.name for part in parts_of(each)]) for each in shown]
    told = [(each, names) for each, names in asked if names]
    kept = np.array([bool(names) for _, names in asked])
    own, rival, real = (read(images[kept], told) for images in made)
    return own, rival, real


def colouring(generator: Generator, pictures: np.ndarray, turn: int = 0) -> np.ndarray:
    """One of the drawings of some pictures in ink."""
    seeds = range(turn * len(pictures), (turn + 1) * len(pictures))
    return np.asarray(generator.sample(SampleRequest(tuple(seeds), {"image": list(drawings.inked(pictures))})))


def _rival() -> Generator:
    return in_process(require(prepare("pix2pix")))


def recoloured(shown: Portrait, row: int) -> Portrait:
    """The same figure with other words for all of its colours."""
    draws = np.random.default_rng([0, row])
    for attribute in shown.style.attributes:
        if attribute.option.endswith("Color"):
            shown = shown.with_word(attribute.name, str(draws.choice(attribute.words)))
    return shown


def read(images: np.ndarray, asked: Sequence[tuple[Portrait, Sequence[str]]]) -> np.ndarray:
    """Of some attributes of each portrait the share that the attributes' judge finds in its picture, (N,)."""
    right = CAPTIONED.right(images, [shown.caption for shown, _ in asked])
    heads = {head: column for column, head in enumerate(CAPTIONED.heads)}
    columns = [[heads[shown.style.name, name] for name in names] for shown, names in asked]
    return np.array([row[each].mean() for row, each in zip(right, columns, strict=True)])


def labels_of_boxes(generator: Generator, count: int) -> Measured:
    """Of a scene's boxes the share that a judge of real ones tells right; the baseline is another scene's boxes."""
    pictures, boxes = scene_boxes.examples(count)
    made = np.asarray(generator.sample(SampleRequest(tuple(range(count)), {scene_boxes.BOXES: list(boxes)})))
    judge = judge_of_boxes()
    return told(judge, made, boxes), told(judge, made, np.roll(boxes, 1, axis=0)), told(judge, pictures, boxes)


@lru_cache
def judge_of_boxes() -> np.ndarray:
    """Weights from what is in a box to its label, by least squares over real boxes of "train", (values, labels)."""
    found = scene_boxes.load("train")
    seen, labels = contents(found.images, np.asarray(found.conditions[scene_boxes.BOXES]))
    wanted = np.eye(len(scene_boxes.LABELS))[labels]
    return np.asarray(np.linalg.solve(seen.T @ seen + RIDGE * np.eye(seen.shape[1]), seen.T @ wanted))


def told(judge: np.ndarray, images: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The share of each image's boxes whose label the judge tells, (N,)."""
    seen, labels = contents(images, boxes)
    right = (seen @ judge).argmax(axis=1) == labels
    each = np.cumsum((boxes[..., 0] >= 0).sum(axis=1))[:-1]
    return np.array([part.mean() for part in np.split(right, each)])


def contents(images: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is in each box, (boxes, values), and its label, (boxes,).

    Its pixels at CELLS x CELLS places, which say the kind, and how much there is of each of SHADES**3 colours in all of
    it and in its middle, which says the colour.
    """
    seen, labels = [], []
    for image, rows in zip(images, boxes, strict=True):
        for label, *corners in rows[rows[:, 0] >= 0]:
            inside = within(image, corners)
            middle = inside[CELLS // 4 : -CELLS // 4, CELLS // 4 : -CELLS // 4]
            seen.append(np.concatenate([inside.ravel() / 255.0 - 0.5, colours(inside), colours(middle), [1.0]]))
            labels.append(int(label))
    return np.stack(seen), np.array(labels)


def within(image: np.ndarray, corners: Sequence[float]) -> np.ndarray:
    """The pixels of a picture at the middles of CELLS x CELLS cells of a box, uint8 (CELLS, CELLS, 3)."""
    left, top, right, bottom = corners
    shares = (np.arange(CELLS) + 0.5) / CELLS
    rows, columns = (
        ((low + shares * (high - low)) * len(image)).astype(int) for low, high in ((top, bottom), (left, right))
    )
    return np.asarray(image[np.ix_(rows, columns)])


def colours(pixels: np.ndarray) -> np.ndarray:
    """The root of the share of each of SHADES**3 colours, (SHADES**3,)."""
    red, green, blue = (pixels.reshape(-1, 3).astype(int) * SHADES // 256).T
    found = np.bincount((red * SHADES + green) * SHADES + blue, minlength=SHADES**3)
    return np.asarray(np.sqrt(found / found.sum()))


def turned_to_day(generator: Generator, count: int) -> Measured:
    return _turned(generator, count, DAY)


def turned_to_night(generator: Generator, count: int) -> Measured:
    return _turned(generator, count, NIGHT)


def _turned(generator: Generator, count: int, hour: int) -> Measured:
    """From the truth: what is made, and the better of what was shown and the same in the other hour's mean colours."""
    *pair, _ = day_and_night.pairs(count)
    shown, truth = pair[1 - hour], pair[hour]
    baselines = [away(each, truth) for each in (shown, in_colours_of(shown, truth))]
    return away(at(generator, shown, hour), truth), min(baselines, key=lambda each: float(each.mean())), np.zeros(count)


def in_colours_of(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """With the mean and the deviation of each channel of others (Reinhard et al. 2001, without their colour space)."""
    axes = (0, 1, 2)
    found = (images - images.mean(axes)) / images.std(axes) * others.std(axes) + others.mean(axes)
    return np.asarray(found.clip(0, 255).round().astype(np.uint8))


def figures_at_night(generator: Generator, count: int) -> Measured:
    """How far figures are from what they were; the baseline is what mean colours make of them."""
    shown, truth, figures = day_and_night.pairs(count)
    made = (at(generator, shown, NIGHT), in_colours_of(shown, truth))
    own, baseline = (away(each, shown, figures > 0) for each in made)
    return own, baseline, away(truth, shown, figures > 0)


def there_and_back(generator: Generator, count: int) -> Measured:
    """From itself; the baseline is another scene by day."""
    shown, *_ = day_and_night.pairs(count)
    back = at(generator, at(generator, shown, NIGHT), DAY)
    return away(back, shown), away(np.roll(shown, 1, axis=0), shown), np.zeros(count)


def at(generator: Generator, images: np.ndarray, hour: int) -> np.ndarray:
    given = {"image": list(images), day_and_night.TO: [hour] * len(images)}
    return np.asarray(generator.sample(SampleRequest(tuple(range(len(images))), given)))


def around_figures(generator: Generator, count: int) -> Measured:
    """How far a scene is changed that no mask covers; the baseline is what is changed within the masks."""
    shown, figures, _, potted = critters_and_plants.examples(count)
    turned = _potted(generator, shown, figures)
    outside = (figures == 0) & ~(shown != potted).any(axis=-1)  # a plant may be larger than a critter's mask
    return away(turned, shown, outside), away(turned, shown, figures > 0), away(potted, shown, outside)


def figures_potted(generator: Generator, count: int) -> Measured:
    """The share of a scene's critters of which a judge of real boxes tells a pot plant; the baseline is what was."""
    shown, figures, boxes, potted = critters_and_plants.examples(count)
    judge, turned = judge_of_boxes(), _potted(generator, shown, figures)
    wanted = boxes.copy()
    wanted[..., 0] = [
        [scene_boxes.LABELS.index(LABELS[int(label)]) if of_kind(int(label), CRITTER) else -1 for label in row]
        for row in boxes[..., 0]
    ]
    plants = [place for place, label in enumerate(scene_boxes.LABELS) if label.endswith(PLANT)]
    own, before, real = (told_as(judge, each, wanted, plants) for each in (turned, shown, potted))
    return own, before, real


def told_as(judge: np.ndarray, images: np.ndarray, boxes: np.ndarray, labels: Sequence[int]) -> np.ndarray:
    """The share of each image's boxes whose label the judge tells as one of some, (N,)."""
    seen, _ = contents(images, boxes)
    found = np.isin((seen @ judge).argmax(axis=1), labels)
    each = np.cumsum((boxes[..., 0] >= 0).sum(axis=1))[:-1]
    return np.array([part.mean() for part in np.split(found, each)])


def _potted(generator: Generator, shown: np.ndarray, figures: np.ndarray) -> np.ndarray:
    given = {"image": list(shown), critters_and_plants.FIGURES: list(figures)}
    return np.asarray(generator.sample(SampleRequest(tuple(range(len(shown))), given)))


@dataclass(frozen=True)
class Changed:
    """Faces, their truth after a change, where that differs, what the generator makes, and what was asked for."""

    before: np.ndarray
    truth: np.ndarray
    where: np.ndarray
    made: np.ndarray
    asked: list[tuple[Portrait, list[str]]]  # the face that is wanted, and the attribute that is changed


def changes_of_faces(generator: Generator, count: int) -> Measured:
    found = _changed(generator, count)
    before, own = (away(each, found.truth, found.where) for each in (found.before, found.made))
    return own, before, np.zeros(len(own))


def words_of_faces(generator: Generator, count: int) -> Measured:
    """Whether the attributes' judge reads the colour that was asked for."""
    found = _changed(generator, count)
    own, before, truth = (read(each, found.asked) for each in (found.made, found.before, found.truth))
    return own, before, truth


def rest_of_faces(generator: Generator, count: int) -> Measured:
    found = _changed(generator, count)
    before, elsewhere = found.before, ~found.where
    others = before[another([shown.style.name for shown, _ in found.asked])]
    return away(found.made, before, elsewhere), away(others, before, elsewhere), np.zeros(len(before))


def _changed(generator: Generator, count: int) -> Changed:
    """Of changes that are any."""
    asked = [(*each, turn % len(faces.CHANGES)) for turn, each in enumerate(itertools.islice(faces.examples(), count))]
    asked = [(shown, seed, change) for shown, seed, change in asked if not _is_so(shown, change)]
    before, truth, where = (np.stack(each) for each in zip(*(faces.altered(*each) for each in asked), strict=True))
    given = {"image": list(before), faces.CHANGE: [change for *_, change in asked]}
    made = generator.sample(SampleRequest(tuple(range(len(asked))), given))
    wanted = [(shown.with_word(*faces.CHANGES[change]), [faces.CHANGES[change][0]]) for shown, _, change in asked]
    return Changed(before, truth, where, np.asarray(made), wanted)


def _is_so(shown: Portrait, change: int) -> bool:
    name, word = faces.CHANGES[change]
    return bool(shown.words[name] == word)


CHECKS: Mapping[str, tuple[Check, ...]] = {
    "pix2pix": (
        Check("a drawing in pencil", "grey levels from its picture", True, colours_of_drawings),
        Check("a drawing in ink", "lines found again", False, lines_of_drawings),
    ),
    "bicyclegan": (
        Check("a drawing in ink", f"grey levels of the nearest of {COLOURINGS}", True, colourings_nearest),
        Check("a drawing in ink", "grey levels between two", False, colourings_apart),
        Check("a drawing in ink", "parts read", False, colourings_read, matched=True),
    ),
    "cyclegan": (
        Check("a scene by night", "grey levels from it by day", True, turned_to_day),
        Check("a scene by day", "grey levels from it by night", True, turned_to_night),
        Check("a scene by day", "grey levels of its figures by night", True, figures_at_night),
        Check("a scene by day", "grey levels there and back", True, there_and_back),
    ),
    "instagan": (
        Check("a scene and masks of its critters", "grey levels outside the masks", True, around_figures),
        Check("a scene and masks of its critters", "critters told as pot plants", False, figures_potted),
    ),
    "lostgan": (Check("boxes", "labels told", False, labels_of_boxes),),
    "spade": (Check("a map", "mean IoU of its colours", False, colours_of_maps),),
    "stargan": (
        Check("a face and a change", "grey levels from the truth", True, changes_of_faces),
        Check("a face and a change", "the change read", False, words_of_faces),
        Check("a face and a change", "grey levels elsewhere", True, rest_of_faces),
    ),
}


def answer(rows: Sequence[Cells]) -> str:
    """In how much each is better than its baseline, and where one is not."""
    less = {check.measured: check.less for checks in CHECKS.values() for check in checks}
    lost = [row for row in rows if (value(row[3]) < value(row[4])) is not less[str(row[2])]]
    said = [f"{row[0]} in {row[2]}, {value(row[3]):g} against {value(row[4]):g}" for row in lost]
    better = f"{len(rows) - len(lost)} of {len(rows)} measures are better than their baselines"
    return f"{better}; behind is {'; '.join(said)}." if lost else f"{better}."


STUDY = Study(
    "Does what comes out of a translation belong to what went in?",
    tuple(CHECKS),
    run,
    {"images": IMAGES},
)
