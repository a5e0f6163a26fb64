"""StyleGAN's training, with an encoder beside it: pictures of two styles crossed at any layer, and pictures come back.

Karras et al. 2019, section 3.1 (mixing); a non-saturating loss with R1 (Mescheder et al. 2018). A run as short as those
here collapsed to one picture by these alone. So an encoder gives latents of real pictures, near normal numbers, of
which the generator has to make them again (Larsen et al. 2016, arXiv:1512.09300); it is no part of a checkpoint.

Options: `discriminator_rate`; `encoder_rate`; `r1` and `r1_interval` as of `adversarial`; `mixed`, the share of
pictures with two styles; `distance` and `divergence`, the weights of how far a picture comes back from itself, and its
latents are from normal numbers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from zoo import registry
from zoo.family import Checkpoint
from zoo.networks.convolutional import channels_last
from zoo.networks.discriminator import ProjectionDiscriminator
from zoo.networks.translators import LatentEncoder
from zoo.training.adversarial import doubt, update_discriminator
from zoo.training.loop import Batch, autocast, chunks, descend
from zoo.training.paired_translation import GREY_LEVELS
from zoo.training.text_to_image import graphic_distance

ENCODER = (24, 48, 96, 128)
STYLES = 10_000  # of which the centre is the mean
JUDGED = 400  # unseen pictures


class StyleObjective:
    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        assert checkpoint.recipe is not None
        recipe, config, spec = checkpoint.recipe, checkpoint.config, checkpoint.spec
        self.latent, self.device, self.options = config.latent, device, recipe.options
        grains = [shape for noise in spec.noise[1:] for shape in [noise.shape[1:]] * int(noise.shape[0])]
        self.grains = [tuple(map(int, shape)) for shape in grains]  # (H, W) of each plane
        self.model: Any = channels_last(registry.family(spec.family).build(config), device)
        side, _, image_channels = spec.default_image_shape
        discriminator = ProjectionDiscriminator(image_channels, config.discriminator, side, 0)
        self.discriminator = channels_last(discriminator, device)
        self.encoder = channels_last(LatentEncoder(image_channels, ENCODER, side, config.latent), device)
        self.modules: dict[str, nn.Module] = {
            "model": self.model,
            "discriminator": self.discriminator,
            "encoder": self.encoder,
        }
        rates = {
            "model": recipe.learning_rate,
            **{name: self.options[f"{name}_rate"] for name in ("discriminator", "encoder")},
        }
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            name: torch.optim.Adam(module.parameters(), rates[name], betas=(0.0, 0.99))
            for name, module in self.modules.items()
        }

    def styles(self, count: int) -> Tensor:
        """(count, layers, S), some of which change to another style at one of their layers."""
        first, second = (self.plain(self.noise(count, self.latent)) for _ in range(2))
        layers = first.shape[1]
        crossing = torch.randint(1, layers, (count, 1), device=self.device)
        crossing[torch.rand(count, 1, device=self.device) >= self.options["mixed"]] = layers
        late = torch.arange(layers, device=self.device) >= crossing
        return torch.where(late[:, :, None], second, first)

    def plain(self, latents: Tensor) -> Tensor:
        """One style for all layers, without truncation."""
        found: Tensor = self.model.styles(latents, torch.ones(len(latents), 1, device=self.device))
        return found

    def noise(self, *shape: int) -> Tensor:
        return torch.randn(*shape, device=self.device)

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        real, count = batch.images, len(batch)
        planes = [self.noise(2 * count, 1, *shape) for shape in self.grains]
        with autocast(self.device):
            mean, log_variance = self.encoder(real)
            latents = mean + (0.5 * log_variance).exp() * self.noise(count, self.latent)
            made = self.model.synthesis(torch.cat([self.styles(count), self.plain(latents)]), planes)
        fakes, back = made.float().chunk(2)
        judged = update_discriminator(
            self.discriminator, self.optimizers["discriminator"], self.options, (real,), (fakes.detach(),)
        )
        doubted, distance = doubt(self.discriminator, fakes), graphic_distance(back, real)
        divergence = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1.0).sum(1).mean()
        self.optimizers["encoder"].zero_grad(set_to_none=True)
        kept = self.options["distance"] * distance + self.options["divergence"] * divergence
        descend(self.optimizers["model"], doubted + kept)
        self.optimizers["encoder"].step()
        losses = {"generator": doubted, "discriminator": judged, "distance": distance, "divergence": divergence}
        return {name: loss.detach() for name, loss in losses.items()}

    @torch.no_grad()
    def conclude(self, model: Any, batch: Batch) -> None:
        """The centre of truncation is the mean style of the average's own mapping."""
        torch.manual_seed(0)
        latents = self.noise(STYLES, self.latent)
        model.centre.copy_(torch.cat([model.mapping(part) for part in chunks(latents)]).mean(0))

    @torch.no_grad()
    def evaluate(self, model: Any, batch: Batch) -> dict[str, float]:
        """How far unseen pictures come back from themselves and from others, in grey levels."""
        real, none = batch.images[:JUDGED], [None] * len(self.grains)
        self.encoder.eval()
        latents = torch.cat([self.encoder(part)[0] for part in chunks(real, 100)])
        layers = len(model.synthesis.layers)
        styles = model.mapping(latents)[:, None].expand(-1, layers, -1)
        back = torch.cat([model.synthesis(part, none) for part in chunks(styles, 100)]).clamp(-1.0, 1.0)
        return {
            "grey_levels_from_itself": float(GREY_LEVELS * (back - real).abs().mean()),
            "grey_levels_from_another": float(GREY_LEVELS * (back - real.roll(1, 0)).abs().mean()),
        }


def objective(checkpoint: Checkpoint, device: torch.device) -> StyleObjective:
    return StyleObjective(checkpoint, device)
