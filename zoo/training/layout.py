"""Layout to image: what is painted in each box is of its label in a critic's eyes, and the whole a picture.

Sun & Wu 2019 (arXiv:1908.07500), equations 6 to 8, with a hinge under spectral norms; and the distance to the picture
whose layout it is, as in their second version (arXiv:2003.11571, section 3.4).

Options: `boxes`, the weight of what the critic says of boxes beside what it says of the whole; `distance`, that of the
distance.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from zoo import registry
from zoo.family import Checkpoint
from zoo.networks.convolutional import channels_last
from zoo.networks.layouts import LayoutDiscriminator
from zoo.training.adversarial import LOSSES, frozen, normalize_spectrally
from zoo.training.loop import Batch, autocast, descend
from zoo.training.paired_translation import GREY_LEVELS, apart, given, parts, spread
from zoo.training.text_to_image import graphic_distance

CRITIC, OF_BOXES, CROP = (48, 96, 128), (32, 64, 96), 24
JUDGED = 200  # unseen layouts


class LayoutObjective:
    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        assert checkpoint.recipe is not None
        self.spec, self.device, self.options = checkpoint.spec, device, checkpoint.recipe.options
        (boxes,) = self.spec.conditions
        self.model: Any = channels_last(registry.family(self.spec.family).build(checkpoint.config), device)
        shape = (self.spec.default_image_shape[2], CRITIC, OF_BOXES, boxes.options.count, CROP)
        critic = LayoutDiscriminator(*shape)
        normalize_spectrally(critic)
        self.critic = channels_last(critic, device)
        self.of_critic, self.of_painter = LOSSES["hinge"]
        self.modules: dict[str, nn.Module] = {"model": self.model, "critic": self.critic}
        rate = checkpoint.recipe.learning_rate
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            name: torch.optim.Adam(module.parameters(), rate, betas=(0.0, 0.99))
            for name, module in self.modules.items()
        }

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        noise, boxes, labels = given(self.spec, batch)
        there = labels < self.spec.conditions[0].options.count
        weight = self.options["boxes"]
        with autocast(self.device):
            made = self.model.pixels(noise, boxes, labels)
            real = self.critic(batch.images, boxes, labels)
            fake = self.critic(made.detach(), boxes, labels)
            judged = self.of_critic(real[0], fake[0]) + weight * self.of_critic(real[1][there], fake[1][there])
        descend(self.optimizers["critic"], judged)
        with frozen(self.critic), autocast(self.device):
            patches, inside = self.critic(made, boxes, labels)
        doubted = self.of_painter(patches) + weight * self.of_painter(inside[there])
        distance = graphic_distance(made, batch.images)
        descend(self.optimizers["model"], doubted + self.options["distance"] * distance)
        return {"distance": distance.detach(), "painter": doubted.detach(), "critic": judged.detach()}

    @torch.no_grad()
    def evaluate(self, model: Any, batch: Batch) -> dict[str, float]:
        """How far unseen pictures are from what is made of their layout, in grey levels, and from others."""
        batch = spread(batch, JUDGED)
        torch.manual_seed(0)
        made = torch.cat([model.pixels(*given(self.spec, batch[part])) for part in parts(len(batch))])
        away = float(GREY_LEVELS * (made - batch.images).abs().mean())
        return {"grey_levels_from_its_pair": away, "grey_levels_from_another": apart(batch)}


def objective(checkpoint: Checkpoint, device: torch.device) -> LayoutObjective:
    return LayoutObjective(checkpoint, device)
