"""Bicycle translation: one drawing has many colourings, and each is found from its latents and tells them back.

Zhu et al. 2017, equations 1 to 8, on halves of a batch as in section 4: of one half the latents are an encoder's, which
saw the picture, so the picture must come back, and the latents are kept near N(0, 1) (cVAE-GAN); of the other they are
drawn, and the encoder must find them in what was made (cLR-GAN). One critic with a hinge sees both halves.

Options: `distance`, `divergence` and `latent`, the weights of the distance to the picture, of the divergence from
N(0, 1) in nats, and of the distance of the latents that are found again, beside the critic's.
"""

from __future__ import annotations

import itertools
from typing import Any, cast

import torch
from torch import Tensor, nn

from zoo import registry
from zoo.datasets.drawings import IMAGE
from zoo.family import Checkpoint
from zoo.images import from_images
from zoo.networks.convolutional import channels_last
from zoo.networks.discriminator import PatchDiscriminator
from zoo.networks.translators import LatentEncoder
from zoo.training.adversarial import LOSSES, doubt, frozen, update_discriminator
from zoo.training.loop import Batch, autocast, descend
from zoo.training.paired_translation import CRITIC, GREY_LEVELS, apart, inked, spread
from zoo.training.text_to_image import graphic_distance
from zoo.training.variational import kl_to_prior

ENCODER = (24, 48, 96, 128)
JUDGED, COLOURINGS = 100, 16  # unseen pictures, and how many colourings of the drawing of each


class BicycleTranslation:
    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        assert checkpoint.recipe is not None
        recipe, spec = checkpoint.recipe, checkpoint.spec
        self.device, self.options, (self.latent,) = device, recipe.options, spec.latent_shape
        size, _, image_channels = spec.default_image_shape
        self.model: Any = channels_last(registry.family(spec.family).build(checkpoint.config), device)
        self.encoder = channels_last(LatentEncoder(image_channels, ENCODER, size, self.latent), device)
        self.critic = channels_last(PatchDiscriminator(2 * image_channels, CRITIC), device)
        self.of_critic, self.of_painter = LOSSES["hinge"]
        self.modules: dict[str, nn.Module] = {"model": self.model, "encoder": self.encoder, "critic": self.critic}
        both = itertools.chain(self.model.parameters(), self.encoder.parameters())
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "model": torch.optim.Adam(both, recipe.learning_rate, betas=(0.5, 0.99)),
            "critic": torch.optim.Adam(self.critic.parameters(), 0.5 * recipe.learning_rate, betas=(0.5, 0.99)),
        }

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        half = len(batch) // 2
        images, lines = batch.images, self.lines(batch)
        drawn = torch.randn(len(batch) - half, self.latent, device=self.device)
        with autocast(self.device):
            mean, log_variance = self.encoder(images[:half])
            found = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
            made = self.model.pixels(torch.cat([found, drawn])[:, None], lines)
        real, fake = (torch.cat([pixels, lines], dim=1) for pixels in (images, made))
        judged = update_discriminator(
            self.critic, self.optimizers["critic"], self.options, (real,), (fake.detach(),), loss=self.of_critic
        )
        doubted = doubt(self.critic, fake, loss=self.of_painter)
        with frozen(self.encoder), autocast(self.device):
            again, _ = self.encoder(made[half:])
        losses = {
            "distance": graphic_distance(made[:half], images[:half]),
            "divergence": kl_to_prior(mean, log_variance).mean(),
            "latent": (again - drawn).abs().mean(),
        }
        descend(self.optimizers["model"], doubted + sum(self.options[name] * loss for name, loss in losses.items()))
        return {name: loss.detach() for name, loss in {**losses, "painter": doubted, "critic": judged}.items()}

    def lines(self, batch: Batch) -> Tensor:
        """The drawing of each picture in black, (B, C, H, W) in [-1, 1]."""
        drawings = batch.tensor(IMAGE)
        black = inked(drawings, torch.ones(len(drawings), dtype=torch.bool, device=drawings.device))
        return cast(Tensor, from_images(black))

    @torch.no_grad()
    def evaluate(self, model: Any, batch: Batch) -> dict[str, float]:
        """In grey levels, how far unseen pictures are from the nearest of some colourings of their drawing.

        Beside it how far colourings are from each other, and other pictures of the design.
        """
        batch = spread(batch, JUDGED)
        torch.manual_seed(0)
        lines = self.lines(batch)
        made = torch.stack([model.pixels(torch.randn(len(batch), 1, self.latent), lines) for _ in range(COLOURINGS)])
        away = (made - batch.images).abs().mean((2, 3, 4))  # (colourings, B)
        return {
            "grey_levels_from_the_nearest": float(GREY_LEVELS * away.amin(dim=0).mean()),
            "grey_levels_from_its_pair": float(GREY_LEVELS * away.mean()),
            "grey_levels_between_colourings": float(GREY_LEVELS * (made[1:] - made[:-1]).abs().mean()),
            "grey_levels_from_another": apart(batch),
        }


def objective(checkpoint: Checkpoint, device: torch.device) -> BicycleTranslation:
    return BicycleTranslation(checkpoint, device)
