"""Paired translation: what becomes of a picture or a map is near its pair, and belongs to it in a critic's eyes.

Isola et al. 2017, equation 4, with a hinge loss on patches, and the distance of `graphic_distance`, which knows flat
areas with sharp lines. The critic sees what was given beside what was made.

Options: `distance`, the weight of the distance beside the critic's; `inked`, the share of drawings whose lines are
turned black; `mirrored`, whether half of the pairs are mirrored.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import registry
from zoo.contract.assets import NO_ASSETS
from zoo.contract.conditions import Condition, kind
from zoo.contract.graph import concrete
from zoo.contract.spec import GeneratorSpec
from zoo.datasets.drawings import INK, PAPER
from zoo.family import Checkpoint
from zoo.images import from_images
from zoo.networks.convolutional import channels_last
from zoo.networks.discriminator import PatchDiscriminator
from zoo.training.adversarial import LOSSES, doubt, update_discriminator
from zoo.training.loop import Batch, autocast, descend
from zoo.training.text_to_image import graphic_distance

CRITIC = (48, 96, 128)
JUDGED = 1000  # unseen pairs
GREY_LEVELS = 127.5  # of a distance of 1 in [-1, 1]


class PairedTranslation:
    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        assert checkpoint.recipe is not None
        self.spec, self.device, self.options = checkpoint.spec, device, checkpoint.recipe.options
        self.model: Any = channels_last(registry.family(self.spec.family).build(checkpoint.config), device)
        self.of_critic, self.of_painter = LOSSES["hinge"]
        seen = sum(_planes(condition) for condition in self.spec.conditions)
        critic = channels_last(PatchDiscriminator(self.spec.default_image_shape[2] + seen, CRITIC), device)
        self.critic = critic
        self.modules: dict[str, nn.Module] = {"model": self.model, "critic": critic}
        rate = checkpoint.recipe.learning_rate
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "model": torch.optim.Adam(self.model.parameters(), rate, betas=(0.5, 0.99)),
            "critic": torch.optim.Adam(critic.parameters(), 0.5 * rate, betas=(0.5, 0.99)),
        }

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        batch = self._varied(batch)
        shown, seen = given(self.spec, batch), self.seen(batch)
        with autocast(self.device):
            made = self.model.pixels(*shown)
        real, fake = (torch.cat([pixels, seen], dim=1) for pixels in (batch.images, made))
        judged = update_discriminator(
            self.critic, self.optimizers["critic"], self.options, (real,), (fake.detach(),), loss=self.of_critic
        )
        doubted = doubt(self.critic, fake, loss=self.of_painter)
        distance = graphic_distance(made, batch.images)
        descend(self.optimizers["model"], doubted + self.options["distance"] * distance)
        return {"distance": distance.detach(), "painter": doubted.detach(), "critic": judged}

    def _varied(self, batch: Batch) -> Batch:
        images, conditions = batch.images, dict(batch.conditions)
        if share := self.options.get("inked"):
            conditions["image"] = inked(batch.tensor("image"), torch.rand(len(batch), device=self.device) < share)
        if self.options.get("mirrored"):
            turned = torch.rand(len(batch), device=self.device) < 0.5
            images = torch.where(turned[:, None, None, None], images.flip(3), images)
            for each in self.spec.conditions:
                values = batch.tensor(each.name)
                shape = (-1, *[1] * (values.ndim - 1))
                conditions[each.name] = torch.where(turned.reshape(shape), values.flip(2), values)
        return Batch(images, conditions)

    def seen(self, batch: Batch) -> Tensor:
        """The same as planes for the critic, (B, planes, H, W)."""
        found = []
        for each in self.spec.conditions:
            values = batch.tensor(each.name)
            if each.kind == "label_map":
                found.append(F.one_hot(values.long(), each.options.count).float().permute(0, 3, 1, 2))
            else:
                found.append(from_images(values))
        return torch.cat(found, dim=1)

    @torch.no_grad()
    def evaluate(self, model: Any, batch: Batch) -> dict[str, float]:
        """How far unseen pairs are, in grey levels, from what is made of them, and other pictures of their style."""
        batch = spread(batch, JUDGED)
        torch.manual_seed(0)
        made = torch.cat([model.pixels(*given(self.spec, batch[part])) for part in parts(len(batch))])
        away = GREY_LEVELS * (made - batch.images).abs().mean()
        return {"grey_levels_from_its_pair": float(away), "grey_levels_from_another": apart(batch)}


def given(spec: GeneratorSpec, batch: Batch) -> list[Tensor]:
    """What the graph takes: noise, then what its conditions become, exactly as they are served."""
    where = batch.images.device
    shapes = [concrete(each.shape, spec.default_sizes) for each in spec.noise]
    found = [torch.randn(len(batch), 1, *shape, device=where) for shape in shapes]
    for each in spec.conditions:
        tensors = kind(each).encode(each, batch.tensor(each.name).cpu().numpy(), NO_ASSETS)
        found += [torch.from_numpy(tensor).to(where) for tensor in tensors.values()]
    return found


def parts(count: int, size: int = 100) -> list[slice]:
    return [slice(start, start + size) for start in range(0, count, size)]


def spread(batch: Batch, count: int) -> Batch:
    """So many of it at most, from all parts."""
    return batch[slice(None, None, max(1, len(batch) // count))][slice(count)]


def apart(batch: Batch) -> float:
    """How far a picture is from the next of its style, in grey levels; of one style where the data set names none."""
    named = "style" in batch.conditions
    styles = batch.tensor("style") if named else torch.zeros(len(batch), dtype=torch.int64)
    found = [batch.images[styles == style] for style in torch.unique(styles)]
    away = torch.cat([(each - each.roll(1, 0)).abs().mean((1, 2, 3)) for each in found])
    return float(GREY_LEVELS * away.mean())


def inked(drawings: Tensor, which: Tensor) -> Tensor:
    """Drawings, uint8 (B, H, W, 3), some of them, bool (B,), in black."""
    lines = (drawings != PAPER).any(dim=-1, keepdim=True)
    return torch.where(lines & which[:, None, None, None], INK, drawings)


def _planes(condition: Condition) -> int:
    """Of a condition for the critic."""
    return int(condition.options.count if condition.kind == "label_map" else condition.options.channels)


def objective(checkpoint: Checkpoint, device: torch.device) -> PairedTranslation:
    return PairedTranslation(checkpoint, device)
