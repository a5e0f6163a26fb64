"""Whether pictures show what captions of unseen combinations say: attribute by attribute, in the eyes of two judges.

Each caption is of a combination that no training picture shows. The attributes' judge reads generated pictures, real
ones, real ones that went through the first stage (the best that the generator can reach), and generated ones against
another caption of the same style, which is what chance gives. The pair's judge shares nothing with the generator's text
encoder, so it could not be learnt to be pleased; it gives a picture's agreement with its own caption and with another.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.measure.samples import FIRST_SEED
from benchmarks.measure.sweep import in_process
from benchmarks.quality.judges.captioned import Captioned
from benchmarks.statistics import share
from benchmarks.studies import Cells, value
from export.gate import require
from serving.bundles import prepare
from zoo import registry
from zoo.contract.request import SampleRequest, Setting
from zoo.datasets import portraits
from zoo.datasets.portrait_styles import Style
from zoo.datasets.portraits import Portrait
from zoo.images import to_images, to_pixels

IMAGES, SCALE = 50, 3.0  # images of each style
GUIDED = Setting(guidance_scale=SCALE)
NOTHING: Mapping[str, Sequence[Any]] = {}
COLUMNS = (
    "style", "right", "all right", "right without guidance", "through the first stage", "real", "another caption",
    "agreement", "with another", "real agreement",
)  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """A generator of portraits, who judges it, and how a portrait is asked for."""

    checkpoint: str
    judges: Captioned
    say: Callable[[Portrait], str]


def held_out(style: Style, count: int) -> tuple[list[Portrait], np.ndarray]:
    """Combinations that training never showed, and real pictures of them, uint8 (count, 64, 64, 3)."""
    found = ((index, portraits.portrait(style, index)) for index in itertools.count())
    kept = list(itertools.islice(((index, each) for index, each in found if each.held_out), count))
    images = [portraits.draw(each, f"{portraits.SEED} {index}") for index, each in kept]
    return [each for _, each in kept], np.stack(images)


def measured(subject: Subject, style: Style) -> Cells:
    """What COLUMNS say of a style."""
    shown, real = held_out(style, IMAGES)
    judges, captions = subject.judges, [subject.say(each) for each in shown]
    others = captions[1:] + captions[:1]
    made, plain = (drawn(subject.checkpoint, captions, setting) for setting in (GUIDED, Setting()))
    own = judges.right(made, captions)
    pairs = judges.agreement(made, captions)
    return (
        style.name,
        *(attributes_right(own), str(share(np.nanmin(own, axis=1)))),
        *(attributes_right(judges.right(images, captions)) for images in (plain, reconstructed(subject, real), real)),
        attributes_right(judges.right(made, others)),
        *(round(float(np.diag(found).mean()), 3) for found in (pairs, np.roll(pairs, -1, axis=1))),
        round(float(np.diag(judges.agreement(real, captions)).mean()), 3),
    )


def attributes_right(right: np.ndarray) -> str:
    """Of the attributes, the style aside."""
    attributes = right[:, 1:]
    return str(share(attributes[~np.isnan(attributes)]))


def drawn(
    checkpoint: str, captions: Sequence[str], setting: Setting, beside: Mapping[str, Sequence[Any]] = NOTHING
) -> np.ndarray:
    """What a generator makes of captions and of other conditions beside them, uint8 (N, 64, 64, 3)."""
    seeds = tuple(range(FIRST_SEED, FIRST_SEED + len(captions)))
    request = SampleRequest(seeds, {"prompt": list(captions), **beside}, setting)
    return np.asarray(in_process(require(prepare(checkpoint))).sample(request))


@torch.inference_mode()
def reconstructed(subject: Subject, images: np.ndarray) -> np.ndarray:
    """Real pictures after the first stage: the ceiling of what is built on it."""
    model = registry.load_module(registry.checkpoint(subject.checkpoint))
    pixels = torch.from_numpy(to_pixels(images))
    return np.asarray(to_images(model.first_stage(model.encode(pixels)).clamp(-1.0, 1.0)))


def means(rows: Sequence[Cells]) -> Iterator[float]:
    for column in range(1, len(rows[0])):
        yield sum(value(row[column]) for row in rows) / len(rows)


def answer(rows: Sequence[Cells]) -> str:
    """What the rows say of all styles together, and where it is worst."""
    right, every, plain, stage, real, other, own, another, *_ = means(rows)
    worst = min(rows, key=lambda row: value(row[1]))
    return (
        f"Of the attributes of unseen combinations, {right:.1%} are right at a guidance of {SCALE:g} and {plain:.1%} "
        f"without; {stage:.1%} after the first stage, {real:.1%} in real pictures, {other:.1%} by chance. All are "
        f"right at once in {every:.1%} of the pictures. Worst is {worst[0]}, with {value(worst[1]):.1%}. A judge that "
        f"shares nothing with the generator gives pictures and their captions {own:.2f}, and others {another:.2f}."
    )
