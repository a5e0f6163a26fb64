"""A picture of which a part is made anew by the words (Rombach et al. 2022, section 4.5): what is kept is seen.

`image` and `mask_image` are the contract's own: what a mask keeps is the picture's, to the bit.

Captions are left out and shortened often. By whole ones, nine of ten, it learned to look at the words alone: asked for
the part, neighbours across a mask's edge differed by 24.8 grey levels, by 18.4 in the base's untrained masking.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.contract.conditions import Condition, image
from zoo.contract.graph import TensorSpec
from zoo.datasets import designs
from zoo.datasets.parts import counterfactual, parts_of
from zoo.datasets.portrait_styles import ABSENT
from zoo.datasets.portraits import Portrait
from zoo.families.guides import Examples, Guide
from zoo.families.text_to_image import LATENTS, SIZE, STATE_SIZE, TextToImageConfig
from zoo.networks.widened import Kept, RepaintingTextUNet

IMAGE, MASK = "image", "mask_image"
NEW, KEPT = 255, 0
WHOLE = 0.05  # of the masks: nothing is kept
AROUND = 3  # pixels of a mask around a part


def conditions(config: TextToImageConfig) -> tuple[Condition, ...]:
    seen = TensorSpec("image_seen", "float32", (config.denoiser.channels[0], STATE_SIZE, STATE_SIZE))
    return (
        Condition(IMAGE, "image", image.Options(SIZE, SIZE), encoded=(seen,), beside=(MASK,)),
        Condition(MASK, "image", image.Options(SIZE, SIZE, 1, low=0.0)),
    )


def shown(images: np.ndarray, _: Mapping[str, Any], draws: np.random.Generator) -> dict[str, np.ndarray]:
    return {IMAGE: images, MASK: np.stack([mask(draws, images.shape[1]) for _ in images])}


def mask(draws: np.random.Generator, size: int) -> np.ndarray:
    """One or two rectangles or ellipses, or at times all of a picture, or all but those: uint8 (size, size, 1)."""
    found = np.zeros((size, size), bool)
    kind = draws.random()
    if kind < WHOLE:
        return np.full((size, size, 1), NEW, np.uint8)
    ys, xs = np.mgrid[:size, :size] + 0.5
    for _ in range(1 + int(draws.integers(2))):
        height, width = draws.uniform(0.15, 0.7, 2) * size
        top, left = draws.uniform(-0.1, 1.1, 2) * (size - np.array([height, width]))
        y, x = (ys - top) / height * 2.0 - 1.0, (xs - left) / width * 2.0 - 1.0
        found |= (y**2 + x**2 < 1.0) if draws.random() < 0.5 else (np.maximum(abs(y), abs(x)) < 1.0)
    return np.where(found != (kind > 0.9), NEW, KEPT).astype(np.uint8)[..., None]


@dataclass(frozen=True)
class Altered:
    """A portrait of which one part is to be another: its picture, the box around what changes, what is asked for.

    `prompt` says all that the picture would show, `of_part` its design and that part alone.
    """

    picture: np.ndarray  # uint8 (H, W, 3)
    mask: np.ndarray  # uint8 (H, W, 1)
    prompt: str
    of_part: str
    name: str  # of the attribute
    wanted: np.ndarray  # the picture that it would be


def altered(shown: Portrait, seed: str, draws: np.random.Generator) -> Altered | None:
    """None where the change cannot be seen."""
    there = parts_of(shown)
    part = there[int(draws.integers(len(there)))]
    words = [word for word in part.words if word not in (shown.words[part.name], ABSENT)]
    if not words:
        return None
    word = str(draws.choice(words))
    picture, wanted, where = counterfactual(shown, part.name, word, seed)
    if not where.any():
        return None
    mask = np.full((*where.shape, 1), KEPT, np.uint8)
    rows, columns = (np.flatnonzero(where.any(axis)) for axis in (1, 0))
    mask[tuple(slice(max(0, each[0] - AROUND), each[-1] + 1 + AROUND) for each in (rows, columns))] = NEW
    after = shown.with_word(part.name, word)
    of_part = f"{after.style.word} {after.phrases[part.name]}"
    return Altered(picture, mask, designs.whole(after), of_part, part.name, wanted)


def examples(config: TextToImageConfig) -> Examples:
    """Portraits of combinations that no training picture shows, a part of each asked to be another."""
    shown = [designs.understood(each) for each in config.examples]
    found = [altered(each, "", np.random.default_rng(row)) for row, each in enumerate(shown)]
    kept = [each for each in found if each]
    pictures, masks = (np.stack([getattr(each, name) for each in kept]) for name in ("picture", "mask"))
    return {IMAGE: pictures, MASK: masks, "prompt": [each.prompt for each in kept]}


GUIDE = Guide(
    conditions,
    RepaintingTextUNet,
    called="kept",
    sight=lambda config: Kept(config.denoiser.channels[0], config.image_channels, LATENTS),
    by_first_stage=True,
    shown=shown,
    examples=examples,
)
