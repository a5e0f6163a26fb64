"""How far one picture is edited (Kawar et al. 2023, arXiv:2210.09276): from what gives it to what the prompt says."""

from __future__ import annotations

from functools import partial

from zoo.contract.conditions import Condition, scalar
from zoo.datasets import one_picture
from zoo.families.guides import Examples, Guide
from zoo.families.text_to_image import LENGTH, TextToImageConfig
from zoo.networks.edited import EditedTextUNet

EDIT = "edit"
USUAL = 0.7  # within the paper's 0.6 to 0.8, section 4.1


def conditions(_: TextToImageConfig) -> tuple[Condition, ...]:
    return (Condition(EDIT, "scalar", scalar.Options(0.0, 1.0), default=USUAL),)


def examples(_: TextToImageConfig) -> Examples:
    """What the picture may be asked to become."""
    return {"prompt": [one_picture.caption(*each) for each in one_picture.TARGETS]}


GUIDE = Guide(conditions, partial(EditedTextUNet, length=LENGTH), examples=examples)
