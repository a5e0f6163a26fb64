"""Guides: what stands beside a base and tells its denoiser more than words. A guide is one file here.

    conditions   what it adds to the prompt, in the order in which the denoiser takes what they become
    denoiser     the base's, with what the guide adds; without its conditions' strength it is the base's, to the bit
    sight        the network that a condition goes through once, before the denoiser
    shown        a condition's values for pictures that are learned from, as a person would give them

Only a guide knows these; the family, its training and its examples loop over what it declares.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
from torch import Tensor, nn

from zoo.contract.conditions import Condition, scalar
from zoo.families.text_to_image import TextToImage, TextToImageConfig
from zoo.networks.first_stage import FirstStage
from zoo.networks.text import TextUNet
from zoo.networks.unet import UNetConfig

GUIDES = ("control", "reference", "repaint", "enlarge", "layout", "face", "edit")  # one file each
STRONGEST = 2.0  # of a guide or an adapter, 1 being how it was trained
Examples = Mapping[str, np.ndarray | Sequence[str]]  # values by condition; where prompts are not among them, the base's


@dataclass(frozen=True)
class Guide:
    """What a guide is made of; `conditions`, `sight` and `examples` take the config of the base.

    `denoiser` is called as a TextUNet is. `sight` makes the graph of the condition that is encoded, if one is, its
    weights called `called`; `by_first_stage`: it takes the base's first stage too. `shown(images, told, draws)` gives
    arrays (B, *edge) by condition, of pictures uint8 (B, H, W, C) and what the data set tells of them, which by itself
    is what is shown; conditions that it leaves out have their defaults. `begin` is done once the base's weights are
    there. `examples` raises DatasetError.
    """

    conditions: Callable[[TextToImageConfig], tuple[Condition, ...]]
    denoiser: Callable[[UNetConfig, int, int], TextUNet]
    examples: Callable[[TextToImageConfig], Examples]
    called: str = ""
    sight: Callable[[TextToImageConfig], nn.Module] | None = None
    shown: Callable[[np.ndarray, Mapping[str, Any], np.random.Generator], Mapping[str, Any]] = lambda _, told, __: told
    begin: Callable[[Any], None] = lambda _: None
    by_first_stage: bool = False

    def eye(self, model: TextToImage) -> Callable[..., Any]:
        """The sight of a model, called with a condition's tensors."""
        sight = model.get_submodule(self.called)
        return Through(sight, model.first_stage) if self.by_first_stage else sight


class Through(nn.Module):
    """A sight, called with a first stage after what it is called with."""

    def __init__(self, sight: nn.Module, first_stage: FirstStage) -> None:
        super().__init__()
        self.sight, self.first_stage = sight, first_stage

    def forward(self, *seen: Tensor) -> Tensor:
        return cast(Tensor, self.sight(*seen, self.first_stage))


@lru_cache
def guide(name: str) -> Guide:
    """Raises ValueError for one of which there is no file."""
    if name not in GUIDES:
        raise ValueError(f"no guide is called {name[:40]!r}: choose one of {', '.join(GUIDES)}")
    found: Guide = importlib.import_module(f"zoo.families.guides.{name}").GUIDE
    return found


def strength(name: str) -> Condition:
    """The scale of a guide, 1 where nobody says another."""
    return Condition(name, "scalar", scalar.Options(0.0, STRONGEST), default=1.0)
