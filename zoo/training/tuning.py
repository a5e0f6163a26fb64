"""Tune text to image: what a base lacks is trained, an adapter, a word, a part; all else stays the base's.

Hu et al. 2021 (LoRA); Gal et al. 2022 (textual inversion); Ruiz et al. 2022 (DreamBooth), whose pictures of the class
are in the data set. Options: `beside`, checkpoints whose adapters are taken as they are, and told no scale;
`caption_dropout` and the like as in text_to_image.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from zoo import shelf
from zoo.families.text_to_image import TextToImage
from zoo.family import Checkpoint
from zoo.networks import low_rank
from zoo.training.loop import Batch, descend
from zoo.training.optimizers import adam
from zoo.training.text_to_image import CaptionedDiffusion, captions_of

WORDS = "text_encoder.embedding.weight"


class Tuning(CaptionedDiffusion):
    """What neither the base has nor what is beside it is free; a new word begins as the mean of those that it knows."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        super().__init__(checkpoint, checkpoint.config.network, device)
        assert checkpoint.recipe is not None
        assert checkpoint.base is not None
        state, ready = self.model.state_dict(), dict[str, int]()
        for origin in (checkpoint.base, *self.options.get("beside", ())):
            known = shelf.tensors(origin)
            for name, shape in known.shapes.items():
                state[name][: shape[0]] = torch.from_numpy(known.read(name))
                ready.setdefault(name, shape[0])
        for name, weight in self.model.named_parameters():
            weight.requires_grad_(name not in ready)
        self.adapters = tuple(
            each
            for each in checkpoint.config.adapters
            if not any(f".{low_rank.CHILD}.{each}." in name for name in ready)
        )
        if (known_words := ready[WORDS]) < len(state[WORDS]):
            self._free_words(known_words)
        self.modules: dict[str, nn.Module] = {"model": self.model}
        self.optimizers: dict[str, torch.optim.Optimizer] = {"model": adam(checkpoint.recipe, self.model)}

    def _free_words(self, known: int) -> None:
        words = cast(TextToImage, self.model).text_encoder.embedding.weight
        with torch.no_grad():
            words[known:] = words[:known].mean(0)
        words.requires_grad_(True)
        new = (torch.arange(len(words), device=self.device) >= known).float()[:, None]
        words.register_hook(lambda gradient: gradient * new)  # type: ignore[no-untyped-call]

    def scales(self, batch: int, value: float = 1.0) -> dict[str, Tensor]:
        return {name: torch.full((batch,), value, device=self.device) for name in self.adapters}

    def loss(self, model: TextToImage, batch: Batch, captions: Sequence[str]) -> Tensor:
        with low_rank.told(self.scales(len(batch))):
            return super().loss(model, batch, captions)

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        loss = self.loss(cast(TextToImage, self.model), batch, self.shortened(captions_of(batch)))
        descend(self.optimizers["model"], loss, clip=1.0)
        return {"loss": loss.detach()}


def objective(checkpoint: Checkpoint, device: torch.device) -> Tuning:
    return Tuning(checkpoint, device)
