"""A small picture that is made large (Saharia et al. 2021, arXiv:2104.07636): its own, a quarter as large."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo.contract.conditions import Condition, image
from zoo.contract.graph import TensorSpec
from zoo.datasets import designs, portraits
from zoo.families.guides import Examples, Guide, strength
from zoo.families.text_to_image import LATENTS, STATE_SIZE, TextToImageConfig
from zoo.networks.widened import Small, WidenedTextUNet

SMALL = "small"
SHRUNK = 4


def conditions(config: TextToImageConfig) -> tuple[Condition, ...]:
    seen = TensorSpec("small_seen", "float32", (config.denoiser.channels[0], STATE_SIZE, STATE_SIZE))
    return Condition(SMALL, "image", image.Options(STATE_SIZE, STATE_SIZE), encoded=(seen,)), strength("closeness")


def shrunk(images: np.ndarray) -> np.ndarray:
    """The means of squares, uint8 (N, H, W, C) -> (N, H / 4, W / 4, C)."""
    count, height, width, channels = images.shape
    squares = images.reshape(count, height // SHRUNK, SHRUNK, width // SHRUNK, SHRUNK, channels)
    return np.asarray(np.rint(squares.mean(axis=(2, 4))).astype(np.uint8))


def shown(images: np.ndarray, _: Mapping[str, Any], __: np.random.Generator) -> dict[str, np.ndarray]:
    return {SMALL: shrunk(images)}


def examples(config: TextToImageConfig) -> Examples:
    """Of each prompt the small picture of what it says."""
    return {SMALL: shrunk(np.stack([portraits.draw(designs.understood(each)) for each in config.examples]))}


GUIDE = Guide(
    conditions,
    WidenedTextUNet,
    called="small",
    sight=lambda config: Small(config.denoiser.channels[0], config.image_channels, LATENTS),
    shown=shown,
    examples=examples,
    by_first_stage=True,
)
