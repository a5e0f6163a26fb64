"""Train what tells a text U-Net more than words, a guide of zoo/families/guides: it sees what it is shown of a picture.

Options as in tuning.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from zoo.contract.assets import NO_ASSETS
from zoo.contract.conditions import arrays, kind
from zoo.families.guides import Guide
from zoo.families.text_to_image import TextToImage
from zoo.families.tuned_text_to_image import Tuned
from zoo.family import Checkpoint
from zoo.images import to_images
from zoo.training.loop import Batch
from zoo.training.tuning import Tuning


class GuidedTuning(Tuning):
    """What a guide adds is free; its conditions go the way that a request's go."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        super().__init__(checkpoint, device)
        self.guide: Guide = checkpoint.config.guide
        self.conditions = self.guide.conditions(checkpoint.config.network)
        with torch.no_grad():
            self.guide.begin(cast(Tuned, self.model).denoiser)

    def told(self, model: TextToImage, batch: Batch, captions: Sequence[str]) -> tuple[Tensor, ...]:
        found, shown = list(super().told(model, batch, captions)), self._shown(batch)
        tensors = {each.name: self._tensors(each.name, shown) for each in self.conditions}
        for each in self.conditions:
            if each.encoded:
                seen = [tensor for name in (each.name, *each.beside) for tensor in tensors[name]]
                encoded = self.guide.eye(model)(*seen)
                found += encoded if isinstance(encoded, tuple) else (encoded,)
            else:
                found += tensors[each.name]
        return tuple(found)

    def _shown(self, batch: Batch) -> dict[str, Any]:
        """Of each condition the values for a batch, (B, *edge)."""
        told = {
            name: values.cpu().numpy() if isinstance(values, Tensor) else values
            for name, values in batch.conditions.items()
        }
        draws = np.random.default_rng(int(torch.randint(1 << 31, ())))
        found = self.guide.shown(to_images(batch.images).cpu().numpy(), told, draws)
        usual = [each for each in self.conditions if each.name not in found]
        return {**found} | {each.name: arrays(each, [each.default] * len(batch)) for each in usual}

    def _tensors(self, name: str, shown: Mapping[str, Any]) -> list[Tensor]:
        """What a graph takes of a condition."""
        (condition,) = (each for each in self.conditions if each.name == name)
        found = kind(condition).encode(condition, shown[name], NO_ASSETS)
        return [torch.from_numpy(np.ascontiguousarray(each)).to(self.device) for each in found.values()]


def objective(checkpoint: Checkpoint, device: torch.device) -> GuidedTuning:
    return GuidedTuning(checkpoint, device)
