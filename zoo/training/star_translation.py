"""Star translation: one network for every change of one attribute, learnt from pictures of which no two are a pair.

Choi et al. 2018, equations 1 to 6: a critic says of patches whether they are real, and of a picture which value each
attribute has; what is changed must be told as changed, and all else as it was; and the way back must end where it
began. The critic's loss is a hinge under spectral norms, in place of WGAN-GP; what it tells of has none, so that it may
be as sure as it is.

Options: `cycle`, the weight of the way back, and of a change to what is there already, which grows until the critic can
tell anything; `told`, that of what the critic tells.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import registry
from zoo.datasets import faces
from zoo.family import Checkpoint
from zoo.images import to_pixels
from zoo.networks.convolutional import channels_last
from zoo.networks.discriminator import TellingDiscriminator
from zoo.training.adversarial import LOSSES, frozen, normalize_spectrally
from zoo.training.loop import Batch, autocast, descend
from zoo.training.paired_translation import GREY_LEVELS

CRITIC = (48, 96, 128, 192)
KEEPING = 0.3  # the share of the run after which all that is not to change is kept as strictly as ever
JUDGED = 200  # changes of unseen faces
CHOICES = len(next(iter(faces.COLOURS.values())))  # alike for every attribute


class StarTranslation:
    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        assert checkpoint.recipe is not None
        self.device, self.options = device, checkpoint.recipe.options
        self.model: Any = channels_last(registry.family(checkpoint.spec.family).build(checkpoint.config), device)
        self.of_critic, self.of_painter = LOSSES["hinge"]
        size, _, image_channels = checkpoint.spec.default_image_shape
        critic = TellingDiscriminator(image_channels, CRITIC, size, len(faces.COLOURS), CHOICES)
        normalize_spectrally(critic.trunk)
        normalize_spectrally(critic.logits)
        self.critic = channels_last(critic, device)
        self.modules: dict[str, nn.Module] = {"model": self.model, "critic": self.critic}
        rate = checkpoint.recipe.learning_rate
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            name: torch.optim.Adam(module.parameters(), rate, betas=(0.5, 0.99))
            for name, module in self.modules.items()
        }

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        images, before = batch.images, batch.tensor("colours")
        change = torch.randint(len(faces.CHANGES), (len(batch), 1), device=self.device)
        attribute, word = change // CHOICES, change % CHOICES
        wanted = before.scatter(1, attribute, word)
        with autocast(self.device):
            made = self.model.pixels(images, change)
            real, told = self.critic(images)
            fake, _ = self.critic(made.detach())
            judged = self.of_critic(real, fake)
            known = told_apart(told, before)
            loss = judged + self.options["told"] * known
        descend(self.optimizers["critic"], loss)
        with frozen(self.critic), autocast(self.device):
            patches, told = self.critic(made)
            back = self.model.pixels(made, attribute * CHOICES + before.gather(1, attribute))
        doubted, missed = self.of_painter(patches), told_apart(told, wanted)
        same = (wanted == before).all(dim=1)[:, None, None, None]
        kept = (back - images).abs().mean() + (torch.where(same, made - images, 0.0)).abs().mean()
        descend(
            self.optimizers["model"],
            doubted + self.options["told"] * missed + self.options["cycle"] * min(1.0, progress / KEEPING) * kept,
        )
        losses = {"painter": doubted, "missed": missed, "kept": kept, "critic": judged, "known": known}
        return {name: loss.detach() for name, loss in losses.items()}

    @torch.no_grad()
    def evaluate(self, model: Any, batch: Batch) -> dict[str, float]:
        """How far changes of unseen faces are from their truth, where it differs from the face and elsewhere.

        In grey levels; beside the first how far the face was that nobody changed.
        """
        shown = list(itertools.islice(faces.examples(), JUDGED))
        changes = np.arange(JUDGED) % len(faces.CHANGES)
        pairs = [faces.altered(face, seed, int(change)) for (face, seed), change in zip(shown, changes, strict=True)]
        before, truth = (torch.from_numpy(to_pixels(np.stack(each))) for each in list(zip(*pairs, strict=True))[:2])
        inside = torch.from_numpy(np.stack([where for *_, where in pairs]))[:, None].expand(-1, 3, -1, -1)
        made = model.pixels(before, torch.from_numpy(changes)[:, None])
        return {
            "grey_levels_from_the_truth": float(GREY_LEVELS * (made - truth)[inside].abs().mean()),
            "grey_levels_unchanged": float(GREY_LEVELS * (before - truth)[inside].abs().mean()),
            "grey_levels_elsewhere": float(GREY_LEVELS * (made - truth)[~inside].abs().mean()),
        }


def told_apart(logits: Tensor, wanted: Tensor) -> Tensor:
    """Cross entropy of each attribute, (B, attributes, choices) and (B, attributes)."""
    return F.cross_entropy(logits.flatten(0, 1), wanted.flatten())


def objective(checkpoint: Checkpoint, device: torch.device) -> StarTranslation:
    return StarTranslation(checkpoint, device)
