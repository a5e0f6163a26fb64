"""Cycle translation: between two kinds of pictures, both ways, learnt from pictures of each of which no two are a pair.

Zhu et al. 2017 (arXiv:1703.10593), equations 1 to 3: a critic of each kind, and the way there and back must end where
it began; what is of the wanted kind already must stay as it is (section 5.2). The critics' loss is a hinge.

Options: `cycle`, the weight of the way back; `identity`, that of what is to stay.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from zoo import registry
from zoo.datasets import day_and_night
from zoo.datasets.day_and_night import DAY, HOURS
from zoo.family import Checkpoint
from zoo.images import from_images, to_pixels
from zoo.networks.convolutional import channels_last
from zoo.networks.discriminator import PatchDiscriminator
from zoo.training.adversarial import LOSSES, doubt, update_discriminator
from zoo.training.loop import Batch, autocast, descend
from zoo.training.paired_translation import CRITIC, GREY_LEVELS

JUDGED = 100  # unseen pairs


class CycleTranslation:
    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        assert checkpoint.recipe is not None
        recipe = checkpoint.recipe
        self.device, self.options = device, recipe.options
        self.model: Any = channels_last(registry.family(checkpoint.spec.family).build(checkpoint.config), device)
        image_channels = checkpoint.spec.default_image_shape[2]
        critics = nn.ModuleList(PatchDiscriminator(image_channels, CRITIC) for _ in HOURS)
        self.critics: Any = channels_last(critics, device)
        self.of_critic, self.of_painter = LOSSES["hinge"]
        self.modules: dict[str, nn.Module] = {"model": self.model, "critics": critics}
        rate = recipe.learning_rate
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "model": torch.optim.Adam(self.model.parameters(), rate, betas=(0.5, 0.99)),
            **{
                f"critic by {HOURS[kind]}": torch.optim.Adam(critic.parameters(), 0.5 * rate, betas=(0.5, 0.99))
                for kind, critic in enumerate(critics)
            },
        }

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        real = (from_images(batch.tensor(DAY)), batch.images)
        made, same, back = [], [], []
        with autocast(self.device):
            for kind in range(len(HOURS)):
                both = torch.cat([real[1 - kind], real[kind]])
                there, kept = self.model.network.towards(kind, both).chunk(2)
                made.append(there)
                same.append((kept - real[kind]).abs().mean())
            for kind in range(len(HOURS)):
                back.append((self.model.network.towards(kind, made[1 - kind]) - real[kind]).abs().mean())
        judged, doubted = [], []
        for kind, critic in enumerate(self.critics):
            shown, optimizer = (real[kind],), self.optimizers[f"critic by {HOURS[kind]}"]
            judged.append(
                update_discriminator(
                    critic, optimizer, self.options, shown, (made[kind].detach(),), loss=self.of_critic
                )
            )
            doubted.append(doubt(critic, made[kind], loss=self.of_painter))
        losses = {"painter": sum(doubted), "cycle": sum(back), "same": sum(same), "critic": sum(judged)}
        total = losses["painter"] + self.options["cycle"] * losses["cycle"] + self.options["identity"] * losses["same"]
        descend(self.optimizers["model"], total)
        return {name: loss.detach() for name, loss in losses.items()}

    @torch.no_grad()
    def evaluate(self, model: Any, batch: Batch) -> dict[str, float]:
        """In grey levels, how far unseen scenes are from what is made of them at the other hour.

        Beside it how far both are from each other, and how far what is to stay has moved: figures, and the way back.
        """
        *drawn, figures = day_and_night.pairs(JUDGED)
        real = [torch.from_numpy(to_pixels(each)) for each in drawn]
        inside = torch.from_numpy(figures > 0)[:, None].expand(-1, 3, -1, -1)
        found = {"grey_levels_unchanged": _away(*real)}
        for kind, name in enumerate(HOURS):
            made = model.network.towards(kind, real[1 - kind])
            back = model.network.towards(1 - kind, made)
            found |= {
                f"grey_levels_from_the_truth_by_{name}": _away(made, real[kind]),
                f"grey_levels_of_figures_by_{name}": _away(made[inside], real[kind][inside]),
                f"grey_levels_there_and_back_by_{name}": _away(back, real[1 - kind]),
            }
        return found


def _away(pixels: Tensor, others: Tensor) -> float:
    return float(GREY_LEVELS * (pixels - others).abs().mean())


def objective(checkpoint: Checkpoint, device: torch.device) -> CycleTranslation:
    return CycleTranslation(checkpoint, device)
