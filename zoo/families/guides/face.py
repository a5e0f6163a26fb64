"""A face that says who it is, words all else (Valevski et al. 2023, arXiv:2306.06638).

It is learned by pairs of pictures of one person.
"""

from __future__ import annotations

import itertools

import numpy as np

from zoo.contract.conditions import Condition, image
from zoo.contract.graph import TensorSpec
from zoo.datasets.same_people import FACE, pairs
from zoo.families.guides import Examples, Guide, strength
from zoo.families.text_to_image import TextToImageConfig
from zoo.networks.faces import FACE_SIDE, TOKENS, Face, FacedTextUNet

EXAMPLES = 24


def conditions(config: TextToImageConfig) -> tuple[Condition, ...]:
    tokens = TensorSpec("face_tokens", "float32", (TOKENS, config.context))
    return Condition(FACE, "image", image.Options(FACE_SIDE, FACE_SIDE), encoded=(tokens,)), strength("likeness")


def examples(_: TextToImageConfig) -> Examples:
    """Of combinations that no training picture shows."""
    found = list(itertools.islice((each for each in pairs() if each.wanted.held_out), EXAMPLES))
    return {FACE: np.stack([each.face for each in found]), "prompt": [each.caption for each in found]}


GUIDE = Guide(
    conditions,
    FacedTextUNet,
    called="face",
    sight=lambda config: Face(config.image_channels, config.context),
    examples=examples,
)
