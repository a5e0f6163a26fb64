"""Maximum likelihood of a flow on the latents of a first stage, and a decoder that takes the latents' noise away.

Gu et al. 2025, sections 3.2 and 3.3 (arXiv:2506.06276). Latents get Gaussian noise, without which a flow spends itself
on their finest digits; the decoder, which never met such noise, is tuned on the same latents, beside the flow.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo import registry
from zoo.families.latent_flow import LatentFlow
from zoo.family import Checkpoint
from zoo.images import GREY_LEVELS
from zoo.networks.convolutional import channels_last
from zoo.networks.discriminator import PatchDiscriminator
from zoo.training.likelihood import standard_normal
from zoo.training.loop import Batch, autocast, descend
from zoo.training.optimizers import adam

ADVERSARIAL_FROM = 0.3  # of the run: before it the decoder only removes noise
JUDGED = 2000  # unseen pictures by which the average is judged


class LatentLikelihood:
    """Options: `noise`, its standard deviation in latents of variance one; `adversarial`, the weight of a hinge loss on
    patches; `decoded`, the share of a batch on which the decoder is tuned; `bfloat16`, whether the flow is autocast.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        assert checkpoint.recipe is not None
        assert checkpoint.teacher is not None
        self.device, self.options = device, checkpoint.recipe.options
        self.noise = float(self.options["noise"])
        model = channels_last(LatentFlow(checkpoint.config), device)
        assert isinstance(model, LatentFlow)
        self.model = model
        teacher = registry.load_module(registry.checkpoint(checkpoint.teacher))
        self.model.first_stage.load_state_dict(teacher.first_stage.state_dict())
        self.model.first_stage.encoder.requires_grad_(False)
        self.critic = PatchDiscriminator(checkpoint.spec.default_image_shape[2], (32, 64)).to(device).train()
        self.modules = {"model": self.model, "critic": self.critic}
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "flow": adam(checkpoint.recipe, self.model.flow),
            "decoder": torch.optim.Adam(self.model.first_stage.decoder.parameters(), lr=3e-4, betas=(0.9, 0.99)),
            "critic": torch.optim.Adam(self.critic.parameters(), lr=5e-4, betas=(0.0, 0.99)),
        }

    def noised(self, pixels: Tensor) -> Tensor:
        latents = self.model.encode(pixels)
        return latents + self.noise * torch.randn_like(latents)

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        latents = self.noised(batch.images)
        with autocast(self.device, bool(self.options["bfloat16"])):
            loss = nats_per_dim(self.model, latents, batch.class_ids).mean()
        descend(self.optimizers["flow"], loss, clip=1.0)
        count = max(1, round(self.options["decoded"] * len(batch)))
        error = self.decode(batch.images[:count], latents[:count], progress > ADVERSARIAL_FROM)
        return {"nats_per_dim": loss.detach(), "reconstruction": error}

    def decode(self, pixels: Tensor, latents: Tensor, adversarial: bool) -> Tensor:
        """Tune the decoder, and the critic where it has one, on noised latents; the absolute error."""
        with autocast(self.device):
            decoded = self.model.first_stage(latents)
            error = (decoded - pixels).abs().mean()
            loss = error - self.options["adversarial"] * self.critic(decoded).mean() if adversarial else error
        descend(self.optimizers["decoder"], loss)  # it reaches the critic too, which forgets it
        if adversarial:
            with autocast(self.device):
                real, made = self.critic(pixels), self.critic(decoded.detach())
                hinge = F.relu(1.0 - real).mean() + F.relu(1.0 + made).mean()
            descend(self.optimizers["critic"], hinge)
        found: Tensor = error.detach()
        return found

    @torch.no_grad()
    def evaluate(self, model: LatentFlow, batch: Batch) -> dict[str, float]:
        """Of unseen pictures: nats a latent, noise included, and grey levels between them and their decoded latents."""
        torch.manual_seed(0)
        parts = [batch[start : start + 250] for start in range(0, min(len(batch), JUDGED), 250)]
        nats, errors = [], []
        for part in parts:
            latents = model.encode(part.images)
            latents = latents + self.noise * torch.randn_like(latents)
            nats.append(nats_per_dim(model, latents, part.class_ids))
            errors.append((model.first_stage(latents).clamp(-1.0, 1.0) - part.images).abs().mean() * GREY_LEVELS / 2)
        return {"nats_per_latent": float(torch.cat(nats).mean()), "grey_levels": float(torch.stack(errors).mean())}


def nats_per_dim(model: LatentFlow, latents: Tensor, class_ids: Tensor) -> Tensor:
    """-log density by the dimension, (B, L, H / 4, W / 4), (B,) -> (B,): 1.42 for latents that are standard normal."""
    found, log_det = model.flow(latents, class_ids)
    nats: Tensor = -(standard_normal(found) + log_det) / math.prod(latents.shape[1:])
    return nats


def objective(checkpoint: Checkpoint, device: torch.device) -> LatentLikelihood:
    return LatentLikelihood(checkpoint, device)
