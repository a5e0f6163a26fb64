"""Boxes that say what stands where (Li et al. 2023, GLIGEN, arXiv:2301.07093), in scenes, which the base never saw.

The words say the hour and what is there; the boxes say it of each place.
"""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np

from zoo.contract.conditions import Condition, boxes
from zoo.contract.graph import TensorSpec
from zoo.datasets import scenes
from zoo.families.guides import Examples, Guide, strength
from zoo.families.text_to_image import STATE_SIZE, TextToImageConfig
from zoo.networks.widened import Placed, WidenedTextUNet

BOXES = "boxes"
RANK = 32  # of the adapters: a landscape is no portrait
EXAMPLES = 24


def conditions(config: TextToImageConfig) -> tuple[Condition, ...]:
    seen = TensorSpec("boxes_seen", "float32", (config.denoiser.channels[0], STATE_SIZE, STATE_SIZE))
    options = boxes.Options(scenes.MOST, len(scenes.LABELS))
    return Condition(BOXES, "boxes", options, encoded=(seen,)), strength("layout")


def held_out(count: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """So many scenes of "test": pictures, uint8 (count, 64, 64, 3), boxes, float32 (count, 4, 5), and captions."""
    kept: list[tuple[np.ndarray, np.ndarray, str]] = []
    for found, index in itertools.islice(scenes.held_out(), count):
        picture, _, where = scenes.draw(found, f"{scenes.SEED} {index}")
        kept.append((picture, where, scenes.caption(found, np.random.default_rng([scenes.SEED, index, 1]))))
    pictures, where_all, said = zip(*kept, strict=True)
    return np.stack(pictures), np.stack(where_all), list(said)


def examples(_: TextToImageConfig) -> Examples:
    where, said = held_out(EXAMPLES)[1:]
    return {BOXES: where, "prompt": said}


GUIDE = Guide(
    conditions,
    partial(WidenedTextUNet, rank=RANK),
    called="placed",
    sight=lambda config: Placed(config.denoiser.channels[0], STATE_SIZE, len(scenes.LABELS)),
    examples=examples,
)
