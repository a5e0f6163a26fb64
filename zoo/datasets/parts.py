"""What stands where in a portrait, and what of it is left when one thing is another: exact, as it is drawn anew.

A part's pixels are those that change when DiceBear leaves it out; the ground's, when the background is another colour.
"""

from __future__ import annotations

import numpy as np

from zoo.datasets.portrait_styles import ABSENT, Attribute
from zoo.datasets.portraits import Portrait, draw

CHANGED = 12  # grey levels of some channel
EDGE = 40
GROUND_PART, BODY_PART = 0, 1


def changed(picture: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Where two pictures differ to the eye, bool (..., H, W) of uint8 (..., H, W, 3)."""
    difference = np.abs(picture.astype(np.int16) - other).max(axis=-1)
    return np.asarray(difference > CHANGED)


def part_map(shown: Portrait, seed: str = "") -> np.ndarray:
    """Which part each pixel is of, uint8 (64, 64): 0 the ground, 1 the figure, 2 and on the parts of `parts_of`.

    Where one part lies on another, as eyes on a body, it is the one in front.
    """
    picture = draw(shown, seed)
    on_two = [draw(shown, seed, backgroundColor=[colour]) for colour in ("#000000", "#ffffff")]
    ground = np.abs(on_two[0].astype(np.int16) - on_two[1]).min(axis=-1) > 127
    found = np.where(ground, GROUND_PART, BODY_PART).astype(np.uint8)
    masks = [part_mask(shown, attribute, seed, picture) for attribute in parts_of(shown)]
    for place in sorted(range(len(masks)), key=lambda place: (-int(masks[place].sum()), -place)):  # large ones behind
        found[masks[place] & ~ground] = BODY_PART + 1 + place
    return found


def parts_of(shown: Portrait) -> tuple[Attribute, ...]:
    """The attributes that are parts and there, in the order of the grammar."""
    attributes = shown.style.attributes
    return tuple(each for each in attributes if _is_part(each) and shown.words[each.name] != ABSENT)


def _is_part(attribute: Attribute) -> bool:
    return attribute.option.endswith("Variant")


def part_mask(shown: Portrait, attribute: Attribute, seed: str = "", picture: np.ndarray | None = None) -> np.ndarray:
    """Where a part shows, bool (64, 64)."""
    without = {f"{attribute.option.removesuffix('Variant')}Probability": 0}
    return changed(draw(shown, seed) if picture is None else picture, draw(shown, seed, **without))


def counterfactual(shown: Portrait, name: str, word: str, seed: str = "") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A picture, the same with one attribute changed, and where they differ: uint8 (64, 64, 3) twice, bool (64, 64)."""
    pair = draw(shown, seed), draw(shown.with_word(name, word), seed)
    return (*pair, changed(*pair))


def outlines(images: np.ndarray) -> np.ndarray:
    """Where colours meet, uint8 (N, H, W, 1), 255 for a line, of uint8 (N, H, W, 3): a drawing's, or a generator's."""
    pixels = images.astype(np.int16)
    lines = np.zeros(images.shape[:3], bool)
    for axis in (1, 2):
        step = np.abs(np.diff(pixels, axis=axis)).max(axis=-1) > EDGE
        lines |= np.concatenate([step, np.zeros_like(np.take(lines, [0], axis))], axis)
    return (255 * lines[..., None]).astype(np.uint8)
