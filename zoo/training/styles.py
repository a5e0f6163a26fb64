"""StyleGAN's training: two players, and pictures of two styles that are crossed at any layer.

Karras et al. 2019, section 3.1 (mixing). The loss is a hinge under spectral norms (Miyato et al. 2018) in place of
theirs with R1, under which a run this short collapsed.

Options: `discriminator_rate`; `mixed`, the share of pictures with two styles.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from zoo import registry
from zoo.family import Checkpoint
from zoo.networks.convolutional import channels_last
from zoo.networks.discriminator import ProjectionDiscriminator
from zoo.training.adversarial import LOSSES, doubt, normalize_spectrally, update_discriminator
from zoo.training.loop import Batch, autocast, chunks, descend

STYLES = 10_000  # of which the centre is the mean


class StyleObjective:
    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        assert checkpoint.recipe is not None
        recipe, config, spec = checkpoint.recipe, checkpoint.config, checkpoint.spec
        self.latent, self.device, self.options = config.latent, device, recipe.options
        self.grains = [shape for noise in spec.noise[1:] for shape in [noise.shape[1:]] * int(noise.shape[0])]
        self.model: Any = channels_last(registry.family(spec.family).build(config), device)
        side, _, image_channels = spec.default_image_shape
        discriminator = ProjectionDiscriminator(image_channels, config.discriminator, side, 0)
        normalize_spectrally(discriminator)
        self.discriminator = channels_last(discriminator, device)
        self.of_discriminator, self.of_generator = LOSSES["hinge"]
        self.modules: dict[str, nn.Module] = {"model": self.model, "discriminator": self.discriminator}
        rates = {"model": recipe.learning_rate, "discriminator": self.options["discriminator_rate"]}
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            name: torch.optim.Adam(module.parameters(), rates[name], betas=(0.0, 0.99))
            for name, module in self.modules.items()
        }

    def styles(self, count: int) -> Tensor:
        """(count, layers, S), some of which change to another style at one of their layers."""
        layers, ones = len(self.model.synthesis.layers), torch.ones(count, 1, device=self.device)
        first, second = (self.model.styles(self.noise(count, self.latent), ones) for _ in range(2))
        crossing = torch.randint(1, layers, (count, 1), device=self.device)
        crossing[torch.rand(count, 1, device=self.device) >= self.options["mixed"]] = layers
        late = torch.arange(layers, device=self.device) >= crossing
        return torch.where(late[:, :, None], second, first)

    def noise(self, *shape: int) -> Tensor:
        return torch.randn(*shape, device=self.device)

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        count = len(batch)
        planes = [self.noise(count, 1, *shape) for shape in self.grains]
        with autocast(self.device):
            made = self.model.synthesis(self.styles(count), planes)
        judged = update_discriminator(
            self.discriminator,
            self.optimizers["discriminator"],
            self.options,
            (batch.images,),
            (made.detach(),),
            loss=self.of_discriminator,
        )
        doubted = doubt(self.discriminator, made, loss=self.of_generator)
        descend(self.optimizers["model"], doubted)
        return {"generator": doubted.detach(), "discriminator": judged}

    @torch.no_grad()
    def conclude(self, model: Any, batch: Batch) -> None:
        """The centre of truncation is the mean style of the average's own mapping."""
        torch.manual_seed(0)
        latents = self.noise(STYLES, self.latent)
        model.centre.copy_(torch.cat([model.mapping(part) for part in chunks(latents)]).mean(0))


def objective(checkpoint: Checkpoint, device: torch.device) -> StyleObjective:
    return StyleObjective(checkpoint, device)
