"""Matching-aware training: a discriminator that must also tell real pictures with wrong captions from right ones.

Reed et al. 2016 (arXiv:1605.05396), algorithm 1, with R1 (Mescheder et al. 2018). A half of the wrong captions are
another picture's, a half are right but for one word. The generator is kept near the picture of its caption besides.

A generator of several sizes is judged at as many of them as its config has `levels`, the largest (Kang et al. 2023,
arXiv:2303.05511, section 3.4), and its enlarger is shown real pictures at half their size, too.

Options: `discriminator_rate` and `text_rate`, of the generator's text encoder; `r1` and `r1_interval` as of
`adversarial`; `distance`, the weight of the distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import registry
from zoo.datasets.portraits import read
from zoo.family import Checkpoint
from zoo.networks.convolutional import channels_last
from zoo.networks.discriminator import CaptionDiscriminator, Pyramid, halved
from zoo.training.adversarial import frozen, with_penalty
from zoo.training.loop import Batch, autocast, descend
from zoo.training.paired_translation import GREY_LEVELS, parts, spread
from zoo.training.text_to_image import Captions, captions_of, graphic_distance

JUDGED = 400  # unseen captions


class MatchingObjective:
    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        assert checkpoint.recipe is not None
        recipe, config, spec = checkpoint.recipe, checkpoint.config, checkpoint.spec
        self.latent, self.device, self.options = config.latent, device, recipe.options
        self.captions = Captions(config, device)
        self.model: Any = channels_last(registry.family(spec.family).build(config), device)
        side, _, image_channels = spec.default_image_shape
        discriminator = Pyramid(
            CaptionDiscriminator(image_channels, config.discriminator[level:], side >> level, config.text_encoder())
            for level in range(config.levels)
        )
        self.levels = config.levels
        self.discriminator: Any = channels_last(discriminator, device)
        self.modules: dict[str, nn.Module] = {"model": self.model, "discriminator": self.discriminator}
        encoder: Any = self.model.text_encoder
        words = {id(each) for each in encoder.parameters()}
        learning = {
            "model": ([each for each in self.model.parameters() if id(each) not in words], recipe.learning_rate),
            "text": (encoder.parameters(), self.options["text_rate"]),
            "discriminator": (self.discriminator.parameters(), self.options["discriminator_rate"]),
        }
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            name: torch.optim.Adam(parameters, rate, betas=(0.0, 0.99)) for name, (parameters, rate) in learning.items()
        }

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        captions = captions_of(batch)
        right, other = self.captions.tokens(captions), self.captions.tokens(wrong(captions))
        sizes = halved(batch.images, self.levels + 1)
        with autocast(self.device):
            style, said = self.model.told(torch.randn(len(batch), self.latent, device=self.device), *right)
            made = self.model.scales(style, said)[: -self.levels - 1 : -1]  # the largest first
            seen = self.discriminator.features(batch.images)
            judged = matching_aware(
                self.discriminator.judged(seen, *right),
                self.discriminator.judged(seen, *other),
                self.discriminator([each.detach() for each in made], *right),
            )
        loss = with_penalty(judged, self.discriminator, self.options, batch.images, *right)
        descend(self.optimizers["discriminator"], loss)
        with frozen(self.discriminator), autocast(self.device):
            doubted = F.softplus(-self.discriminator(made, *right)).mean()
            pairs = list(zip(made, sizes[:-1], strict=True))
            if self.model.enlarger is not None:
                pairs.append((self.model.enlarger(sizes[1], style).float(), batch.images))
        distance = torch.stack([graphic_distance(*pair) for pair in pairs]).mean()
        self.optimizers["text"].zero_grad(set_to_none=True)
        descend(self.optimizers["model"], doubted + self.options["distance"] * distance)
        self.optimizers["text"].step()
        return {"distance": distance.detach(), "generator": doubted.detach(), "discriminator": judged.detach()}

    @torch.no_grad()
    def evaluate(self, model: Any, batch: Batch) -> dict[str, float]:
        """How far unseen combinations are from what is made of their captions and of others', in grey levels."""
        batch = spread(batch, JUDGED)
        torch.manual_seed(0)
        made = torch.cat([self._made(model, batch[part]) for part in parts(len(batch))])
        own, others = ((made - images).abs().mean() for images in (batch.images, batch.images.roll(1, 0)))
        return {
            "grey_levels_from_its_pair": float(GREY_LEVELS * own),
            "grey_levels_from_another": float(GREY_LEVELS * others),
        }

    def _made(self, model: Any, batch: Batch) -> Tensor:
        latents = torch.randn(len(batch), self.latent, device=self.device)
        found: Tensor = model.pixels(latents, *self.captions.tokens(captions_of(batch))).clamp(-1.0, 1.0)
        return found


def matching_aware(right: Tensor, wrong: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss, of logits (B,): a real picture with its caption, with a wrong one, and a made one."""
    return F.softplus(-right).mean() + 0.5 * (F.softplus(wrong).mean() + F.softplus(fake).mean())


def wrong(captions: Sequence[str]) -> list[str]:
    """For every other picture the caption of the one before, for the rest its own with one word changed."""
    draws = torch.randint(1 << 30, (len(captions), 2)).tolist()
    return [
        captions[place - 1] if place % 2 and captions[place - 1] != said else altered(said, *drawn)
        for place, (said, drawn) in enumerate(zip(captions, draws, strict=True))
    ]


def altered(caption: str, which: int, to: int) -> str:
    """The caption with another value of one of its attributes."""
    shown = read(caption)
    name, word = list(shown.words.items())[which % len(shown.words)]
    others = [each for each in shown.style.attribute(name).words if each != word]
    return shown.with_word(name, others[to % len(others)]).caption


def objective(checkpoint: Checkpoint, device: torch.device) -> MatchingObjective:
    return MatchingObjective(checkpoint, device)
