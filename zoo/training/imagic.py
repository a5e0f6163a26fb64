"""Imagic (Kawar et al. 2023, arXiv:2210.09276): find words for one picture, then tune a network to it at those words.

The search begins at the target's context (section 3.1); then the context stays and adapters are tuned (section 3.2),
where the paper tunes all. Options: `target`, the words that it begins with; `search`, its share of the run;
`search_rate`, its learning rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from zoo.families.text_to_image import TextToImage
from zoo.family import Checkpoint
from zoo.networks import low_rank
from zoo.networks.edited import EditedTextUNet
from zoo.training.loop import Batch, descend
from zoo.training.text_to_image import captions_of
from zoo.training.tuning import Tuning


class Imagic(Tuning):
    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        super().__init__(checkpoint, device)
        model = cast(TextToImage, self.model)
        found = cast(EditedTextUNet, model.denoiser).found
        with torch.no_grad():
            context, _ = model.text_encoder(*self.captions.tokens([str(self.options["target"])]))
            found.copy_(context[0])
        (tuned,) = self.optimizers.values()
        rest = [each for group in tuned.param_groups for each in group["params"] if each is not found]
        rate, betas = float(self.options["search_rate"]), (0.9, 0.99)
        self.optimizers = {
            "search": torch.optim.Adam([found], rate, betas),
            "model": torch.optim.Adam(rest, tuned.param_groups[0]["lr"], betas),
        }

    def told(self, model: TextToImage, batch: Batch, captions: Sequence[str]) -> tuple[Tensor, ...]:
        return *super().told(model, batch, captions), torch.zeros(len(batch), device=self.device)

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        phase = "search" if progress < float(self.options["search"]) else "model"
        scale = self.scales(len(batch), float(phase == "model"))
        self.model.zero_grad(set_to_none=True)
        loss = self.scaled_loss(cast(TextToImage, self.model), batch, captions_of(batch), scale)
        descend(self.optimizers[phase], loss, clip=1.0)
        return {"loss": loss.detach()}

    def scaled_loss(self, model: TextToImage, batch: Batch, captions: Sequence[str], scales: low_rank.Scales) -> Tensor:
        with low_rank.told(scales):
            return super(Tuning, self).loss(model, batch, captions)


def objective(checkpoint: Checkpoint, device: torch.device) -> Imagic:
    return Imagic(checkpoint, device)
