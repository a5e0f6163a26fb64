"""A picture beside the words (Ye et al. 2023, arXiv:2308.06721), learned by pairs that differ as it is said.

The paper's picture beside is the one that is wanted; here it is another, so that words are learned to have the last
say.
"""

from __future__ import annotations

import numpy as np

from zoo.contract.conditions import Condition, image
from zoo.contract.graph import TensorSpec
from zoo.datasets import altered_designs, portraits
from zoo.families.guides import Examples, Guide, strength
from zoo.families.text_to_image import SIZE, TextToImageConfig
from zoo.networks.reference import SHRUNK, PictureTokens, ReferredTextUNet

BESIDE = altered_designs.REFERENCE
EXAMPLES = 24


def conditions(config: TextToImageConfig) -> tuple[Condition, ...]:
    tokens = TensorSpec("reference_tokens", "float32", ((SIZE // SHRUNK) ** 2, config.context))
    return Condition(BESIDE, "image", image.Options(SIZE, SIZE), encoded=(tokens,)), strength("likeness")


def examples(_: TextToImageConfig) -> Examples:
    """Of combinations that no training picture shows."""
    found = [(each, seed) for each, seed in altered_designs.pairs(40) if each.wanted.held_out][:EXAMPLES]
    pictures = np.stack([portraits.draw(each.beside, seed) for each, seed in found])
    return {BESIDE: pictures, "prompt": [each.caption for each, _ in found]}


GUIDE = Guide(
    conditions,
    ReferredTextUNet,
    called="picture",
    sight=lambda config: PictureTokens(config.image_channels, config.context),
    examples=examples,
)
