"""Adversarial training: two players under a loss, with or without what regularizes the discriminator.

Options, all of them off by default: `r1`, the weight of a penalty on the gradient at real images (Mescheder et al.
2018), taken every `r1_interval` steps on average; `spectral`, whether every matrix of the discriminator is divided by
its largest singular value (Miyato et al. 2018). `loss` is a word of LOSSES.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import inf
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.parametrizations import spectral_norm

from zoo import registry
from zoo.contract.conditions import class_id
from zoo.family import Checkpoint, Recipe
from zoo.networks.convolutional import channels_last
from zoo.networks.discriminator import ProjectionDiscriminator
from zoo.training.loop import Batch, autocast, descend

DiscriminatorLoss = Callable[[Tensor, Tensor], Tensor]  # logits of real and of generated images, (B,) each
GeneratorLoss = Callable[[Tensor], Tensor]  # logits of generated images


def discriminator_cross_entropy(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def discriminator_hinge(real: Tensor, fake: Tensor) -> Tensor:
    return F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean()


LOSSES: dict[str, tuple[DiscriminatorLoss, GeneratorLoss]] = {
    "minimax": (discriminator_cross_entropy, lambda fake: -F.softplus(fake).mean()),  # Goodfellow et al. 2014, eq. 1
    "non_saturating": (discriminator_cross_entropy, lambda fake: F.softplus(-fake).mean()),  # section 3, at its end
    "hinge": (discriminator_hinge, lambda fake: -fake.mean()),  # Lim & Ye 2017, arXiv:1705.02894
}


@contextmanager
def frozen(player: nn.Module) -> Iterator[None]:
    """What is computed inside has gradients, but none of the player's own parameters."""
    player.requires_grad_(False)
    try:
        yield
    finally:
        player.requires_grad_(True)


def gradient_penalty(discriminator: nn.Module, pixels: Tensor, *condition: Any) -> Tensor:
    """R1: the mean squared norm of the logits' gradient at real images, in float32."""
    pixels = pixels.detach().requires_grad_(True)
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels of attention have no second derivative
        logits = discriminator(pixels, *condition)
    (gradient,) = torch.autograd.grad(logits.sum(), pixels, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean()


def with_penalty(
    loss: Tensor, discriminator: nn.Module, options: Mapping[str, Any], pixels: Tensor, *condition: Any
) -> Tensor:
    """A discriminator's loss and, now and then, R1 for all steps since (Karras et al. 2020, section 3.1)."""
    r1, interval = float(options.get("r1", 0.0)), int(options.get("r1_interval", 16))
    if r1 and torch.randint(interval, ()) == 0:  # drawn, so that a resumed run needs no counter
        return loss + 0.5 * r1 * interval * gradient_penalty(discriminator, pixels, *condition)
    return loss


def update_discriminator(
    discriminator: nn.Module,
    optimizer: torch.optim.Optimizer,
    options: Mapping[str, Any],
    real: tuple[Any, ...],
    fake: tuple[Any, ...],
    *,
    loss: DiscriminatorLoss = discriminator_cross_entropy,
    clip: float = inf,
) -> Tensor:
    """One step, from the arguments that show it a real and a generated batch; its loss without the penalty."""
    with autocast(real[0].device):
        found = loss(discriminator(*real), discriminator(*fake))
    descend(optimizer, with_penalty(found, discriminator, options, *real), clip)
    return found.detach()


def doubt(discriminator: nn.Module, *fake: Any, loss: GeneratorLoss = LOSSES["non_saturating"][1]) -> Tensor:
    """The loss of who generated what the discriminator is shown; it leaves the discriminator as it is."""
    with frozen(discriminator), autocast(fake[0].device):
        return loss(discriminator(*fake))


def normalize_spectrally(discriminator: nn.Module) -> None:
    """Parametrize every convolution and linear layer by one step of the power method a call, in place."""
    for module in list(discriminator.modules()):
        if isinstance(module, nn.Conv2d | nn.Linear):
            if not module.weight.any():  # zero has no direction that could be kept
                module.reset_parameters()
            spectral_norm(module)


class Players:
    """A generator with `pixels(latents, *condition)` against a `discriminator(pixels, *condition)` of (B,) logits."""

    def __init__(self, generator: Any, discriminator: nn.Module, recipe: Recipe, latent: int, device: torch.device):
        self.generator, self.discriminator = generator, discriminator
        self.latent, self.device, self.options = latent, device, recipe.options
        self.losses = LOSSES[self.options.get("loss", "non_saturating")]
        if self.options.get("spectral"):
            normalize_spectrally(discriminator)
        players: dict[str, nn.Module] = {"generator": generator, "discriminator": discriminator}
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            name: torch.optim.Adam(channels_last(player, device).parameters(), recipe.learning_rate, betas=(0.0, 0.99))
            for name, player in players.items()
        }

    def step(self, pixels: Tensor, *condition: Any) -> dict[str, Tensor]:
        """One update of the discriminator, then one of the generator against it; their losses."""
        with autocast(self.device):
            fakes = self.generator.pixels(torch.randn(len(pixels), self.latent, device=self.device), *condition)
        of_discriminator, of_generator = self.losses
        discriminator_loss = update_discriminator(
            self.discriminator,
            self.optimizers["discriminator"],
            self.options,
            (pixels, *condition),
            (fakes.detach(), *condition),
            loss=of_discriminator,
        )
        loss = doubt(self.discriminator, fakes, *condition, loss=of_generator)
        descend(self.optimizers["generator"], loss)
        return {"generator": loss.detach(), "discriminator": discriminator_loss}


class AdversarialObjective:
    """The discriminator, trained from scratch beside the generator, sees the class too where there is one."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        recipe, spec, config = checkpoint.recipe, checkpoint.spec, checkpoint.config
        assert recipe is not None
        self.model = registry.family(spec.family).build(config)
        discriminator = ProjectionDiscriminator(
            config.image_channels, config.discriminator, spec.default_image_shape[0], class_id.count(spec.conditions)
        )
        self.conditional = bool(class_id.count(spec.conditions))
        self.players = Players(self.model, discriminator, recipe, spec.latent_shape[0], device)
        self.modules: dict[str, nn.Module] = {"model": self.model, "discriminator": discriminator}
        self.optimizers = self.players.optimizers

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        return self.players.step(batch.images, *((batch.class_ids,) if self.conditional else ()))


def objective(checkpoint: Checkpoint, device: torch.device) -> AdversarialObjective:
    return AdversarialObjective(checkpoint, device)
