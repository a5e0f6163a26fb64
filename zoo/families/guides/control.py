"""A drawing that says where lines are (Zhang et al. 2023, arXiv:2302.05543): each picture's own outlines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo.contract.conditions import Condition, image
from zoo.contract.graph import TensorSpec
from zoo.datasets import designs, portraits
from zoo.datasets.parts import outlines
from zoo.families.guides import Examples, Guide, strength
from zoo.families.text_to_image import SIZE, STATE_SIZE, TextToImageConfig
from zoo.networks.control import ControlledTextUNet, Drawing

DRAWN = "drawing"


def conditions(config: TextToImageConfig) -> tuple[Condition, ...]:
    drawn = TensorSpec("drawn", "float32", (config.denoiser.channels[0], STATE_SIZE, STATE_SIZE))
    options = image.Options(SIZE, SIZE, channels=1, low=0.0, high=1.0)
    return Condition(DRAWN, "image", options, encoded=(drawn,)), strength("control")


def shown(images: np.ndarray, _: Mapping[str, Any], __: np.random.Generator) -> dict[str, np.ndarray]:
    return {DRAWN: outlines(images)}


def examples(config: TextToImageConfig) -> Examples:
    """Of each prompt the drawing of what it says."""
    return {DRAWN: outlines(np.stack([portraits.draw(designs.understood(each)) for each in config.examples]))}


def begin(denoiser: ControlledTextUNet) -> None:
    denoiser.control.begin_as(denoiser)


GUIDE = Guide(
    conditions,
    ControlledTextUNet,
    called="drawing",
    sight=lambda config: Drawing(config.denoiser.channels[0]),
    shown=shown,
    examples=examples,
    begin=begin,
)
