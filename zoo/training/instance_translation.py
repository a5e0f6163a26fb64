"""Instance translation: figures of one kind become figures of another, one by one, and all around them stays.

Mo et al. 2019 (arXiv:1812.10889), equations 1 to 5: picture and mask of a figure are turned together, a critic of each
kind sees both, the way back must end where it began, and what neither mask covers must not change. In each step one
figure of a picture is turned, a sequence of one (section 2.3). The critics' loss is a hinge under spectral norms, and a
critic sees no more than a window around the figure. What is of the wanted kind already is not asked to stay as it is.

Options: `cycle`, the weight of the way back; `around`, that of what neither mask covers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from zoo import registry
from zoo.datasets.critters_and_plants import FIGURES, PLANT_IMAGE, PLANTS
from zoo.family import Checkpoint
from zoo.images import from_images
from zoo.networks.convolutional import channels_last
from zoo.networks.discriminator import PatchDiscriminator
from zoo.training.adversarial import LOSSES, doubt, normalize_spectrally, update_discriminator
from zoo.training.loop import Batch, autocast, descend
from zoo.training.paired_translation import GREY_LEVELS

CRITIC, WINDOW = (32, 64, 96), 40
JUDGED = 200  # unseen scenes


class InstanceTranslation:
    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        assert checkpoint.recipe is not None
        self.device, self.options = device, checkpoint.recipe.options
        self.model: Any = channels_last(registry.family(checkpoint.spec.family).build(checkpoint.config), device)
        image_channels = checkpoint.spec.default_image_shape[2]
        critics = nn.ModuleList(PatchDiscriminator(image_channels + 1, CRITIC) for _ in range(2))
        normalize_spectrally(critics)
        self.critics: Any = channels_last(critics, device)
        self.of_critic, self.of_painter = LOSSES["hinge"]
        self.modules: dict[str, nn.Module] = {"model": self.model, "critics": critics}
        rate = checkpoint.recipe.learning_rate
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "model": torch.optim.Adam(self.model.parameters(), rate, betas=(0.5, 0.99)),
            **{
                f"critic {kind}": torch.optim.Adam(critic.parameters(), rate, betas=(0.5, 0.99))
                for kind, critic in enumerate(critics)
            },
        }

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        real = (
            (batch.images, one_of(batch.tensor(FIGURES))),
            (from_images(batch.tensor(PLANT_IMAGE)), one_of(batch.tensor(PLANTS))),
        )
        turned = self.model.network.turned
        with autocast(self.device):
            made = [turned(way, *real[way]) for way in range(2)]
            back = [turned(1 - way, *made[way]) for way in range(2)]
        judged, doubted = [], []
        for kind, critic in enumerate(self.critics):
            (shown, mask), (fake, fake_mask) = real[kind], made[1 - kind]
            seen = windows(torch.cat([shown, mask], dim=1), mask)
            fakes = windows(torch.cat([fake, fake_mask], dim=1), real[1 - kind][1])
            optimizer = self.optimizers[f"critic {kind}"]
            judged.append(
                update_discriminator(critic, optimizer, self.options, (seen,), (fakes.detach(),), loss=self.of_critic)
            )
            doubted.append(doubt(critic, fakes, loss=self.of_painter))
        losses = {
            "painter": sum(doubted),
            "cycle": sum(distance(*pair) for pair in zip(back, real, strict=True)),
            "around": sum(around(*pair) for pair in zip(real, made, strict=True)),
            "critic": sum(judged),
        }
        weighed = self.options["cycle"] * losses["cycle"] + self.options["around"] * losses["around"]
        descend(self.optimizers["model"], losses["painter"] + weighed)
        return {name: torch.as_tensor(loss).detach() for name, loss in losses.items()}

    @torch.no_grad()
    def evaluate(self, model: Any, batch: Batch) -> dict[str, float]:
        """How far unseen scenes are changed within the masks and outside, in grey levels."""
        shown, figures = batch.images[:JUDGED], batch.tensor(FIGURES)[:JUDGED]
        away = GREY_LEVELS * (model.pixels(shown, figures.long()).clamp(-1.0, 1.0) - shown).abs().mean(dim=1)
        inside = figures > 0
        return {
            "grey_levels_within_masks": float(away[inside].mean()),
            "grey_levels_outside": float(away[~inside].mean()),
        }


Turned = tuple[Tensor, Tensor]  # a picture (B, C, H, W) and a figure's mask (B, 1, H, W), both in [-1, 1]


def one_of(figures: Tensor) -> Tensor:
    """The mask of one figure of each picture, (B, 1, H, W), 1 or -1, of numbers from 1 on, (B, H, W)."""
    count = figures.flatten(1).amax(1)
    number = 1 + (torch.rand(len(figures), device=figures.device) * count).long()
    return 2.0 * (figures == number[:, None, None]).float()[:, None] - 1.0


def distance(one: Turned, other: Turned) -> Tensor:
    return (one[0] - other[0]).abs().mean() + (one[1] - other[1]).abs().mean()


def around(before: Turned, after: Turned) -> Tensor:
    """How much has changed of what neither mask covers (equation 4)."""
    free = ((1.0 - before[1]) * (1.0 - after[1].detach().clamp(-1.0, 1.0))) / 4.0
    return (free * (after[0] - before[0]).abs()).mean()


def windows(seen: Tensor, mask: Tensor, side: int = WINDOW) -> Tensor:
    """What is around each figure, (B, C, side, side), in the middle where the border allows."""
    found = []
    for each, covered in zip(seen, mask[:, 0] > 0.0, strict=True):
        corners = []
        for axis, size in enumerate(covered.shape):
            places = covered.any(dim=1 - axis).nonzero()[:, 0]
            middle = int(places[0] + places[-1] + 1) // 2 if len(places) else size // 2
            corners.append(min(max(middle - side // 2, 0), size - side))
        top, left = corners
        found.append(each[:, top : top + side, left : left + side])
    return torch.stack(found)


def objective(checkpoint: Checkpoint, device: torch.device) -> InstanceTranslation:
    return InstanceTranslation(checkpoint, device)
